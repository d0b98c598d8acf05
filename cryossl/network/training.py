"""fit(network, batches): the only optimiser loop of the project."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from cryossl.config import TrainingSettings
from cryossl.errors import NumericError, StorageError
from cryossl.network.batches import Batch, Batches
from cryossl.network.checkpoints import Checkpoint, StateDict
from cryossl.network.device import Precision
from cryossl.network.objectives import Objective, Supervised
from cryossl.progress.events import OnProgress, Progress
from cryossl.randomness import seed_of

WARM_UP_FRACTION = 0.05  # of all steps
LARGEST_GRADIENT_NORM = 5.0
ALARMS_TO_STOP = 2

Validate = Callable[[nn.Module], float | None]
Watch = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the tiles (the last may be cut short).

    `epoch` counts from 1, `step` is the number of updates so far, `loss` the mean over the epoch's
    steps, `learning_rate` that of the last step, `validation_f1` the latest score within the epoch
    or None, `seconds` the wall time of training and validation, which is not part of equality.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    validation_f1: float | None
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class Fitted:
    """StateDict on the CPU: after the last step, and at that of the best validation score (the earliest of equals).

    `snapshots`: after one and two thirds of the steps. `collapsed`: the training was ended by its
    watch.
    """

    last: StateDict
    best: StateDict
    best_step: int
    best_f1: float | None
    history: tuple[EpochRecord, ...]
    snapshots: tuple[StateDict, ...]
    collapsed: bool


@dataclass(frozen=True)
class Course:
    """All that decides a training besides its network and its tiles."""

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int
    iteration: int
    precision: Precision
    validations: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: linear warm-up, then half a cosine down towards 0."""
        warm_up = max(1, round(WARM_UP_FRACTION * self.steps))
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        return (
            self.learning_rate
            * 0.5
            * (1 + math.cos(math.pi * (step - warm_up) / (self.steps - warm_up)))
        )

    def thirds(self) -> tuple[int, int]:
        """The steps, counted from 1, after which a third and two thirds are done, rounded up."""
        return -(-self.steps // 3), -(-2 * self.steps // 3)

    def validates_after(self, done: int) -> bool:
        """Whether validation follows when `done` steps are done:

        `validations` times, evenly, the last time at the end.

        With fewer steps than validations it follows each step.
        """
        return done * self.validations // self.steps > (done - 1) * self.validations // self.steps


@dataclass
class _State:
    """What changes from step to step besides network and optimiser; all of it is in a checkpoint."""

    step: int = 0
    loss_sum: float = 0.0
    epoch_first_step: int = 0
    epoch_seconds: float = 0.0
    validation_f1: float | None = None
    best: StateDict | None = None
    best_step: int = 0
    best_f1: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[StateDict] = field(default_factory=list)
    alarms: int = 0
    collapsed: bool = False


def steps_for(settings: TrainingSettings, *, tiles: int, student: bool) -> int:
    """Optimiser steps of a training on so many tiles: the epochs of a student or of the baseline, `least_steps` at least."""
    epochs = settings.student_epochs if student else settings.baseline_epochs
    return max(epochs * -(-tiles // settings.batch_size), settings.least_steps)


def fit(  # noqa: PLR0913
    network: nn.Module,
    batches: Batches,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    iteration: int,
    device: torch.device,
    precision: Precision,
    checkpoint: Checkpoint,
    validate: Validate,
    validations: int,
    report: OnProgress,
    on_epoch: Callable[[EpochRecord], None],
    objective: Objective | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train the network in place: AdamW, warm-up and cosine, clipped gradients.

    Interrupted at any moment and called again with the same arguments it goes on from the
    checkpoint; on a CPU the result is the undisturbed one, bit for bit. The last steps before an
    interruption are done again, and their epochs are told again to `on_epoch`, with the same
    numbers. `report` is called between two steps: if it raises KeyboardInterrupt, the state is
    saved first, and no step is lost.

    Args:
        network: freshly built; its weights are replaced by the checkpoint's if there is one.
        batches: step -> tiles.
        steps: optimiser updates in all, at least 1.
        learning_rate: its peak.
        weight_decay: of AdamW; on weights with more than one axis, not on biases and normalisation.
        seed: of the run.
        iteration: of self-training; with the seed and the step it decides augmentation and dropout.
        device: where the network runs.
        precision: of the forward pass; weights and loss are fp32.
        checkpoint: where the state is kept.
        validate: network in evaluation mode -> validation F1; None or NaN if undefined, which is
            never the best.
        validations: how often, evenly spaced, the last time after the last step.
        report: hears ("train", step, steps, "step"), first of all the step that an earlier start
            came to.
        on_epoch: hears each epoch as it ends.
        objective: what a step minimises; cross-entropy and Dice on weak views unless given.
        watch: network in evaluation mode -> whether it seems to have collapsed; asked with each
            validation in the second half. Said twice in a row, it ends the training.

    Raises:
        NumericError: loss or gradient is not finite; the update was not made, the last checkpoint
            stands.
        StorageError: the checkpoint cannot be written, or belongs to another training.
    """
    course = Course(steps, learning_rate, weight_decay, seed, iteration, precision, validations)
    objective = objective or Supervised(seed=seed, iteration=iteration)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.begin(network)
    optimiser = torch.optim.AdamW(_groups(network, weight_decay), lr=learning_rate, fused=True)
    identity = {
        "course": asdict(course),
        "batches": batches.digest(),
        "objective": objective.identity(),
    }
    state = _resume(checkpoint, network, optimiser, objective, identity)
    if 0 < state.step < steps:
        report(Progress("train", state.step, steps, "step", resumed=True))

    def save() -> None:
        checkpoint.save(
            {
                "identity": identity,
                "network": _snapshot(network),
                "optimiser": optimiser.state_dict(),
                "objective": objective.state_dict(),
                "state": vars(state),
            }
        )

    # Dropout layers draw from torch's own generator: it is seeded per step, and given back as it
    # was.
    with torch.random.fork_rng(
        devices=[torch.cuda.current_device()] if device.type == "cuda" else []
    ):
        while state.step < steps and not state.collapsed:
            began = time.perf_counter()
            state.loss_sum += _update(
                network, batches.batch(state.step), optimiser, objective, course, state.step, device
            )
            state.step += 1
            if course.validates_after(state.step):
                _validate(objective.model(network), validate, watch, state, steps=steps)
            if times := course.thirds().count(state.step):
                state.snapshots += [_snapshot(objective.model(network))] * times
            state.epoch_seconds += time.perf_counter() - began
            if state.step % batches.steps_per_epoch == 0 or state.step == steps or state.collapsed:
                on_epoch(_close_epoch(state, course))
            if checkpoint.due():
                save()
            _tell(report, Progress("train", state.step, steps, "step"), before_leaving=save)
    last = _snapshot(objective.model(network))
    return Fitted(
        last,
        state.best or last,
        state.best_step or state.step,
        state.best_f1,
        tuple(EpochRecord(**record) for record in state.history),
        tuple(state.snapshots),
        state.collapsed,
    )


def _tell(report: OnProgress, event: Progress, *, before_leaving: Callable[[], None]) -> None:
    try:
        report(event)
    except KeyboardInterrupt:
        before_leaving()
        raise


def _update(
    network: nn.Module,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    course: Course,
    step: int,
    device: torch.device,
) -> float:
    """One optimiser step. Returns its loss."""
    rate = course.rate(step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    torch.manual_seed(seed_of(course.seed, "dropout", course.iteration, step))
    if (
        not network.training
    ):  # else the flag of each layer is set anew at every step, half a millisecond
        network.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=course.precision == "bf16"):
        loss = objective.loss(network, batch, step=step, device=device)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT_NORM)
    # One wait for the device, before the update: a network with a NaN in it is never saved or
    # called best.
    loss_value, norm_value = torch.stack((loss.detach(), norm)).tolist()
    if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
        named = ", ".join(dict.fromkeys(batch.items))
        raise NumericError(
            f"loss {loss_value:g}, gradient norm {norm_value:g} at step {step + 1}, "
            f"learning rate {rate:.3g}, tiles {named}",
            cure="lower --learning-rate",
        )
    optimiser.step()
    objective.stepped(network, step)
    return float(loss_value)


def _validate(
    network: nn.Module, validate: Validate, watch: Watch | None, state: _State, *, steps: int
) -> None:
    network.eval()
    score = validate(network)
    if (
        watch is not None and 2 * state.step >= steps
    ):  # a network from fresh weights finds nothing at first
        state.alarms = state.alarms + 1 if watch(network) else 0
        state.collapsed = state.alarms >= ALARMS_TO_STOP
    state.validation_f1 = None if score is None or math.isnan(score) else float(score)
    if state.validation_f1 is not None and (
        state.best_f1 is None or state.validation_f1 > state.best_f1
    ):
        state.best, state.best_step, state.best_f1 = (
            _snapshot(network),
            state.step,
            state.validation_f1,
        )


def _close_epoch(state: _State, course: Course) -> EpochRecord:
    record = EpochRecord(
        epoch=len(state.history) + 1,
        step=state.step,
        loss=state.loss_sum / (state.step - state.epoch_first_step),
        learning_rate=course.rate(state.step - 1),
        validation_f1=state.validation_f1,
        seconds=state.epoch_seconds,
    )
    state.history.append(asdict(record))
    state.epoch_first_step, state.loss_sum, state.epoch_seconds, state.validation_f1 = (
        state.step,
        0.0,
        0.0,
        None,
    )
    return record


def _resume(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    identity: dict[str, Any],
) -> _State:
    """The state of the checkpoint, with network and optimiser set to it; the initial state without one."""
    saved = checkpoint.load()
    if saved is None:
        return _State()
    foreign = StorageError("the checkpoint belongs to another training", cure="remove its folder")
    if saved.get("identity") != identity:
        raise foreign
    try:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        objective.load_state_dict(saved["objective"])
        return _State(**saved["state"])
    except (RuntimeError, KeyError, ValueError, TypeError):
        raise foreign from None


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without decay: shrinking a bias or a normalisation's scale regularises nothing."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]


def _snapshot(network: nn.Module) -> StateDict:
    """A copy of the weights on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
