"""Paired bootstrap over seeds, sources and micrographs, from integer counts. Pure.

The counts of both arms are drawn together. Each seed's counts are summed over its micrographs and
then divided, as for the score that a run logs; the statistic is the difference of the mean over
seeds, so its estimate is the gain that the other tables show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from analysis.stats.statistics import Interval, t_quantile

CountsArray = Int64[np.ndarray, "seeds micrographs 3"]
Sources = Int64[np.ndarray, "micrographs"]
Score = Literal["f1", "precision", "recall"]
Level = Literal["seeds", "sources", "micrographs"]

# score = weights over (tp, fp, fn): numerator, denominator
FORMULA: Mapping[Score, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "f1": ((2, 0, 0), (2, 1, 1)),
    "precision": ((1, 0, 0), (1, 1, 0)),
    "recall": ((1, 0, 0), (1, 0, 1)),
}


@dataclass(frozen=True)
class Difference:
    """Difference of two arms' mean scores, second minus first, as a fraction.

    `improvement` is the share of three-level draws in which the second arm is better, a tie
    counting half. `levels` are those that could be resampled: the interval covers the chance in
    these levels and in no other.
    """

    interval: Interval
    improvement: float
    degrees_of_freedom: float
    levels: tuple[Level, ...]


def mean_score(counts: CountsArray, *, score: Score) -> float:
    """Mean over seeds of precision, recall or F1 of (tp, fp, fn) summed over micrographs.

    In [0, 1]; NaN if it is undefined for a seed.
    """
    return float(_score(counts.sum(axis=1, dtype=np.int64).astype(np.float64), score).mean())


def paired_bootstrap(
    first: CountsArray,
    second: CountsArray,
    sources: Sources,
    *,
    score: Score = "f1",
    draws: int = 10_000,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Difference:
    """The interval of `second - first`, the difference of mean scores.

    The arms are paired by seed and micrograph.

    Args:
        first: (tp, fp, fn) of the first arm per seed and test micrograph.
        second: those of the second arm, same seeds and micrographs in the same order.
        sources: index of each micrograph's source, 0 and up.
        score: the score that is compared.
        draws: bootstrap draws per level.
        level: of the two-sided interval, in (0, 1).
        rng: draws the samples.

    The interval is estimate +- t * se. se^2 adds the bootstrap variances of seeds and of sources
    (of micrographs where there is one source: whole sources carry their micrographs' variance
    already), each drawn alone and multiplied by n / (n - 1); t has Satterthwaite's degrees of
    freedom. Percentiles of the three-level draws themselves are not used: with 6 seeds they covered
    80-95% instead of 95% (docs/statistics.md).

    Raises ValueError for shapes that do not pair, negative counts, or an undefined score.
    """
    _check(first, second, sources)
    estimate = mean_score(second, score=score) - mean_score(first, score=score)
    if not math.isfinite(estimate):
        raise ValueError(
            f"the {score} of a seed is undefined: no particle was predicted or none is there"
        )
    arms = np.stack([first, second]).astype(np.float64)
    groups = [np.flatnonzero(sources == source) for source in np.unique(sources)]
    sizes: dict[Level, int] = {"seeds": len(first), "sources": len(groups)}
    if len(groups) == 1:
        sizes = {"seeds": len(first), "micrographs": len(sources)}
    variances = {
        name: float(np.nanvar(_draw(arms, groups, (name,), score, draws, rng))) * n / (n - 1)
        for name, n in sizes.items()
        if n > 1
    }
    freedom = _satterthwaite([(variance, sizes[name] - 1) for name, variance in variances.items()])
    half = t_quantile(0.5 + level / 2, freedom) * math.sqrt(sum(variances.values()))
    if not variances:
        half = math.inf
    every = _draw(arms, groups, ("seeds", "sources", "micrographs"), score, draws, rng)
    improvement = float(np.nanmean(np.heaviside(every, 0.5)))
    return Difference(
        Interval(estimate, estimate - half, estimate + half),
        improvement,
        freedom,
        tuple(variances),
    )


def _satterthwaite(parts: list[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    return sum(variance for variance, _ in parts) ** 2 / spread if spread > 0 else math.inf


def _draw(
    arms: Float64[np.ndarray, "2 seeds micrographs 3"],
    groups: list[Int64[np.ndarray, "_"]],
    levels: tuple[Level, ...],
    score: Score,
    draws: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "draws"]:
    """Differences of the mean score with the named levels resampled.

    Drawn in blocks, so that memory stays small.
    """
    micrographs = arms.shape[2]
    block = max(1, min(draws, 4_000_000 // max(1, micrographs)))
    found = [
        _draw_block(arms, groups, levels, score, min(block, draws - start), rng)
        for start in range(0, draws, block)
    ]
    return np.concatenate(found)


def _draw_block(
    arms: Float64[np.ndarray, "2 seeds micrographs 3"],
    groups: list[Int64[np.ndarray, "_"]],
    levels: tuple[Level, ...],
    score: Score,
    draws: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "draws"]:
    seeds, micrographs = arms.shape[1:3]
    per_seed = np.ones((draws, seeds))
    if "seeds" in levels:
        per_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(np.float64)
    copies = np.ones((draws, len(groups)), dtype=np.int64)
    if "sources" in levels:
        copies = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=draws)
    per_micrograph = np.empty((draws, micrographs))
    for index, group in enumerate(groups):
        times = copies[:, index]
        # A source drawn c times brings c independent draws of its micrographs: one multinomial of c
        # n into n.
        per_micrograph[:, group] = (
            rng.multinomial(times * len(group), np.full(len(group), 1 / len(group)))
            if "micrographs" in levels
            else times[:, None]
        )
    scores = []
    for counts in arms:
        summed = per_micrograph @ counts.transpose(1, 0, 2).reshape(micrographs, seeds * 3)
        # Of a seed that is not drawn an undefined score does no harm.
        each = np.where(per_seed > 0, _score(summed.reshape(draws, seeds, 3), score), 0.0)
        scores.append((per_seed * each).sum(axis=1) / seeds)
    difference: Float64[np.ndarray, "draws"] = scores[1] - scores[0]
    return difference


def _score(counts: Float64[np.ndarray, "*any 3"], score: Score) -> Float64[np.ndarray, "*any"]:
    above, below = (counts @ np.array(weights, dtype=np.float64) for weights in FORMULA[score])
    ratio: Float64[np.ndarray, "*any"] = np.divide(
        above, below, out=np.full(below.shape, np.nan), where=below > 0
    )
    return ratio


def _check(first: CountsArray, second: CountsArray, sources: Sources) -> None:
    if first.shape != second.shape or first.shape[1] != len(sources):
        raise ValueError(
            f"the arms do not pair: {first.shape}, {second.shape} and {len(sources)} sources"
        )
    if first.size == 0:
        raise ValueError("there is no seed or no micrograph to compare")
    if first.min() < 0 or second.min() < 0:
        raise ValueError("a count is negative")
