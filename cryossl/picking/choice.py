"""Which candidates become picks: a threshold, a mean number, a spacing, a limit for each. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from cryossl.evaluation.picking import FULL_SCORE, Picks


@dataclass(frozen=True)
class Choice:
    """Picks are the candidates with this score or more, at most so many of a micrograph.

    `spacing` is the least distance of two picks in diameters of a particle; at 0 the picker's own
    holds alone.
    """

    threshold16: int
    most: int | None = None
    spacing: float = 0.0

    def of(self, candidates: Picks, *, diameter_px: float) -> Picks:
        """The picks among candidates, which are sorted best first.

        `diameter_px` is that of a particle, in the px of the centres.
        """
        candidates = spaced(candidates, self.spacing * diameter_px)
        count = int(np.count_nonzero(candidates.scores >= self.threshold16))
        kept = slice(count if self.most is None else min(count, self.most))
        return Picks(candidates.centres[kept], candidates.scores[kept])


def spaced(candidates: Picks, spacing_px: float) -> Picks:
    """The candidates that keep the spacing from all better ones that remain.

    Which ones remain above a threshold does not depend on those below it.
    """
    if spacing_px <= 0 or not len(candidates.scores):
        return candidates
    near = cKDTree(candidates.centres).query_ball_point(
        candidates.centres, np.nextafter(spacing_px, 0)
    )
    kept = np.ones(len(candidates.scores), np.bool_)
    for number, others in enumerate(near):
        if kept[number]:
            kept[[other for other in others if other > number]] = False
    return Picks(candidates.centres[kept], candidates.scores[kept])


def threshold_of(score: float) -> int:
    """A score in [0, 1] as candidates have it."""
    return round(score * FULL_SCORE)


def expecting(all_of_them: Iterable[Picks], mean_count: float) -> int:
    """The lowest threshold with which the mean number of picks is at most `mean_count`.

    At least 1 candidate step; the micrographs are passed once, in constant memory.
    """
    histogram = np.zeros(FULL_SCORE + 2, np.int64)
    micrographs = 0
    for candidates in all_of_them:
        micrographs += 1
        histogram += np.bincount(candidates.scores, minlength=FULL_SCORE + 2)
    above = np.cumsum(histogram[::-1])[::-1]  # above[t]: candidates with a score of t or more
    return int(np.argmax(above <= mean_count * micrographs))
