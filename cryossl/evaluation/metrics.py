"""Counts first, ratios last: precision, recall and F1 of pixels, and the decision threshold.

Confusion counts and histograms over the 256 values of a stored probability are integers. They add
up over micrographs in any order without rounding, and one pass over a map gives the counts at all
255 thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int64, UInt8

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE, LabelMap

Histogram = Int64[np.ndarray, "2 256"]

HALF = 128
"""The cut-off of p >= 0.5: the smallest p8 with p8 / 255 >= 1 / 2."""

Numbers = dict[str, float | None]
"""Metric name -> value; None where the value is undefined."""


@dataclass(frozen=True)
class Scores:
    """Ratios in [0, 1]; None if the denominator is zero, which means undefined, not zero."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives. Counts add; scores do not."""

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Counts) -> Counts:
        """The counts of both parts together."""
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def exact_f1(self) -> Fraction | None:
        """2 tp / (2 tp + fp + fn) without rounding; None if all three are zero."""
        total = 2 * self.tp + self.fp + self.fn
        return Fraction(2 * self.tp, total) if total else None

    def scores(self) -> Scores:
        """Precision tp / (tp + fp), recall tp / (tp + fn) and F1 2 tp / (2 tp + fp + fn)."""
        return Scores(
            precision=_ratio(self.tp, self.tp + self.fp),
            recall=_ratio(self.tp, self.tp + self.fn),
            f1=_ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn),
        )


def pooled(counts: Iterable[Counts]) -> Counts:
    """The sum of all counts; zeros if there are none."""
    return sum(counts, start=Counts(0, 0, 0))


def histogram(probabilities: UInt8[np.ndarray, "height width"], label_map: LabelMap) -> Histogram:
    """Valid pixels by (true class, p8): row 0 BACKGROUND, row 1 PARTICLE; IGNORE is in neither.

    One `bincount` over both maps, a few milliseconds for 1024 x 1024. Raises ValueError if the
    label map has a value that is no label.
    """
    pairs = (label_map.astype(np.uint16) << 8) | probabilities
    table = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    if int(table[[BACKGROUND, PARTICLE, IGNORE]].sum()) != probabilities.size:
        raise ValueError("the label map has values other than BACKGROUND, PARTICLE and IGNORE")
    counted: Histogram = table[[BACKGROUND, PARTICLE]].astype(np.int64)
    return counted


def counts_at(histogram: Histogram, threshold8: int) -> Counts:
    """Counts if a pixel is predicted PARTICLE at p8 >= threshold8; threshold8 in 0..255.

    Raises ValueError for another threshold.
    """
    if not 0 <= threshold8 <= 255:
        raise ValueError(f"threshold8 is a stored probability, 0..255, got {threshold8}")
    negative, positive = histogram[0], histogram[1]
    return Counts(
        tp=int(positive[threshold8:].sum()),
        fp=int(negative[threshold8:].sum()),
        fn=int(positive[:threshold8].sum()),
    )


def best_threshold(histogram: Histogram) -> int:
    """The threshold8 in 1..255 with the highest F1.

    Of several it is the one nearest to 128, then the lower one. F1 is compared as a fraction of
    integers, without a grid and without rounding. Without a PARTICLE pixel every F1 is zero or
    undefined, and the result is 128.
    """
    exact = {
        threshold8: counts_at(histogram, threshold8).exact_f1() or Fraction(0)
        for threshold8 in range(1, 256)
    }
    return max(
        exact, key=lambda threshold8: (exact[threshold8], -abs(threshold8 - HALF), -threshold8)
    )


def f1_cap(pseudo_ratio: float, true_ratio: float) -> float:
    """The highest F1 of masks with particle ratio `pseudo_ratio` if the truth has `true_ratio`.

    At best the smaller region lies inside the larger one: tp = min(r, t) and 2 tp + fp + fn = r +
    t, hence 2 min(r, t) / (r + t). With 2% against 4% it is 0.667. Raises ValueError unless 0 <= r
    <= 1 and 0 < t <= 1.
    """
    if not (0 <= pseudo_ratio <= 1 and 0 < true_ratio <= 1):
        raise ValueError(
            f"particle ratios lie in [0, 1], the true one above 0; got {pseudo_ratio} and "
            f"{true_ratio}"
        )
    return 2 * min(pseudo_ratio, true_ratio) / (pseudo_ratio + true_ratio)


def audit(pseudo_label: LabelMap, truth: LabelMap) -> Counts:
    """Counts of a pseudo-label against the hidden truth, over the pixels that are valid in both.

    A doubtful pixel is not learned, so it is not a miss either: read the result together with the
    ignored fraction. Only for reports; neither training nor selection may use it.
    """
    said, there = pseudo_label == PARTICLE, truth == PARTICLE
    valid = (pseudo_label != IGNORE) & (truth != IGNORE)
    return Counts(
        tp=int(np.count_nonzero(said & there)),
        fp=int(np.count_nonzero(valid & said & ~there)),
        fn=int(np.count_nonzero(valid & ~said & there)),
    )


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None
