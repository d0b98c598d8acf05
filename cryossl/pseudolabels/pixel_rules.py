"""Probabilities -> what a pixel is taken for: cut-offs, portions of a class, rings, and weights of soft targets. Pure.

All of it acts on stored probabilities, p8 = round(255 p), and compares integers. What concerns a
whole pool or source follows from its histogram of 256 bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from scipy import ndimage

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE, LabelMap

ProbabilityCounts = Int64[np.ndarray, "256"]
Cutoffs = tuple[int, int]
"""(a, b): PARTICLE at p8 >= a, BACKGROUND at p8 <= b, doubtful between."""

LARGEST_SOFT = 254
"""Soft targets are stored as p8, 255 taken for 254, because 255 is IGNORE."""


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """What the numbers of a map mean that holds probabilities, p8 up to 254, in place of labels: a weight for each value.

    A pixel of value v is to be learned as p = v / 255 with weight `weights[v]`; 255 is IGNORE, of
    weight 0.
    """

    weights: Float32[np.ndarray, "256"]


def particle_cutoff(threshold: float) -> int:
    """The smallest p8 with p8 / 255 >= threshold, in exact arithmetic; threshold in [0, 1].

    The threshold means the decimal that was typed: 0.70 is 7/10, so 255 x 0.70 = 178.5 and the
    cut-off is 179; 0.60 gives exactly 153. Since p8 = round(255 p), a cut-off c acts on the
    network's own probability at (c - 1/2) / 255.
    """
    return ceil(255 * decimal_of(threshold))


def background_cutoff(threshold: float) -> int:
    """The largest p8 with 1 - p8 / 255 >= threshold, in exact arithmetic; -1 if there is none; threshold in [0, 1].

    0.80 gives exactly 51, where 255 * (1 - 0.8) in floating point is 50.99999999999999; 0.70 gives
    76.
    """
    return floor(255 * (1 - decimal_of(threshold)))


def probability_counts(probabilities: UInt8[np.ndarray, "height width"]) -> ProbabilityCounts:
    """Pixels of each stored probability 0..255."""
    return np.bincount(probabilities.ravel(), minlength=256).astype(np.int64)


def portion_cutoffs(counts: ProbabilityCounts, *, prior: float, portion: float) -> Cutoffs:
    """Cut-offs that label a portion of each class, the classes being as frequent as the prior says.

    BACKGROUND is the bottom portion x (1 - prior) of all pixels, PARTICLE the top portion x prior.
    Stored probabilities have ties: for BACKGROUND the lowest cut-off is taken that reaches its
    portion, for its bulk often lies at p8 = 0 and 1; PARTICLE then gets the portion that BACKGROUND
    came to, 1 at most, by the cut-off that comes nearest to it, the higher of equals. So the
    labelled part sets the ratio of the classes, not the teacher: CBST, Zou et al. (2018), with the
    prior in place of the teacher's own frequencies.

    Args:
        counts: pixels of each p8 in a source, at least one.
        prior: particle ratio of the source, in (0, 1).
        portion: of each class, in (0, 1]; the least of it.

    Returns:
        (a, b) with a in 1..256 and b in 0..255; they may overlap if the portions do.
    """
    share = np.cumsum(counts) / counts.sum()
    above = 1 - share  # above[v]: share of p8 > v, so of p8 >= v + 1
    background = min(int(np.searchsorted(share, portion * (1 - prior) - 1e-12)), 255)
    wanted = min(1.0, max(portion, float(share[background]) / (1 - prior))) * prior
    cutoffs = np.arange(1, 257)
    distances = np.abs(above[cutoffs - 1] - wanted)
    return int(cutoffs[np.flatnonzero(distances == distances.min())[-1]]), background


def prior_cutoff(counts: ProbabilityCounts, *, prior: float) -> int:
    """The p8 above which as many pixels lie as the prior says are particle, clipped to p in [0.3, 0.7]."""
    particle, _ = portion_cutoffs(counts, prior=prior, portion=1.0)
    return min(max(particle, particle_cutoff(0.3)), particle_cutoff(0.7))


def with_ring(labels: LabelMap, *, ring_px: int) -> LabelMap:
    """The label map with IGNORE on every BACKGROUND pixel within `ring_px` (Chebyshev distance) of a PARTICLE pixel."""
    near = ndimage.maximum_filter(
        (labels == PARTICLE).astype(np.uint8), size=2 * ring_px + 1, mode="constant"
    )
    ringed: LabelMap = np.where((near == 1) & (labels == BACKGROUND), np.uint8(IGNORE), labels)
    return ringed


def soft_weights(counts: ProbabilityCounts) -> Float64[np.ndarray, "256"]:
    """Weight in [0, 1] of a pixel by its p8:

    SoftMatch's truncated Gaussian of confidence, for each class its own.

    With c = max(p, 1 - p), and mu_y, v_y mean and variance of c over the pixels of class y
    (PARTICLE at p8 >= 128): exp(-min(0, c - mu_y)^2 / (2 v_y / 4)). Chen et al. (2023), arXiv
    2301.10921, where one mu and v serve all classes: at 4% foreground they would be those of the
    background alone.
    """
    p = np.arange(256) / 255
    confidence = np.maximum(p, 1 - p)
    weights = np.ones(256)
    for members in (np.arange(256) < 128, np.arange(256) >= 128):
        n = counts[members].sum()
        if n:
            mean = float((counts * confidence)[members].sum() / n)
            variance = float((counts * (confidence - mean) ** 2)[members].sum() / n)
            short = np.minimum(0.0, confidence[members] - mean)
            weights[members] = np.exp(-(short**2) / max(variance / 2, 1e-12))
    return weights


def soft_codes(
    probabilities: UInt8[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width"]:
    """The map of soft targets: p8 up to LARGEST_SOFT."""
    codes: UInt8[np.ndarray, "height width"] = np.minimum(probabilities, np.uint8(LARGEST_SOFT))
    return codes


def to_labels(codes: UInt8[np.ndarray, "height width"]) -> LabelMap:
    """A map of soft targets as labels, to be looked at and audited: PARTICLE at p8 >= 128."""
    hard: LabelMap = np.where(codes == IGNORE, np.uint8(IGNORE), (codes >= 128).astype(np.uint8))
    return hard


def agreement(maps: list[UInt8[np.ndarray, "height width"]], *, cutoff: int) -> float:
    """Mean Dice of the earlier maps with the last one at a p8 cut-off, in [0, 1]; two empty maps agree wholly.

    Yang et al. (2022), ST++ (arXiv 2106.05095), where it is the mean IoU of the checkpoints of a
    training with its last.
    """
    *earlier, last = [each >= cutoff for each in maps]
    found = []
    for each in earlier:
        total = int(each.sum()) + int(last.sum())
        found.append(2 * int((each & last).sum()) / total if total else 1.0)
    return sum(found) / len(found)


def decimal_of(number: float) -> Fraction:
    """The number as it is written: 0.7 is 7/10, not the binary fraction a little below it."""
    return Fraction(str(float(number)))
