"""Train a network: `fit` is the only optimiser loop of the project."""

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
    """One pass over the tiles; the last one may be cut short.

    Attributes:
        epoch: counted from 1.
        step: number of updates so far.
        loss: mean over the epoch's steps.
        learning_rate: that of the epoch's last step.
        validation_f1: the latest score within the epoch, in [0, 1]; None without one.
        seconds: wall time of training and validation; not compared by ==.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    validation_f1: float | None
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class Fitted:
    """What a training leaves. All weights are on the CPU.

    Attributes:
        last: weights after the last step.
        best: weights at the step of the best validation score; of equal scores the earliest.
        best_step: that step, counted from 1.
        best_f1: that score; None if no score was defined, and then `best` is `last`.
        history: one record per epoch.
        snapshots: weights after one and two thirds of the steps; the last weights stand for a third
            that a training did not come to.
        collapsed: whether `watch` ended the training.
    """

    last: StateDict
    best: StateDict
    best_step: int
    best_f1: float | None
    history: tuple[EpochRecord, ...]
    snapshots: tuple[StateDict, ...]
    collapsed: bool


@dataclass(frozen=True)
class Hyperparameters:
    """All that decides a training besides its network, its tiles and its objective.

    The fields are part of each checkpoint: one of other hyperparameters is refused.

    Attributes:
        steps: optimiser updates in all, at least 1.
        learning_rate: its peak.
        weight_decay: of AdamW, on weights with more than one axis; biases and normalisation have
            none.
        seed: of the run.
        iteration: of self-training. Seed, iteration and step decide augmentation and dropout.
        precision: of the forward pass; weights and loss are fp32.
        validations: how many, evenly spaced, the last one after the last step.
        patience: so many validations in a row without a higher score end the training; 0: none do.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int
    iteration: int
    precision: Precision
    validations: int
    patience: int = 0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: linear warm-up, then half a cosine to 0."""
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
        """Whether validation follows when `done` steps are done.

        With fewer steps than validations it follows each step.
        """
        return done * self.validations // self.steps > (done - 1) * self.validations // self.steps

    def gives_up_after(self, waited: int) -> bool:
        """Whether so many validations in a row without a higher score end the training."""
        return 0 < self.patience <= waited


@dataclass
class _State:
    """What changes from step to step besides network, optimiser and objective."""

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
    waited: int = 0  # validations in a row without a higher score
    gave_up: bool = False

    def ends(self, steps: int) -> bool:
        """Whether the training has ended, of so many steps at most."""
        return self.step >= steps or self.collapsed or self.gave_up


def steps_for(settings: TrainingSettings, *, tiles: int, student: bool) -> int:
    """Optimiser steps of a training on so many tiles.

    They are the epochs of a student or of the baseline, but at least `least_steps`.
    """
    epochs = settings.student_epochs if student else settings.baseline_epochs
    return max(epochs * -(-tiles // settings.batch_size), settings.least_steps)


def fit(  # noqa: PLR0913
    network: nn.Module,
    batches: Batches,
    hyperparameters: Hyperparameters,
    *,
    device: torch.device,
    checkpoint: Checkpoint,
    validate: Validate,
    report: OnProgress,
    on_epoch: Callable[[EpochRecord], None],
    objective: Objective | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train the network in place: AdamW, warm-up and cosine, clipped gradients.

    An interrupted training that is called again with the same arguments goes on from its
    checkpoint. On a CPU its result is that of an uninterrupted training, bit for bit. The steps
    since the last checkpoint are done again, and `on_epoch` is called again with the same numbers.

    Args:
        network: freshly built; its weights are replaced by the checkpoint's if there is one.
        batches: step -> tiles.
        hyperparameters: steps, optimiser, randomness and validations.
        device: where the network runs.
        checkpoint: where the state is kept.
        validate: network in evaluation mode -> validation F1; None or NaN if undefined, which is
            never the best.
        report: called with ("train", step, steps, "step") after each step, and first with the step
            of the checkpoint. If it raises KeyboardInterrupt, the state is saved first.
        on_epoch: called with the record of each epoch when the epoch ends.
        objective: what a step minimises; without one, cross-entropy and Dice on weak views.
        watch: network in evaluation mode -> whether it seems to have collapsed. It is called with
            each validation in the second half; two alarms in a row end the training.

    Raises:
        NumericError: loss or gradient is not finite; the update was not made, and the last
            checkpoint is kept.
        StorageError: the checkpoint cannot be written, or belongs to another training.
    """
    steps = hyperparameters.steps
    objective = objective or Supervised(
        seed=hyperparameters.seed, iteration=hyperparameters.iteration
    )
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.begin(network)
    optimiser = _optimiser(network, hyperparameters)
    identity = {
        "course": asdict(hyperparameters),
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

    # Dropout draws from torch's global generator, which is seeded for each step and restored after.
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        while not state.ends(steps):
            began = time.perf_counter()
            batch = batches.batch(state.step)
            state.loss_sum += _update(
                network, batch, optimiser, objective, hyperparameters, state.step, device
            )
            state.step += 1
            if hyperparameters.validates_after(state.step):
                _validate(objective.model(network), validate, watch, state, hyperparameters)
            if times := hyperparameters.thirds().count(state.step):
                state.snapshots += [_snapshot(objective.model(network))] * times
            state.epoch_seconds += time.perf_counter() - began
            if state.step % batches.steps_per_epoch == 0 or state.ends(steps):
                on_epoch(_close_epoch(state, hyperparameters))
            if checkpoint.due():
                save()
            _report(report, Progress("train", state.step, steps, "step"), save=save)
    last = _snapshot(objective.model(network))
    return _fitted(last, state, snapshots=len(hyperparameters.thirds()))


def _report(report: OnProgress, event: Progress, *, save: Callable[[], None]) -> None:
    """Report a step; if that interrupts the training, save its state first."""
    try:
        report(event)
    except KeyboardInterrupt:
        save()
        raise


def _fitted(last: StateDict, state: _State, *, snapshots: int) -> Fitted:
    return Fitted(
        last,
        state.best or last,
        state.best_step or state.step,
        state.best_f1,
        tuple(EpochRecord(**record) for record in state.history),
        (*state.snapshots, *[last] * (snapshots - len(state.snapshots))),
        state.collapsed,
    )


def _update(
    network: nn.Module,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    hyperparameters: Hyperparameters,
    step: int,
    device: torch.device,
) -> float:
    """Make one optimiser step, counted from 0, and return its loss. Raises NumericError."""
    learning_rate = hyperparameters.learning_rate_at(step)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    torch.manual_seed(seed_of(hyperparameters.seed, "dropout", hyperparameters.iteration, step))
    if not network.training:  # setting the flag of each layer takes half a millisecond
        network.train()
    with torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=hyperparameters.precision == "bf16"
    ):
        loss = objective.loss(network, batch, step=step, device=device)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT_NORM)
    # The only wait for the device. It comes before the update, so that a network with a NaN in it
    # is never saved or called best.
    loss_value, norm_value = torch.stack((loss.detach(), norm)).tolist()
    if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
        named = ", ".join(dict.fromkeys(batch.items))
        raise NumericError(
            f"loss {loss_value:g}, gradient norm {norm_value:g} at step {step + 1}, "
            f"learning rate {learning_rate:.3g}, tiles {named}",
            cure="lower --learning-rate",
        )
    optimiser.step()
    objective.after_step(network, step)
    return float(loss_value)


def _validate(
    network: nn.Module,
    validate: Validate,
    watch: Watch | None,
    state: _State,
    hyperparameters: Hyperparameters,
) -> None:
    """Score the network, watch it for collapse, and keep its weights if it is the best so far."""
    network.eval()
    score = validate(network)
    # A network from fresh weights finds nothing at first: no alarm counts in the first half.
    if watch is not None and 2 * state.step >= hyperparameters.steps:
        state.alarms = state.alarms + 1 if watch(network) else 0
        state.collapsed = state.alarms >= ALARMS_TO_STOP
    state.validation_f1 = None if score is None or math.isnan(score) else float(score)
    if state.validation_f1 is not None and (
        state.best_f1 is None or state.validation_f1 > state.best_f1
    ):
        state.best = _snapshot(network)
        state.best_step, state.best_f1 = state.step, state.validation_f1
        state.waited = 0
    else:
        state.waited += 1
    state.gave_up = hyperparameters.gives_up_after(state.waited)


def _close_epoch(state: _State, hyperparameters: Hyperparameters) -> EpochRecord:
    """Add the record of the epoch that has ended to the history, and begin the next one."""
    record = EpochRecord(
        epoch=len(state.history) + 1,
        step=state.step,
        loss=state.loss_sum / (state.step - state.epoch_first_step),
        learning_rate=hyperparameters.learning_rate_at(state.step - 1),
        validation_f1=state.validation_f1,
        seconds=state.epoch_seconds,
    )
    state.history.append(asdict(record))
    state.epoch_first_step, state.validation_f1 = state.step, None
    state.loss_sum = state.epoch_seconds = 0.0
    return record


def _resume(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    identity: dict[str, Any],
) -> _State:
    """Load the checkpoint into network, optimiser and objective, and return the rest of its state.

    Without a checkpoint nothing is loaded, and the state is the initial one. Raises StorageError
    for a checkpoint of another training.
    """
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


def _optimiser(network: nn.Module, hyperparameters: Hyperparameters) -> torch.optim.Optimizer:
    """AdamW, with weight decay on weights alone.

    Shrinking a bias or the scale of a normalisation regularises nothing.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": hyperparameters.weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=hyperparameters.learning_rate, fused=True)


def _snapshot(network: nn.Module) -> StateDict:
    """A copy of the weights on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
