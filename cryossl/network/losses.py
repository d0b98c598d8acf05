"""Losses with a weight per pixel: binary cross-entropy, Dice and their relatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch.nn import functional

from cryossl.pseudolabels.recipe import LossName

Maps = Float[torch.Tensor, "batch 1 height width"]
Scalar = Float[torch.Tensor, ""]
Loss = Callable[[Maps, Maps, Maps], Scalar]

LARGEST_POSITIVE_WEIGHT = 5.0
FOCAL_EXPONENT, FOCAL_POSITIVE_SHARE = 2.0, 0.75
TVERSKY_FALSE_POSITIVES, TVERSKY_FALSE_NEGATIVES = 0.3, 0.7


def cross_entropy(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Binary cross-entropy of weighted pixels, divided by the number of valid ones.

    A pixel is valid if its weight is above 0. The weights are not in the divisor, so that an image
    of weight 1/4 has a quarter of the influence. 0 if no pixel is valid. Arguments as for
    `segmentation_loss`.
    """
    each = functional.binary_cross_entropy_with_logits(
        logits, target, weight=weight, reduction="sum"
    )
    return each / (weight > 0).sum().clamp(min=1)


def dice(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """1 - 2 sum(w min(p, t)) / (sum(w p) + sum(w t)) over the batch, with p = sigmoid(logit).

    Wang, Popordanoska, Bertels, Lemmens, Blaschko (2023), Dice semimetric losses (arXiv
    2303.16296), as in segmentation-models-pytorch. For targets of 0 and 1 it is the usual soft
    Dice; for targets between them it is least at p = t. The sums run over the batch, because for a
    single image with few particles the ratio would jump. If no valid pixel has a target above 0,
    the ratio has no meaning, and the loss is 0 without a gradient. Arguments as for
    `segmentation_loss`.
    """
    probability = torch.sigmoid(logits)
    wanted = (weight * target).sum()
    overlap = (weight * torch.minimum(probability, target)).sum()
    loss = 1 - 2 * overlap / ((weight * probability).sum() + wanted).clamp(min=1e-7)
    return loss * (wanted > 0)


def segmentation_loss(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Cross-entropy + Dice, both weighted per pixel.

    Args:
        logits: log odds of PARTICLE, in fp32.
        target: probability of PARTICLE to learn, in [0, 1].
        weight: of each pixel, >= 0; 0 leaves the pixel out.
    """
    return cross_entropy(logits, target, weight) + dice(logits, target, weight)


def loss_of(name: LossName, *, prior: float) -> Loss:
    """The loss of this name, called with the arguments of `segmentation_loss`.

    `prior`, in (0, 1), is the particle ratio of the labelled part; the weighted loss uses it.
    """
    losses: dict[str, Loss] = {
        "bce_dice": segmentation_loss,
        "weighted": partial(weighted_loss, positive_weight=positive_weight(prior)),
        "focal": focal,
        "tversky": tversky,
    }
    return losses[name]


def positive_weight(prior: float) -> float:
    """The weight of a particle pixel: min(sqrt((1 - prior) / prior), 5).

    It is the root, because with the full odds the network predicts too many particles.
    """
    return min(float(((1 - prior) / prior) ** 0.5), LARGEST_POSITIVE_WEIGHT)


def weighted_loss(logits: Maps, target: Maps, weight: Maps, *, positive_weight: float) -> Scalar:
    """Half cross-entropy, with the particle term times `positive_weight`, plus half Dice.

    The cross-entropy is divided by the number of valid pixels. Other arguments as for
    `segmentation_loss`.
    """
    # Filled on the device: a copy from the CPU would end the capture of a CUDA graph.
    factor = torch.full((), positive_weight, device=logits.device)
    each = functional.binary_cross_entropy_with_logits(
        logits, target, weight=weight, pos_weight=factor, reduction="sum"
    )
    return 0.5 * each / (weight > 0).sum().clamp(min=1) + 0.5 * dice(logits, target, weight)


def focal(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Focal loss: a (1 - p_t)^2 times cross-entropy, with a = 0.75 for particle pixels, else 0.25.

    Lin et al. (2017, arXiv 1708.02002). For targets between 0 and 1 the factor is |t - p|^2, as in
    quality focal loss (Li et al. 2020, arXiv 2006.04388). Arguments as for `segmentation_loss`.
    """
    probability = torch.sigmoid(logits)
    share = FOCAL_POSITIVE_SHARE * target + (1 - FOCAL_POSITIVE_SHARE) * (1 - target)
    factor = share * (target - probability).abs() ** FOCAL_EXPONENT
    each = (
        factor
        * weight
        * functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    )
    return each.sum() / (weight > 0).sum().clamp(min=1)


def tversky(logits: Maps, target: Maps, weight: Maps) -> Scalar:
    """Tversky loss: 1 - tp / (tp + 0.3 fp + 0.7 fn), with soft counts over the batch.

    Salehi et al. (2017, arXiv 1706.05721). If no valid pixel has a target above 0, the loss is 0
    without a gradient. Arguments as for `segmentation_loss`.
    """
    probability = torch.sigmoid(logits)
    hit = (weight * probability * target).sum()
    false_positive = (weight * probability * (1 - target)).sum()
    false_negative = (weight * (1 - probability) * target).sum()
    total = (
        hit + TVERSKY_FALSE_POSITIVES * false_positive + TVERSKY_FALSE_NEGATIVES * false_negative
    )
    loss = 1 - hit / total.clamp(min=1e-7)
    return loss * ((weight * target).sum() > 0)
