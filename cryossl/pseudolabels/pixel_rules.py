"""Pixel rules: which pixels are PARTICLE, BACKGROUND or IGNORE, and the weights of soft targets.

All rules act on stored probabilities, p8 = round(255 p), so they compare integers. A rule for a
whole pool or source uses its histogram of 256 bins.

To add a pixel rule, write its function here, add a field to `selection.Selection`, and apply it in
`Selection.cutoffs` (a rule of cut-offs) or in `selection.label_map` (a rule of neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from scipy import ndimage

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE, LabelMap
from cryossl.evaluation.metrics import HALF

ProbabilityCounts = Int64[np.ndarray, "256"]
Cutoffs = tuple[int, int]
"""(a, b): PARTICLE at p8 >= a, BACKGROUND at p8 <= b, doubtful between."""

LARGEST_SOFT = 254
"""Soft targets are stored as p8, 255 taken for 254, because 255 is IGNORE."""


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """The weights of a map that holds probabilities instead of labels.

    A pixel with value v, 0 to 254, is learned as p = v / 255 with weight `weights[v]`. The value
    255 is IGNORE and has weight 0.
    """

    weights: Float32[np.ndarray, "256"]


def particle_cutoff(threshold: float) -> int:
    """The smallest p8 with p8 / 255 >= threshold, in exact arithmetic; threshold in [0, 1].

    The threshold is the decimal that was written: 0.70 is 7/10, so 255 x 0.70 = 178.5 and the
    cut-off is 179; 0.60 gives exactly 153. Since p8 = round(255 p), a cut-off c corresponds to the
    network's own probability (c - 1/2) / 255.
    """
    return ceil(255 * decimal_of(threshold))


def background_cutoff(threshold: float) -> int:
    """The largest p8 with 1 - p8 / 255 >= threshold, in exact arithmetic; threshold in [0, 1].

    It is -1 if there is none. 0.80 gives exactly 51, although 255 * (1 - 0.8) in floating point is
    50.99999999999999; 0.70 gives 76.
    """
    return floor(255 * (1 - decimal_of(threshold)))


def probability_counts(probabilities: UInt8[np.ndarray, "height width"]) -> ProbabilityCounts:
    """Pixels of each stored probability 0..255."""
    return np.bincount(probabilities.ravel(), minlength=256).astype(np.int64)


def portion_cutoffs(counts: ProbabilityCounts, *, prior: float, portion: float) -> Cutoffs:
    """Cut-offs that label a portion of each class, with the class frequencies of the prior.

    BACKGROUND is the lowest portion x (1 - prior) of all pixels, PARTICLE the highest portion x
    prior. Stored probabilities have ties, so a portion is seldom reached exactly. BACKGROUND gets
    the lowest cut-off that reaches its portion: most of its pixels often have p8 = 0 or 1.
    PARTICLE then gets the portion that BACKGROUND has reached, at most 1, by the nearest cut-off,
    the higher one of two equals.

    So the labelled part sets the ratio of the classes, not the teacher. This is CBST, Zou et al.
    (2018), with the prior in place of the teacher's own frequencies.

    Args:
        counts: pixels of each p8 in a source, at least one pixel.
        prior: particle ratio of the source, in (0, 1).
        portion: of each class to label at least, in (0, 1].

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
    """The p8 at which the teacher's particle ratio equals the prior, clipped to p in [0.3, 0.7]."""
    particle, _ = portion_cutoffs(counts, prior=prior, portion=1.0)
    return min(max(particle, particle_cutoff(0.3)), particle_cutoff(0.7))


def with_ring(labels: LabelMap, *, ring_px: int) -> LabelMap:
    """The label map with IGNORE on each BACKGROUND pixel near a PARTICLE pixel.

    Near is a Chebyshev distance of at most `ring_px`.
    """
    near = ndimage.maximum_filter(
        (labels == PARTICLE).astype(np.uint8), size=2 * ring_px + 1, mode="constant"
    )
    ringed: LabelMap = np.where((near == 1) & (labels == BACKGROUND), np.uint8(IGNORE), labels)
    return ringed


def soft_weights(counts: ProbabilityCounts) -> Float64[np.ndarray, "256"]:
    """The weight in [0, 1] of a pixel with each p8: a truncated Gaussian of its confidence.

    With c = max(p, 1 - p), and mu_y, v_y the mean and variance of c over the pixels of class y
    (PARTICLE at p8 >= 128), the weight is exp(-min(0, c - mu_y)^2 / (2 v_y / 4)). This is
    SoftMatch, Chen et al. (2023), arXiv 2301.10921, with a mean and variance for each class. One
    pair for both classes, as in the paper, would be that of the background at 4% foreground.
    """
    p = np.arange(256) / 255
    confidence = np.maximum(p, 1 - p)
    weights = np.ones(256)
    for members in (np.arange(256) < HALF, np.arange(256) >= HALF):
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
    """A map of soft targets as labels, for pictures and the audit: PARTICLE at p8 >= 128."""
    hard: LabelMap = np.where(codes == IGNORE, np.uint8(IGNORE), (codes >= HALF).astype(np.uint8))
    return hard


def agreement(maps: list[UInt8[np.ndarray, "height width"]], *, cutoff: int) -> float:
    """Mean Dice of the earlier maps with the last one at a p8 cut-off, in [0, 1].

    The Dice of two maps without a particle pixel is 1. Yang et al. (2022), ST++ (arXiv 2106.05095),
    use the mean IoU of the checkpoints of a training with its last checkpoint.
    """
    *earlier, last = [each >= cutoff for each in maps]
    found = []
    for each in earlier:
        total = int(each.sum()) + int(last.sum())
        found.append(2 * int((each & last).sum()) / total if total else 1.0)
    return sum(found) / len(found)


def decimal_of(number: float) -> Fraction:
    """The number as it is written: 0.7 is 7/10, not the nearest binary fraction."""
    return Fraction(str(float(number)))
