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
from cryossl.errors import StorageError
from cryossl.network.batches import Batches
from cryossl.network.checkpoints import Checkpoint, StateDict
from cryossl.network.device import Precision
from cryossl.network.objectives.objective import Objective
from cryossl.network.objectives.supervised import Supervised
from cryossl.network.step import Arithmetic, Stepper, generator_restored
from cryossl.progress.events import OnProgress, Progress

WARM_UP_FRACTION = 0.05  # of all steps
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

    def looks_after(self, done: int) -> bool:
        """Whether the weights are scored or kept when `done` steps are done."""
        return self.validates_after(done) or done in self.thirds()

    def arithmetic(self) -> Arithmetic:
        """What decides a single step."""
        return Arithmetic(self.weight_decay, self.seed, self.iteration, self.precision)

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

    def add(self, losses: list[float]) -> None:
        """Add the losses of steps to the sum of the epoch."""
        self.loss_sum = sum(losses, self.loss_sum)

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
    captured: bool = False,
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
        captured: as for `Stepper`.

    Raises:
        NumericError: loss or gradient is not finite; the update was not made, and the last
            checkpoint is kept. A captured training finds it some steps later.
        StorageError: the checkpoint cannot be written, or belongs to another training.
    """
    steps = hyperparameters.steps
    objective = objective or Supervised(
        seed=hyperparameters.seed, iteration=hyperparameters.iteration
    )
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.begin(network, captured=captured)
    stepper = Stepper(
        network, objective, hyperparameters.arithmetic(), device=device, captured=captured
    )
    identity = {
        "course": asdict(hyperparameters),
        "batches": batches.digest(),
        "objective": objective.identity(),
    }
    state = _resume(checkpoint, network, stepper, objective, identity)
    if 0 < state.step < steps:
        report(Progress("train", state.step, steps, "step", resumed=True))

    def save() -> None:
        state.add(stepper.losses())
        checkpoint.save(
            {
                "identity": identity,
                "network": _snapshot(network),
                "optimiser": stepper.optimiser.state_dict(),
                "objective": objective.state_dict(),
                "state": vars(state),
            }
        )

    with generator_restored(device):
        while not state.ends(steps):
            began = time.perf_counter()
            stepper.make(
                batches.batch(state.step),
                state.step,
                learning_rate=hyperparameters.learning_rate_at(state.step),
            )
            state.step += 1
            whole_epoch = state.step % batches.steps_per_epoch == 0
            # No weights are scored or kept before the losses of their steps were found finite.
            if stepper.must_read or whole_epoch or hyperparameters.looks_after(state.step):
                state.add(stepper.losses())
            _look(objective.model(network), validate, watch, state, hyperparameters)
            state.epoch_seconds += time.perf_counter() - began
            if whole_epoch or state.ends(steps):
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


def _look(
    network: nn.Module,
    validate: Validate,
    watch: Watch | None,
    state: _State,
    hyperparameters: Hyperparameters,
) -> None:
    """Score the network and keep its weights, each where it is due after this step."""
    if hyperparameters.validates_after(state.step):
        _validate(network, validate, watch, state, hyperparameters)
    if times := hyperparameters.thirds().count(state.step):
        state.snapshots += [_snapshot(network)] * times


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
    stepper: Stepper,
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
        stepper.load(saved["optimiser"])
        objective.load_state_dict(saved["objective"])
        return _State(**saved["state"])
    except (RuntimeError, KeyError, ValueError, TypeError):
        raise foreign from None


def _snapshot(network: nn.Module) -> StateDict:
    """A copy of the weights on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
