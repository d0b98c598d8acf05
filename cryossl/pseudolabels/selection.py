"""Selection of pseudo-labels: the labels of a pixel, the quality of an image, the choice of images.

A selection has three steps, and each has a function here:

1. `label_map`: a pixel is PARTICLE, BACKGROUND or doubtful, from its probability.
2. `assess`: an image has a quality in [0, 1], from the histogram of its probabilities.
3. `select`: a keep rule chooses images by their quality.

No function takes a true label: the inputs are the teacher's stored probabilities p8 = round(255 p),
the settings, a target particle ratio, and the number of labelled items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE, LabelMap
from cryossl.errors import ConfigError
from cryossl.pseudolabels.keep_rules import KeepRule, RankedPool
from cryossl.pseudolabels.pixel_rules import (
    Cutoffs,
    ProbabilityCounts,
    background_cutoff,
    decimal_of,
    particle_cutoff,
    portion_cutoffs,
    with_ring,
)


@dataclass(frozen=True)
class Quality:
    """Weights of the terms of an image's quality; each term is in [0, 1]."""

    confidence: float = 0.0
    particle: float = 0.0
    background: float = 0.0
    balance: float = 0.0
    agreement: float = 0.0


@dataclass(frozen=True)
class Selection:
    """The rules by which a strategy selects pseudo-labels, as a value.

    Attributes:
        particle_threshold: a pixel is PARTICLE at p >= this.
        background_threshold: else it is BACKGROUND at 1 - p >= this, else doubtful.
        quality: weights of the quality of an image.
        keep: the rule that chooses images.
        uncertain_pixels: the label of a doubtful pixel, IGNORE or BACKGROUND.
        portion: the share of each class that is labelled at most. The frequency of the classes is
            that of the labelled part in the image's source, and the thresholds still hold.
        soft: the student learns the probabilities, weighted by confidence. The thresholds then
            serve only for counts.
        ring_px: background pixels within this distance of a particle pixel are IGNORE.
        scope: one target ratio and quota for all sources, or one for each source.

    Raises:
        ConfigError: a threshold is outside [0, 1], or both add up to less than 1, so that one pixel
            could be both classes.
    """

    particle_threshold: float
    background_threshold: float
    quality: Quality
    keep: KeepRule
    uncertain_pixels: Literal["ignore", "background"] = "ignore"
    portion: float | None = None
    soft: bool = False
    ring_px: int = 0
    scope: Literal["global", "per_source"] = "global"

    def __post_init__(self) -> None:
        """Refuse thresholds outside [0, 1] and thresholds that overlap."""
        thresholds = (self.particle_threshold, self.background_threshold)
        if not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ConfigError(
                f"particle and background thresholds {thresholds} are probabilities, 0 to 1"
            )
        if sum(decimal_of(threshold) for threshold in thresholds) < 1:
            raise ConfigError(
                f"particle_threshold {thresholds[0]:g} and background_threshold {thresholds[1]:g} "
                "overlap",
                cure="choose two that add up to 1 or more, or a pixel would be both",
            )

    def cutoffs(
        self, counts: ProbabilityCounts | None = None, prior: float | None = None
    ) -> Cutoffs:
        """(a, b): a pixel is PARTICLE at p8 >= a, BACKGROUND at p8 <= b, doubtful between.

        A pixel that meets both thresholds is PARTICLE, so b < a. With `portion` the cut-offs depend
        on the histogram and on the prior particle ratio of the image's source, too.
        """
        particle, background = (
            particle_cutoff(self.particle_threshold),
            background_cutoff(self.background_threshold),
        )
        if self.portion is not None and counts is not None and prior is not None:
            rare, common = portion_cutoffs(counts, prior=prior, portion=self.portion)
            particle, background = max(particle, rare), min(background, common)
        return particle, min(background, particle - 1)


@dataclass(frozen=True)
class Assessment:
    """What is measured on one image without its truth: ratios in [0, 1] and counts of pixels."""

    quality: float
    particle_confidence: float
    background_confidence: float
    mean_confidence: float
    balance: float
    particle_ratio: float
    ignored_fraction: float
    pixels: int
    particle_pixels: int
    ignored_pixels: int
    agreement: float | None = None


def label_map(
    probabilities: UInt8[np.ndarray, "height width"],
    selection: Selection,
    cutoffs: Cutoffs | None = None,
) -> LabelMap:
    """The pseudo-label of one image; doubtful pixels get the label of `uncertain_pixels`.

    With `ring_px`, background pixels within that distance of a particle pixel are IGNORE, because
    teachers make most errors at the edges of particles.

    Args:
        probabilities: the teacher's p8.
        selection: the rules.
        cutoffs: of the image's source; those of the thresholds if not given.
    """
    particle, background = cutoffs or selection.cutoffs()
    doubtful = IGNORE if selection.uncertain_pixels == "ignore" else BACKGROUND
    table = np.full(256, doubtful, dtype=np.uint8)
    table[: background + 1] = BACKGROUND
    table[particle:] = PARTICLE
    labels: LabelMap = table[probabilities]
    return with_ring(labels, ring_px=selection.ring_px) if selection.ring_px else labels


def assess(
    counts: ProbabilityCounts,
    selection: Selection,
    *,
    target_ratio: float,
    cutoffs: Cutoffs | None = None,
    agreement: float | None = None,
) -> Assessment:
    """The quality of one image and its terms, from the histogram of its probabilities.

    - particle_confidence: mean p of the PARTICLE pixels, 0 without one.
    - background_confidence: mean 1 - p of the BACKGROUND pixels, 0 without one.
    - mean_confidence: mean max(p, 1 - p) of all pixels.
    - balance: max(0, 1 - |r - t| / t), with r = PARTICLE pixels / all pixels and t = target_ratio.
    - quality: the sum of these terms and of the agreement, weighted by `selection.quality`.

    Doubtful pixels count in the denominator of r and not in background_confidence, so
    `uncertain_pixels` does not change which images are selected. Sums are integers and each ratio
    is divided once, so a mean of exactly 0.70 passes a threshold of 0.70.

    Args:
        counts: pixels of each p8.
        selection: the rules.
        target_ratio: particle ratio in (0, 1].
        cutoffs: of the image's source; those of the thresholds if not given.
        agreement: of the teacher's predictions over its training, in [0, 1].

    Raises:
        ValueError: the image is empty, or target_ratio is outside (0, 1].
    """
    pixels = int(counts.sum())
    if pixels == 0:
        raise ValueError("an image without pixels has no quality")
    if not 0 < target_ratio <= 1:
        raise ValueError(f"the target particle ratio lies above 0 and up to 1, got {target_ratio}")
    p8 = np.arange(256)
    particle, background = cutoffs or selection.cutoffs()
    particle_pixels = int(counts[particle:].sum())
    doubtful_pixels = int(counts[background + 1 : particle].sum())
    ignored_pixels = doubtful_pixels if selection.uncertain_pixels == "ignore" else 0
    particle_ratio = particle_pixels / pixels
    mean_confidence = _mean_of_255(counts, np.maximum(p8, 255 - p8))
    particle_confidence = _mean_of_255(counts[particle:], p8[particle:])
    background_confidence = _mean_of_255(counts[: background + 1], 255 - p8[: background + 1])
    balance = max(0.0, 1 - abs(particle_ratio - target_ratio) / target_ratio)
    weights = selection.quality
    return Assessment(
        quality=weights.confidence * mean_confidence
        + weights.particle * particle_confidence
        + weights.background * background_confidence
        + weights.balance * balance
        + weights.agreement * (agreement or 0.0),
        particle_confidence=particle_confidence,
        background_confidence=background_confidence,
        mean_confidence=mean_confidence,
        balance=balance,
        particle_ratio=particle_ratio,
        ignored_fraction=ignored_pixels / pixels,
        pixels=pixels,
        particle_pixels=particle_pixels,
        ignored_pixels=ignored_pixels,
        agreement=agreement,
    )


def select(
    assessments: Mapping[str, Assessment],
    selection: Selection,
    *,
    labelled_count: int,
    sources: Mapping[str, str] | None = None,
    labelled_by_source: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Ids of the images that become pseudo-labels, best quality first, ties by id.

    The result does not depend on the order of the mapping. A larger quota keeps a superset.

    Args:
        assessments: of all images of the pool.
        selection: the rules.
        labelled_count: labelled items in all.
        sources: image -> source; required if each source has its own quota.
        labelled_by_source: source -> labelled items; required with scope=per_source.

    Raises:
        ValueError: each source has its own quota and `sources` is missing.
    """
    ranked = sorted(assessments, key=lambda item: (-assessments[item].quality, item))
    return selection.keep.choose(
        RankedPool(
            qualities={item: assessments[item].quality for item in ranked},
            labelled_count=labelled_count,
            scope=selection.scope,
            sources=sources,
            labelled_by_source=labelled_by_source or {},
        )
    )


def _mean_of_255(counts: Int64[np.ndarray, " bins"], values: Int64[np.ndarray, " bins"]) -> float:
    """Mean of values / 255 over the counted pixels, 0 without one; one division of two integers."""
    pixels = int(counts.sum())
    return int((counts * values).sum()) / (255 * pixels) if pixels else 0.0
