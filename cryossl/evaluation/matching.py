"""Picks against true particles: hits, counts, the best threshold and average precision.

A pick can be a pair with a particle if their centres are at most a limit apart, and each is in one
pair at most. The largest number of pairs is the solution of a matching problem and is unique, so
the counts do not depend on which pick is paired with which particle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt16
from scipy.spatial import KDTree

from cryossl.evaluation.metrics import Counts
from cryossl.evaluation.picking import FULL_SCORE, Picks


@dataclass(frozen=True, eq=False)
class Ranked:
    """The picks of one micrograph, best first: their scores, and whether each is a hit.

    `truths` is the number of particles. Of the picks at or above any threshold, as many are hits as
    can be paired with a particle each.
    """

    scores: UInt16[np.ndarray, " picks"]
    hits: Bool[np.ndarray, " picks"]
    truths: int

    def counts_at(self, threshold16: int) -> Counts:
        """Counts of particles, with the picks of score `threshold16` or more."""
        chosen = self.hits[self.scores >= threshold16]
        tp = int(np.count_nonzero(chosen))
        return Counts(tp=tp, fp=len(chosen) - tp, fn=self.truths - tp)


def rank(picks: Picks, truths: Float64[np.ndarray, "truths 2"], *, limit_px: float) -> Ranked:
    """Match picks, best first, and particles one to one, each pair at most `limit_px` apart.

    A pick is a hit if the largest matching of the picks up to it has one pair more than that of the
    picks before it. The sets of picks that can be matched together are the independent sets of a
    matroid (Edmonds and Fulkerson 1965), so for every n the hits among the best n picks are a
    largest matching of them. Each pick takes one search for an augmenting path.
    """
    reachable = _reachable(picks.centres, truths, limit_px)
    owner: dict[int, int] = {}
    held: dict[int, int] = {}
    found = [
        bool(near) and _augment(number, reachable, owner, held)
        for number, near in enumerate(reachable)
    ]
    return Ranked(picks.scores, np.array(found, np.bool_), len(truths))


def best_threshold(ranked: Sequence[Ranked]) -> int:
    """The threshold16 with the highest F1 over all micrographs; of several, the highest.

    F1 is compared exactly, over the scores of all picks. Without a hit all thresholds are equal,
    and the result is one half of the full score.
    """
    scores, hits, truths = _pooled(ranked)
    tp = np.cumsum(hits)
    last = _ends(scores)
    best, answer = (0, 1), round(FULL_SCORE / 2)
    for picked, found, score in zip(
        (last + 1).tolist(), tp[last].tolist(), scores[last].tolist(), strict=True
    ):
        # F1 = 2 tp / (picks + truths); the fractions are compared crosswise, without rounding.
        if found * best[1] > best[0] * (picked + truths):
            best, answer = (found, picked + truths), score
    return answer


def average_precision(ranked: Sequence[Ranked]) -> float | None:
    """Sum over thresholds of (rise in recall) x precision; None without a particle.

    The picks of all micrographs are ranked together. It is scikit-learn's `average_precision_score`
    with the recall of all particles: a particle that no pick reaches is missed at every threshold.
    """
    scores, hits, truths = _pooled(ranked)
    if not truths:
        return None
    last = _ends(scores)
    tp = np.cumsum(hits)[last]
    rise = np.diff(tp, prepend=0)
    return float(np.sum(rise * tp / (last + 1)) / truths)


def _reachable(
    centres: Float32[np.ndarray, "picks 2"],
    truths: Float64[np.ndarray, "truths 2"],
    limit_px: float,
) -> list[list[int]]:
    """For each pick the indices of the particles within the limit."""
    if not len(centres) or not len(truths):
        return [[] for _ in centres]
    return [list(near) for near in KDTree(truths).query_ball_point(centres, limit_px)]


def _augment(
    start: int, reachable: Sequence[Sequence[int]], owner: dict[int, int], held: dict[int, int]
) -> bool:
    """Match one more pick, if necessary by pairing earlier picks with other particles.

    The matching is `owner`, particle -> pick, and `held`, pick -> particle.
    """
    reached_by: dict[int, int] = {}
    waiting = deque([start])
    while waiting:
        pick = waiting.popleft()
        for particle in reachable[pick]:
            if particle in reached_by:
                continue
            reached_by[particle] = pick
            if particle not in owner:
                _hand_over(particle, reached_by, owner, held)
                return True
            waiting.append(owner[particle])
    return False


def _hand_over(
    free: int, reached_by: dict[int, int], owner: dict[int, int], held: dict[int, int]
) -> None:
    particle: int | None = free
    while particle is not None:
        pick = reached_by[particle]
        owner[particle] = pick
        before, held[pick] = held.get(pick), particle
        particle = before


def _pooled(
    ranked: Sequence[Ranked],
) -> tuple[UInt16[np.ndarray, " n"], Bool[np.ndarray, " n"], int]:
    """The scores of all picks, best first, whether each is a hit, and the number of particles."""
    scores = np.concatenate([np.zeros(0, np.uint16), *(one.scores for one in ranked)])
    hits = np.concatenate([np.zeros(0, np.bool_), *(one.hits for one in ranked)])
    order = np.argsort(-scores.astype(np.int64), kind="stable")
    return scores[order], hits[order], sum(one.truths for one in ranked)


def _ends(scores: UInt16[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Indices of the last pick of each score, because picks of one score have one threshold."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)]).astype(
        np.int64
    )
