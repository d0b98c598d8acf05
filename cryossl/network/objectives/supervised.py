"""A loss on true, pseudo or soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cryossl.network.augment import noised, weak_view
from cryossl.network.batches import Batch
from cryossl.network.device import to_device
from cryossl.network.losses import Scalar, loss_of
from cryossl.network.objectives.objective import Inputs, logits_of, targets_and_weights
from cryossl.pseudolabels.recipe import LossName
from cryossl.randomness import generator


class Supervised:
    """A loss between the network's output for weak views and their true, pseudo or soft labels.

    Args:
        seed: of the run.
        iteration: of self-training; seed, iteration and step decide the views.
        loss: its name.
        prior: particle ratio of the labelled part, in (0, 1), for the weighted loss.
        noise: whether half of the tiles get a strong view, and half a box of another tile.
        any_angle: whether weak views are turned by any angle and scaled.
    """

    def __init__(
        self,
        *,
        seed: int,
        iteration: int,
        loss: LossName = "bce_dice",
        prior: float = 0.5,
        noise: bool = False,
        any_angle: bool = False,
    ) -> None:
        self._counter, self._noise = (seed, iteration), noise
        self._any_angle = any_angle
        self._identity = {
            "loss": loss,
            "prior": prior if loss == "weighted" else None,
            "noise": noise,
            **({"any_angle": True} if any_angle else {}),
        }
        self._loss = loss_of(loss, prior=prior)

    @property
    def replayable(self) -> bool:
        """True."""
        return True

    def begin(self, network: nn.Module, *, captured: bool = False) -> None:
        """Do nothing."""

    def model(self, network: nn.Module) -> nn.Module:
        """The network itself."""
        return network

    def inputs(self, batch: Batch, *, step: int, device: torch.device) -> Inputs:
        """Weak views, under noise where that is wanted."""
        seed, iteration = self._counter
        pictures, labels = weak_view(
            to_device(batch.pictures, device),
            to_device(batch.labels, device),
            generator=generator(seed, "augment", iteration, step),
            any_angle=self._any_angle,
        )
        target, weight = targets_and_weights(labels, batch, device=device)
        if self._noise:
            pictures, target, weight = noised(
                pictures, target, weight, generator=generator(seed, "noise", iteration, step)
            )
        return Inputs(pictures, target, weight)

    def loss(self, network: nn.Module, inputs: Inputs) -> Scalar:
        """The loss of these views."""
        return self._loss(logits_of(network, inputs.pictures), inputs.target, inputs.weight)

    def after_step(self, network: nn.Module, step: int) -> None:
        """Do nothing."""

    def identity(self) -> dict[str, Any]:
        """Loss and noise, and the prior where it decides the loss."""
        return self._identity

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""
