"""One optimiser step: loss, gradient, clipped and checked, and the update.

On CUDA a step can be captured once as a CUDA graph and replayed: one launch in place of some
hundred, between which a GPU waits where the network is small. Then nothing waits for the loss
either: the update itself is left out on the device where loss or gradient is not finite, and the
losses of several steps are read together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cryossl.errors import NumericError
from cryossl.network.batches import Batch
from cryossl.network.device import Precision, Replayed
from cryossl.network.objectives.objective import Inputs, Objective
from cryossl.randomness import seed_of

LARGEST_GRADIENT_NORM = 5.0
STEPS_UNREAD = 32
"""Most steps of a captured training whose losses have not been read."""


@dataclass(frozen=True)
class Arithmetic:
    """What decides a step besides network, batch, objective and learning rate.

    Attributes:
        weight_decay: of AdamW, on weights with more than one axis; biases and normalisation have
            none.
        seed: of the run.
        iteration: of self-training. Seed, iteration and step decide dropout.
        precision: of the forward pass; weights and loss are fp32.
    """

    weight_decay: float
    seed: int
    iteration: int
    precision: Precision


@dataclass(frozen=True)
class _Unread:
    """A step that was made, whose loss nobody has read."""

    step: int
    learning_rate: float
    items: tuple[str, ...]
    found: torch.Tensor  # loss and norm of the gradient


class Stepper:
    """Makes the steps of one training.

    Args:
        network: on its device; its weights are changed in place.
        objective: what a step minimises; it has begun with the network.
        arithmetic: weight decay, randomness and number format.
        device: where the network is.
        captured: whether the losses are read late, and a step on CUDA is replayed from a CUDA
            graph, if the objective allows it. On other devices it is run as it is.

    Attributes:
        optimiser: AdamW, whose state belongs into a checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        arithmetic: Arithmetic,
        *,
        device: torch.device,
        captured: bool = False,
    ) -> None:
        self._network, self._objective, self._arithmetic = network, objective, arithmetic
        self._device, self._late = device, captured
        self.optimiser = _adamw(network, arithmetic.weight_decay, device=device, captured=captured)
        self._unread: list[_Unread] = []
        self._losses: list[float] = []
        self._replayed = Replayed(wanted=captured and objective.replayable)

    def make(self, batch: Batch, step: int, *, learning_rate: float) -> None:
        """Make a step, counted from 0. Raises NumericError, at once or with a later `losses`."""
        network = self._network
        self._set(learning_rate)
        torch.manual_seed(
            seed_of(self._arithmetic.seed, "dropout", self._arithmetic.iteration, step)
        )
        if not network.training:  # setting the flag of each layer takes half a millisecond
            network.train()
        with self._autocast():
            inputs = self._objective.inputs(batch, step=step, device=self._device)
        found = self._replayed(
            self._updated, inputs.pictures, inputs.target, inputs.weight, like=inputs
        )
        self._unread.append(_Unread(step, learning_rate, batch.items, found))
        if not self._late:
            # The only wait for the device. It comes before the update, so that a network with a NaN
            # in it is never saved or called best.
            self._read()
            self.optimiser.step()
        self._objective.after_step(network, step)

    @property
    def must_read(self) -> bool:
        """Whether it is time to call `losses`."""
        return not self._late or len(self._unread) >= STEPS_UNREAD

    def losses(self) -> list[float]:
        """The losses of the steps since the last call; waits for the device.

        Raises NumericError for a loss or gradient that is not finite: its update was not made.
        """
        self._read()
        losses, self._losses = self._losses, []
        return losses

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        self._losses += _finite(unread)

    def load(self, state: dict[str, Any]) -> None:
        """Load the optimiser's `state_dict`, of a training that was captured or not."""
        self.optimiser.load_state_dict(state)
        for group in self.optimiser.param_groups:
            group["capturable"] = False
            if self._late:
                group["lr"] = _in_memory(group["lr"], self._device)

    def _set(self, learning_rate: float) -> None:
        for group in self.optimiser.param_groups:
            if self._late:
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, dtype=torch.bfloat16, enabled=self._arithmetic.precision == "bf16"
        )

    def _updated(
        self, pictures: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, *, like: Inputs
    ) -> torch.Tensor:
        """Gradient and, where losses are read late, update; returns loss and gradient norm."""
        with self._autocast():
            loss = self._objective.loss(self._network, like.with_maps(pictures, target, weight))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), LARGEST_GRADIENT_NORM)
        found = torch.stack((loss.detach(), norm))
        if self._late:
            self._update_unless(~torch.isfinite(found).all())
        return found

    def _update_unless(self, broken: torch.Tensor) -> None:
        """Update the weights, or leave them where `broken` is True, without waiting for it."""
        if self._device.type == "cuda":
            # The fused AdamW computes the same with it; torch refuses a capture without it, and
            # warns of it outside one.
            for group in self.optimiser.param_groups:
                group["capturable"] = torch.cuda.is_current_stream_capturing()
        # The fused AdamW leaves an update out where this is 1, as under a GradScaler.
        self.optimiser.found_inf = broken.float()  # type: ignore[attr-defined]
        self.optimiser.step()


@contextmanager
def generator_restored(device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's global generator, which each step seeds; restore it afterwards."""
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        yield


def _finite(steps: list[_Unread]) -> list[float]:
    """The losses of some steps. Raises NumericError for the first that is not finite."""
    found = torch.stack([made.found for made in steps]).tolist() if steps else []
    for made, (loss, norm) in zip(steps, found, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            named = ", ".join(dict.fromkeys(made.items))
            raise NumericError(
                f"loss {loss:g}, gradient norm {norm:g} at step {made.step + 1}, "
                f"learning rate {made.learning_rate:.3g}, tiles {named}",
                cure="lower --learning-rate",
            )
    return [loss for loss, _ in found]


def _adamw(
    network: nn.Module, weight_decay: float, *, device: torch.device, captured: bool
) -> torch.optim.AdamW:
    """AdamW, with weight decay on weights alone.

    Shrinking a bias or the scale of a normalisation regularises nothing.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "params": [parameter for parameter in parameters if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    if captured:
        for group in groups:
            group["lr"] = _in_memory(0.0, device)
    return torch.optim.AdamW(groups, fused=True)


def _in_memory(learning_rate: float | torch.Tensor, device: torch.device) -> torch.Tensor:
    """A learning rate where a graph reads it; CUDA's AdamW wants fp32."""
    kind = torch.float32 if device.type == "cuda" else torch.float64
    return torch.as_tensor(learning_rate, device=device, dtype=kind)
