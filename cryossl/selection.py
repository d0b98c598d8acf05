"""Probabilities -> pseudo-labels: the rule for a pixel, the quality of an image, and which images are kept.

Nothing here can see a true label: the inputs are a teacher's stored probabilities, the settings, one target ratio and
the number of labelled items. All that is measured on an image follows from the 256-bin histogram of its map, so an
image of 1024 x 1024 takes a few milliseconds and the pool can be streamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from cryossl.errors import ConfigError
from cryossl.labels import BACKGROUND, IGNORE, PARTICLE, LabelMap

ProbabilityCounts = Int64[np.ndarray, "256"]


def particle_cutoff(threshold: float) -> int:
    """The smallest p8 with p8 / 255 >= threshold, in exact arithmetic; threshold in [0, 1].

    The threshold means the decimal that was typed: 0.70 is 7/10, so 255 x 0.70 = 178.5 and the cut-off is 179; 0.60
    gives exactly 153. Since p8 = round(255 p), a cut-off c acts on the network's own probability at (c - 1/2) / 255.
    """
    return ceil(255 * _decimal(threshold))


def background_cutoff(threshold: float) -> int:
    """The largest p8 with 1 - p8 / 255 >= threshold, in exact arithmetic; -1 if there is none; threshold in [0, 1].

    0.80 gives exactly 51, where 255 * (1 - 0.8) in floating point is 50.99999999999999; 0.70 gives 76.
    """
    return floor(255 * (1 - _decimal(threshold)))


@dataclass(frozen=True)
class Quality:
    """Weights of the terms of an image's quality; each term is in [0, 1]."""

    confidence: float = 0.0
    particle: float = 0.0
    background: float = 0.0
    balance: float = 0.0


@dataclass(frozen=True)
class AllAbove:
    """Keep every image with quality >= threshold, however many."""

    threshold: float


@dataclass(frozen=True)
class BestPerLabelled:
    """Keep the best images, at most `multiple` per labelled item, however poor the last of them is."""

    multiple: float

    def limit(self, labelled_count: int) -> int:
        """Most images that are kept: floor(multiple x labelled), exact in decimal (2 x 258 = 516; 0.29 x 100 = 29)."""
        return floor(_decimal(self.multiple) * labelled_count)


@dataclass(frozen=True)
class Selection:
    """A strategy's rules. A value: two strategies that differ in one field differ in one thing.

    A pixel is PARTICLE at p >= particle_threshold, else BACKGROUND at 1 - p >= background_threshold, else doubtful.
    Raises ConfigError if a threshold is outside [0, 1] or if both together are under 1, so that pixels would be both.
    """

    particle_threshold: float
    background_threshold: float
    quality: Quality
    keep: AllAbove | BestPerLabelled
    uncertain_pixels: Literal["ignore", "background"] = "ignore"

    def __post_init__(self) -> None:
        """Refuse thresholds that cannot be meant."""
        thresholds = (self.particle_threshold, self.background_threshold)
        if not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ConfigError(f"particle and background thresholds {thresholds} are probabilities, 0 to 1")
        if sum(_decimal(threshold) for threshold in thresholds) < 1:
            raise ConfigError(
                f"particle_threshold {thresholds[0]:g} and background_threshold {thresholds[1]:g} overlap",
                cure="choose two that add up to 1 or more, or a pixel would be both",
            )

    def cutoffs(self) -> tuple[int, int]:
        """(a, b): PARTICLE at p8 >= a, BACKGROUND at p8 <= b, doubtful between; b < a, so PARTICLE wins a tie."""
        particle = particle_cutoff(self.particle_threshold)
        return particle, min(background_cutoff(self.background_threshold), particle - 1)


@dataclass(frozen=True)
class Assessment:
    """What is known of one image without its truth. Ratios in [0, 1]; the pixel counts add up over images."""

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


def label_map(probabilities: UInt8[np.ndarray, "height width"], selection: Selection) -> LabelMap:
    """The pseudo-label of one image: PARTICLE, BACKGROUND, and the doubtful as `uncertain_pixels` says."""
    particle, background = selection.cutoffs()
    doubtful = IGNORE if selection.uncertain_pixels == "ignore" else BACKGROUND
    table = np.full(256, doubtful, dtype=np.uint8)
    table[: background + 1] = BACKGROUND
    table[particle:] = PARTICLE
    labels: LabelMap = table[probabilities]
    return labels


def probability_counts(probabilities: UInt8[np.ndarray, "height width"]) -> ProbabilityCounts:
    """Pixels of each stored probability 0..255."""
    return np.bincount(probabilities.ravel(), minlength=256).astype(np.int64)


def assess(
    probabilities: UInt8[np.ndarray, "height width"], selection: Selection, *, target_ratio: float
) -> Assessment:
    """Quality of one image and its terms; target_ratio in (0, 1]. One pass over the map: see `assess_counts`."""
    return assess_counts(probability_counts(probabilities), selection, target_ratio=target_ratio)


def assess_counts(counts: ProbabilityCounts, selection: Selection, *, target_ratio: float) -> Assessment:
    """Quality of one image from its histogram, as docs/method.md defines it.

    particle_confidence = mean p of PARTICLE pixels, background_confidence = mean 1 - p of the pixels confident to be
    BACKGROUND, 0 where there is none; mean_confidence = mean max(p, 1 - p) of all pixels;
    balance = max(0, 1 - |r - t| / t) with r = PARTICLE pixels / all pixels and t = target_ratio; quality = the weighted
    sum. Doubtful pixels stay in the denominator of r, so that `ignore` and `background` select the same images.
    Sums are integers and each ratio is divided once, so a mean of exactly 0.70 passes a threshold of 0.70.

    Raises ValueError for an empty image or a target_ratio outside (0, 1].
    """
    pixels = int(counts.sum())
    if pixels == 0:
        raise ValueError("an image without pixels has no quality")
    if not 0 < target_ratio <= 1:
        raise ValueError(f"the target particle ratio lies above 0 and up to 1, got {target_ratio}")
    p8 = np.arange(256)
    particle, background = selection.cutoffs()
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
        quality=weights.confidence * mean_confidence + weights.particle * particle_confidence
        + weights.background * background_confidence + weights.balance * balance,
        particle_confidence=particle_confidence,
        background_confidence=background_confidence,
        mean_confidence=mean_confidence,
        balance=balance,
        particle_ratio=particle_ratio,
        ignored_fraction=ignored_pixels / pixels,
        pixels=pixels,
        particle_pixels=particle_pixels,
        ignored_pixels=ignored_pixels,
    )


def select(assessments: Mapping[str, Assessment], selection: Selection, *, labelled_count: int) -> tuple[str, ...]:
    """Ids of the images that become pseudo-labels, best quality first, ties by id.

    The answer does not depend on the order of the mapping, and a larger quota keeps a superset.
    """
    ranked = sorted(assessments, key=lambda item: (-assessments[item].quality, item))
    if isinstance(selection.keep, AllAbove):
        threshold = selection.keep.threshold
        return tuple(item for item in ranked if assessments[item].quality >= threshold)
    return tuple(ranked[: selection.keep.limit(labelled_count)])


@dataclass(frozen=True)
class SelectionSummary:
    """What one selection did. None where nothing was selected.

    `pool`: images assessed; `candidates`: images that the rules admit before the quota; `count`: images kept.
    `particle_ratio`: PARTICLE / all pixels of the kept images, pooled, the ratio that `balance` steers;
    `particle_ratio_valid`: PARTICLE / valid pixels, the ratio that the student sees. The means are over kept images.
    """

    pool: int
    candidates: int
    count: int
    labelled_count: int
    per_labelled: float
    target_ratio: float
    particle_ratio: float | None
    particle_ratio_valid: float | None
    particle_ratio_by_source: Mapping[str, float]
    ignored_fraction: float | None
    quality: float | None
    mean_confidence: float | None
    particle_confidence: float | None
    background_confidence: float | None
    balance: float | None


def summarise(
    assessments: Mapping[str, Assessment],
    chosen: tuple[str, ...],
    selection: Selection,
    *,
    labelled_count: int,
    target_ratio: float,
    sources: Mapping[str, str],
) -> SelectionSummary:
    """Summary of what `select` returned; `sources` maps item id -> source. labelled_count >= 1."""
    kept = [assessments[item] for item in chosen]
    by_source: dict[str, list[Assessment]] = {}
    for item in chosen:
        by_source.setdefault(sources[item], []).append(assessments[item])
    pixels = sum(one.pixels for one in kept)
    particle = sum(one.particle_pixels for one in kept)
    ignored = sum(one.ignored_pixels for one in kept)
    return SelectionSummary(
        pool=len(assessments),
        candidates=len(chosen) if isinstance(selection.keep, AllAbove) else len(assessments),
        count=len(chosen),
        labelled_count=labelled_count,
        per_labelled=len(chosen) / labelled_count,
        target_ratio=target_ratio,
        particle_ratio=particle / pixels if pixels else None,
        particle_ratio_valid=particle / (pixels - ignored) if pixels > ignored else None,
        particle_ratio_by_source={source: _pooled_ratio(images) for source, images in sorted(by_source.items())},
        ignored_fraction=ignored / pixels if pixels else None,
        quality=_mean([one.quality for one in kept]),
        mean_confidence=_mean([one.mean_confidence for one in kept]),
        particle_confidence=_mean([one.particle_confidence for one in kept]),
        background_confidence=_mean([one.background_confidence for one in kept]),
        balance=_mean([one.balance for one in kept]),
    )


def _decimal(number: float) -> Fraction:
    """The number as it is written: 0.7 is 7/10, not the binary fraction a little below it."""
    return Fraction(str(float(number)))


def _mean_of_255(counts: Int64[np.ndarray, " bins"], values: Int64[np.ndarray, " bins"]) -> float:
    """Mean of values / 255 over counted pixels, 0 without a pixel; integers up to the one division, which is exact."""
    pixels = int(counts.sum())
    return int((counts * values).sum()) / (255 * pixels) if pixels else 0.0


def _pooled_ratio(images: list[Assessment]) -> float:
    return sum(one.particle_pixels for one in images) / sum(one.pixels for one in images)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
