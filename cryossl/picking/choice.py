"""Which candidates become picks: a threshold, a mean number, a limit for each micrograph. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cryossl.evaluation.picking import FULL_SCORE, Picks


@dataclass(frozen=True)
class Choice:
    """Picks are the candidates with this score or more, at most so many of a micrograph."""

    threshold16: int
    most: int | None

    def of(self, candidates: Picks) -> Picks:
        """The picks among candidates, which are sorted best first."""
        count = int(np.count_nonzero(candidates.scores >= self.threshold16))
        kept = slice(count if self.most is None else min(count, self.most))
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
