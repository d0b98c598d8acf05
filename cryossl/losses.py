"""What a prediction costs: binary cross-entropy and Dice, with a weight per pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch.nn import functional

Maps = Float[torch.Tensor, "batch 1 height width"]
Scalar = Float[torch.Tensor, ""]


def cross_entropy(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Binary cross-entropy of weighted pixels, divided by the number of valid ones.

    A pixel is valid if its weight is above 0; the weights themselves are not in the divisor, so that an image of weight
    1/4 pulls a quarter as strongly. 0 if no pixel is valid. Arguments as for `segmentation_loss`.
    """
    each = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    return each / (weight > 0).sum().clamp(min=1)


def dice(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """1 - 2 sum(w min(p, t)) / (sum(w p) + sum(w t)) over all pixels of the batch, p = sigmoid(logit).

    Wang, Popordanoska, Bertels, Lemmens, Blaschko (2023), Dice semimetric losses (arXiv 2303.16296), as in
    segmentation-models-pytorch: for targets of 0 and 1 the usual soft Dice, and least at p = t for targets between. Over
    the batch, not per image, because an image with few particles would make the ratio jump. 0, without a gradient, if
    no valid pixel has a target above 0: the ratio says nothing then. Arguments as for `segmentation_loss`.
    """
    probability = torch.sigmoid(logits)
    wanted = (weight * target).sum()
    overlap = (weight * torch.minimum(probability, target)).sum()
    loss = 1 - 2 * overlap / ((weight * probability).sum() + wanted).clamp(min=1e-7)
    return loss * (wanted > 0)


def segmentation_loss(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Cross-entropy + Dice, both weighted per pixel, over valid pixels only.

    Args:
        logits: log odds of PARTICLE, in fp32.
        target: probability of PARTICLE to learn, in [0, 1].
        weight: of each pixel, >= 0; 0 leaves the pixel out.
    """
    return cross_entropy(logits, target, weight) + dice(logits, target, weight)
