"""The moving average of a network's weights, and training whose model it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cryossl.network.batches import Batch
from cryossl.network.losses import Scalar
from cryossl.network.objectives.objective import Inputs, Objective


class Averaged:
    """Another objective, whose model is the moving average of the network's weights.

    The average changes no step of the training: it is what is validated and saved (Polyak and
    Juditsky 1992). It covers buffers too, because BatchNorm's statistics belong to the weights. A
    teacher that is an average itself (`OnlineTeacher`) stays the teacher, with its own decay.

    Args:
        objective: the other one.
        decay: of the average, in (0, 1).
    """

    def __init__(self, objective: Objective, *, decay: float) -> None:
        self._objective, self._decay = objective, decay
        self._average: nn.Module = nn.Identity()

    def begin(self, network: nn.Module, *, captured: bool = False) -> None:
        """Start the average as a copy of the network."""
        self._objective.begin(network, captured=captured)
        self._average = average_of(network)

    def model(self, network: nn.Module) -> nn.Module:  # noqa: ARG002 (the average stands for it)
        """The moving average."""
        return self._average

    @property
    def replayable(self) -> bool:
        """As the other objective."""
        return self._objective.replayable

    def inputs(self, batch: Batch, *, step: int, device: torch.device) -> Inputs:
        """The other objective's inputs of a step."""
        return self._objective.inputs(batch, step=step, device=device)

    def loss(self, network: nn.Module, inputs: Inputs) -> Scalar:
        """The other objective's loss."""
        return self._objective.loss(network, inputs)

    def after_step(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network, after the other objective's own work."""
        self._objective.after_step(network, step)
        move_average(self._average, network, step=step, decay=self._decay)

    def identity(self) -> dict[str, Any]:
        """The other objective's identity, and the decay."""
        return {**self._objective.identity(), "average_decay": self._decay}

    def state_dict(self) -> dict[str, Any]:
        """The other objective's state, and the average."""
        return {"objective": self._objective.state_dict(), "average": self._average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load both."""
        self._objective.load_state_dict(state["objective"])
        self._average.load_state_dict(state["average"])


def average_of(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation mode, for `move_average`."""
    return copy.deepcopy(network).eval().requires_grad_(requires_grad=False)


def move_average(average: nn.Module, network: nn.Module, *, step: int, decay: float) -> None:
    """Move an average towards a network; integer buffers are copied.

    The decay is min(1 - 1 / (step + 1), `decay`), with steps counted from 0: a plain mean at first,
    so that no initial weight is left in it.
    """
    decay = min(1 - 1 / (step + 1), decay)
    with torch.no_grad():
        pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        counting = [pair for pair in pairs if not pair[0].is_floating_point()]
        # Lists of tensors take one launch each on a GPU.
        if moving:
            torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], 1 - decay)
        if counting:
            torch._foreach_copy_([a for a, _ in counting], [b for _, b in counting])
