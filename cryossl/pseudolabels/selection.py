"""Probabilities -> pseudo-labels: the rule for a pixel, the quality of an image, and which images are kept.

Nothing here can see a true label: the inputs are a teacher's stored probabilities, the settings,
one target ratio and the number of labelled items. All that is measured on an image follows from the
256-bin histogram of its map, so an image of 1024 x 1024 takes a few milliseconds and the pool can
be streamed.
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
    """A strategy's rules. A value: two strategies that differ in one field differ in one thing.

    A pixel is PARTICLE at p >= particle_threshold, else BACKGROUND at 1 - p >=
    background_threshold, else doubtful.

    `portion`: of each class, as the labelled part has it in the image's source, that is labelled at
    most; the thresholds stay as floors. `soft`: the student learns the probabilities themselves,
    weighted by confidence, and the thresholds only count. `ring_px`: pixels around a pseudo
    particle that are IGNORE. `scope`: whether target ratio and quota are one for all sources, or
    each source's own.

    Raises ConfigError if a threshold is outside [0, 1] or if both together are under 1, so that
    pixels would be both.
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
        """Refuse thresholds that cannot be meant."""
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
        """(a, b):

        PARTICLE at p8 >= a, BACKGROUND at p8 <= b, doubtful between; b < a, so PARTICLE wins a tie.

        With a portion they follow from the histogram and the prior particle ratio of the image's
        source as well.
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
    """What is known of one image without its truth.

    Ratios in [0, 1]; the pixel counts add up over images.
    """

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
    """The pseudo-label of one image:

    PARTICLE, BACKGROUND, and the doubtful as `uncertain_pixels` says.

    `cutoffs` are those of the image's source where it has its own. With `ring_px` the pixels within
    that distance of a PARTICLE pixel are IGNORE: where a particle ends is where a teacher errs
    most.
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
    """Quality of one image from its histogram, as docs/method.md defines it.

    particle_confidence = mean p of PARTICLE pixels, background_confidence = mean 1 - p of the
    pixels confident to be BACKGROUND, 0 where there is none; mean_confidence = mean max(p, 1 - p)
    of all pixels; balance = max(0, 1 - |r - t| / t) with r = PARTICLE pixels / all pixels and t =
    target_ratio; quality = the weighted sum. Doubtful pixels stay in the denominator of r, so that
    `ignore` and `background` select the same images. Sums are integers and each ratio is divided
    once, so a mean of exactly 0.70 passes a threshold of 0.70.

    Raises ValueError for an empty image or a target_ratio outside (0, 1].
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

    The answer does not depend on the order of the mapping, and a larger quota keeps a superset.

    Args:
        assessments: of the pool.
        selection: the rules.
        labelled_count: labelled items in all.
        sources: item -> source; needed where each source has its own quota.
        labelled_by_source: source -> labelled items; needed with scope=per_source.
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
    """Mean of values / 255 over counted pixels, 0 without a pixel; integers up to the one division, which is exact."""
    pixels = int(counts.sum())
    return int((counts * values).sum()) / (255 * pixels) if pixels else 0.0
