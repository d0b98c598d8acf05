"""Calibrate a network: temperature scaling, test-time averaging, and the calibration error.

Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks (arXiv 1706.04599).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from scipy import optimize
from torch import nn

from cryossl.evaluation.metrics import Histogram

COMPRESSION = 8.0
"""A network's logits are divided by it before they are stored as p8.

The 256 values then reach from -50 to 50.
"""

BINS = 15
_LARGEST_TEMPERATURE = 100.0


class Tempered(nn.Module):
    """A network whose logits are divided by a temperature above 0."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float[b 1 h w] of z scores -> logits."""
        logits: torch.Tensor = self.network(pictures)
        return logits / self.temperature


class Views(nn.Module):
    """A network with test-time augmentation: the mean probability over 4 or 8 orientations.

    Pictures must be square. The mean is returned as a logit.
    """

    def __init__(self, network: nn.Module, count: Literal[4, 8]) -> None:
        super().__init__()
        self.network, self.count = network, count

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float[b 1 t t] of z scores -> logits, fp32."""
        flips: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
        found = [self._seen(pictures.flip(axes)).flip(axes) for axes in flips]
        if self.count == 8:
            turned = pictures.transpose(-2, -1)
            found += [self._seen(turned.flip(axes)).flip(axes).transpose(-2, -1) for axes in flips]
        return torch.logit(torch.stack(found).mean(dim=0), eps=1e-7)

    def _seen(self, pictures: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = torch.sigmoid(
            self.network(pictures.contiguous(memory_format=torch.channels_last)).float()
        )
        return probabilities


def logits_of_bins() -> Float64[np.ndarray, "256"]:
    """The logit that each p8 of a compressed network stands for.

    The two ends also stand for all values beyond, and are taken at a quarter of a bin.
    """
    p = np.clip(np.arange(256), 0.25, 254.75) / 255
    logits: Float64[np.ndarray, "256"] = COMPRESSION * np.log(p / (1 - p))
    return logits


def fit_temperature(compressed: Histogram) -> float:
    """The temperature with the least mean negative log likelihood; 1 if a class is missing.

    The negative log likelihood is convex in 1 / T, so that a bounded scalar search finds its
    minimum. T stays within [0.01, 100].

    Args:
        compressed: pixels by (true class, p8) of the network with its logits divided by
            COMPRESSION.
    """
    if not compressed.sum(axis=1).all():
        return 1.0
    logits = logits_of_bins()

    def cost(sharpness: float) -> float:
        scaled = sharpness * logits
        return float(
            (compressed[0] @ np.logaddexp(0, scaled) + compressed[1] @ np.logaddexp(0, -scaled))
            / compressed.sum()
        )

    found = optimize.minimize_scalar(
        cost,
        bounds=(1 / _LARGEST_TEMPERATURE, _LARGEST_TEMPERATURE),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return 1 / float(found.x)


def expected_calibration_error(histogram: Histogram) -> float | None:
    """Mean distance between particle frequency and mean probability over 15 bins, in [0, 1].

    Each bin is weighted by its pixels. The definition is that of Naeini et al. (2015), for the
    probability of PARTICLE. None without a pixel.

    Args:
        histogram: pixels by (true class, p8).
    """
    pixels = histogram.sum(axis=0)
    if not pixels.sum():
        return None
    p = np.arange(256) / 255
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=histogram[1] - p * pixels, minlength=BINS)
    return float(np.abs(gaps).sum() / pixels.sum())
