"""Evaluations -> the numbers that are tracked: counts are added over micrographs first and divided last. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from cryossl.metrics import HALF, Counts, best_threshold, counts_at

WITHOUT_BORDER, WITH_BORDER = 0, 1

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """Probability histograms of one model on some micrographs.

    `histograms[i, b, c, v]` counts the pixels of micrograph i whose true class is c (BACKGROUND, PARTICLE) and whose p8
    is v; with b = 0 the unlabelled border band is left out, with b = 1 it counts as labelled.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    histograms: Int64[np.ndarray, "micrographs 2 2 256"]

    def pooled(self, *, border: int = WITHOUT_BORDER) -> Int64[np.ndarray, "2 256"]:
        """The histogram of all micrographs together."""
        total: Int64[np.ndarray, "2 256"] = self.histograms[:, border].sum(axis=0)
        return total

    def decision_threshold(self) -> int:
        """The p8 from which a pixel is called PARTICLE so that pooled F1 is highest. Only ever asked of validation."""
        return best_threshold(self.pooled())

    def micrograph_counts(self, threshold8: int) -> tuple[Counts, ...]:
        """True positives, false positives and false negatives of each micrograph, the border left out."""
        return tuple(counts_at(histogram, threshold8) for histogram in self.histograms[:, WITHOUT_BORDER])


def scores(evaluation: Evaluation, threshold8: int) -> Numbers:
    """Pixel precision, recall and F1 (percent-free, in [0, 1]; None where undefined) under the names they are tracked by."""
    pooled = counts_at(evaluation.pooled(), threshold8).scores()
    numbers: Numbers = {"f1": pooled.f1, "precision": pooled.precision, "recall": pooled.recall}
    numbers["f1_at_half"] = counts_at(evaluation.pooled(), HALF).scores().f1
    numbers["f1_with_border"] = counts_at(evaluation.pooled(border=WITH_BORDER), threshold8).scores().f1
    by_source = source_counts(evaluation, threshold8)
    per_source = {source: counts.scores().f1 for source, counts in by_source.items()}
    defined = [f1 for f1 in per_source.values() if f1 is not None]
    numbers["f1_source_mean"] = sum(defined) / len(defined) if defined else None
    numbers.update({f"f1/{source}": f1 for source, f1 in per_source.items()})
    return numbers


def source_counts(evaluation: Evaluation, threshold8: int) -> dict[str, Counts]:
    """Source -> counts added over its micrographs, sources in alphabetical order."""
    totals = {source: Counts(0, 0, 0) for source in sorted(set(evaluation.sources))}
    for source, counts in zip(evaluation.sources, evaluation.micrograph_counts(threshold8), strict=True):
        totals[source] += counts
    return totals
