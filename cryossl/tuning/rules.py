"""What a trial is worth, and when it is given up: rules on curves of validation F1. Pure.

A trial trains on its seeds one after the other. Each seed has three points: half and three quarters
of the first student's training, and the seed's value. A point's value is the mean of the values of
the seeds before and of the best validation F1 so far in this one, so that trials are compared at
equal work on equal seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

SHARES = (0.5, 0.75)
"""Shares of the first student's training at which a trial is compared with earlier ones."""
POINTS = len(SHARES) + 1
"""Points of a seed."""
LEAST_COMPLETE = 4
"""A trial is compared with so many complete ones or more."""

Record = tuple[int, float, float | None]
"""An epoch counted from 1, the share of steps that is done then, and validation F1 if scored."""
Points = Mapping[int, float]
"""Number of a point, counted through all seeds -> its value."""


def best_at(records: Sequence[Record], share: float) -> tuple[bool, float | None]:
    """Whether a training has come so far, and its best validation F1 until then.

    The epoch in which the share is reached counts whole. With a gap in the epochs it has not come
    anywhere: that of an earlier start is known when the training ends.
    """
    best = None
    for place, (epoch, done, f1) in enumerate(sorted(records), start=1):
        if epoch != place:
            return False, None
        best = f1 if best is None else max(best, f1 or 0.0)
        if done >= share:
            return True, best
    return False, None


def point_value(finished: Sequence[float], present: float) -> float:
    """The value of a point, from the values of the seeds before and this seed's F1 so far."""
    return (sum(finished) + present) / (len(finished) + 1)


def bars(complete: Sequence[Points], *, seeds: int) -> dict[int, float]:
    """Point -> the median of the complete trials: below it a trial is given up.

    This is the median rule of Golovin et al. 2017. The last point decides nothing, and no point
    does before LEAST_COMPLETE trials have it.
    """
    found = {}
    for point in range(POINTS * seeds - 1):
        known = [points[point] for points in complete if point in points]
        if len(known) >= LEAST_COMPLETE:
            found[point] = statistics.median(known)
    return found


def next_number(*, done: Sequence[int], begun: int, trials: int, window: int) -> int | None:
    """The number of a strategy's next trial; None if it has to wait, or there is no other.

    Args:
        done: numbers of the trials that have ended.
        begun: how many have begun.
        trials: how many there are to be.
        window: so many may be under way; trial n knows the ends of those up to n - window, and of
            no other, so that the order in which trials end decides nothing.
    """
    if begun >= trials or not set(range(begun - window + 1)) <= set(done):
        return None
    return begun
