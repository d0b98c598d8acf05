"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cryossl.network.checkpoints import StateDict


class Ensemble(nn.Module):
    """Networks of one kind with different weights: their mean probability, returned as a logit."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float[b 1 h w] of z scores -> logits, fp32."""
        found = [torch.sigmoid(network(pictures).float()) for network in self.networks]
        return torch.logit(torch.stack(found).mean(dim=0), eps=1e-7)


def together(networks: Sequence[nn.Module]) -> nn.Module:
    """The networks as one; a single network is itself."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def weights_together(weights: Sequence[StateDict]) -> StateDict:
    """The weights of `together`, from those of its networks in the same order."""
    if len(weights) == 1:
        return weights[0]
    return {
        f"networks.{number}.{name}": tensor
        for number, one in enumerate(weights)
        for name, tensor in one.items()
    }
