"""What a step needs of an objective, and what the objectives share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.network.batches import Batch
from cryossl.network.device import to_device
from cryossl.network.losses import Maps, Scalar


@dataclass(frozen=True)
class Inputs:
    """What the loss of a step is computed from, on the device.

    Attributes:
        pictures: z scores.
        target: probability of PARTICLE to learn, in [0, 1].
        weight: of each pixel, >= 0.
        labelled: how many tiles, the first ones, have true labels; 0 where that is not known.
        sources: of the tiles.
    """

    pictures: Maps
    target: Maps
    weight: Maps
    labelled: int = 0
    sources: tuple[str, ...] = ()

    def with_maps(self, pictures: Maps, target: Maps, weight: Maps) -> Inputs:
        """The same with other tensors."""
        return replace(self, pictures=pictures, target=target, weight=weight)


@runtime_checkable
class Objective(Protocol):
    """What a step needs of an objective: inputs first, then the loss, both under autocast."""

    @property
    def replayable(self) -> bool:
        """Whether the loss depends on the tensors of `Inputs` alone, each time in the same way."""

    def begin(self, network: nn.Module, *, captured: bool = False) -> None:
        """Prepare for the network, on its device; called once, before `load_state_dict`.

        `captured`: whether forward passes may be replayed from a CUDA graph.
        """

    def model(self, network: nn.Module) -> nn.Module:
        """The network that is validated and saved."""

    def inputs(self, batch: Batch, *, step: int, device: torch.device) -> Inputs:
        """The views of a step, counted from 0, and what is to be learned from them."""

    def loss(self, network: nn.Module, inputs: Inputs) -> Scalar:
        """The loss, in fp32."""

    def after_step(self, network: nn.Module, step: int) -> None:
        """Called with each step after its update."""

    def identity(self) -> dict[str, Any]:
        """What decides the loss, in JSON's types; a checkpoint of another identity is refused."""

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step: tensors and numbers, as in torch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""


def targets_and_weights(
    labels: torch.Tensor, batch: Batch, *, device: torch.device
) -> tuple[Maps, Maps]:
    """Target in [0, 1] and weight of each pixel.

    Args:
        labels: UInt8[b 1 h w], the batch's maps after their views.
        batch: with the weight of each tile, and the tables of soft targets.
        device: of the result.
    """
    weights = to_device(batch.weights, device).view(-1, 1, 1, 1)
    if batch.tables is None:
        return (labels == PARTICLE).float(), (labels != IGNORE) * weights
    tables = to_device(batch.tables, device)
    index = labels.long() + 256 * torch.arange(len(labels), device=device).view(-1, 1, 1, 1)
    return tables[:, 0].reshape(-1)[index], tables[:, 1].reshape(-1)[index] * weights


def logits_of(network: nn.Module, pictures: torch.Tensor) -> Maps:
    """The network's output for z scores, in fp32."""
    logits: Maps = network(pictures.contiguous(memory_format=torch.channels_last)).float()
    return logits
