"""Two arms paired by seed: their differences and the interval. Pure.

The interval comes from counts by bootstrap; without counts it is Student's t over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from analysis.runs.arms import Arm, TrackedModel, at_ratio, finished, run_ids_of
from analysis.runs.counts import ModelCounts, lacking_text
from analysis.stats.bootstrap import CountsArray, Level, Score, mean_score, paired_bootstrap
from analysis.stats.statistics import Differences, Interval, seed_interval
from cryossl.evaluation.scorings import plain

SCORES: Mapping[str, Score] = {
    "test/f1": "f1",
    "test/precision": "precision",
    "test/recall": "recall",
    "test/particle_f1": "f1",
    "test/particle_precision": "precision",
    "test/particle_recall": "recall",
}
# With 2,000 draws a standard error is known to 2%.
DRAWS = 2_000


@dataclass(frozen=True)
class Contrast:
    """One strategy against another at one ratio.

    `pairs` holds (seed, the model to beat, the model) where both were scored. `differences` are
    those of the metric, per seed, as fractions; `run_ids` are the runs behind them.
    """

    name: str
    pairs: tuple[tuple[int, TrackedModel, TrackedModel], ...]
    differences: Differences
    run_ids: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """Whether any pair has two models; without, no student was accepted in any seed."""
        return any(one is not other for _, one, other in self.pairs)


@dataclass(frozen=True)
class Estimate:
    """The difference of a contrast with its interval, as fractions.

    From counts: of the mean over seeds of each seed's score, and `levels` were resampled.
    `improvement` is the share of draws in which the second arm is better; `source_wins` is (sources
    in which it is better, sources compared). Without counts: of the mean over seeds; `why` says why
    counts were not used.
    """

    interval: Interval | None
    levels: tuple[Level, ...]
    improvement: float | None
    source_wins: tuple[int, int] | None
    why: str

    @property
    def method(self) -> str:
        """The levels that were resampled, or `seeds (t)` for Student's t."""
        if self.interval is None:
            return "none"
        return ", ".join(self.levels) if self.improvement is not None else "seeds (t)"


def contrasts(arms: Sequence[Arm], *, ratio: float, metric: str) -> Iterable[Contrast]:
    """Every strategy against the baseline, then class_balanced against naive."""
    for strategy, group in at_ratio(arms, ratio):
        if strategy != "supervised":
            yield against_baseline(group, metric=metric)
    naive = finished(arms, ratio_percent=ratio, strategy="naive")
    balanced = finished(arms, ratio_percent=ratio, strategy="class_balanced")
    yield between("class_balanced - naive", naive, balanced, metric=metric)


def between(
    name: str, ones: Mapping[int, Arm], others: Mapping[int, Arm], *, metric: str
) -> Contrast:
    """Arms against arms of the same seeds, others minus ones.

    Args:
        name: of the contrast.
        ones: seed -> the finished arm to beat.
        others: seed -> the finished arm.
        metric: that is compared.
    """
    shared = sorted(ones.keys() & others.keys())
    return _contrast(
        name,
        [(seed, ones[seed].final, others[seed].final) for seed in shared],
        metric,
        run_ids_of(arm for seed in shared for arm in (others[seed], ones[seed])),
    )


def against_baseline(group: Sequence[Arm], *, metric: str) -> Contrast:
    """The arms of one strategy at one ratio against their references."""
    scored = [arm for arm in group if arm.gain(metric) is not None]
    name = f"{group[0].strategy} - baseline" if group else "- baseline"
    return _contrast(
        name, [(arm.seed, arm.reference, arm.final) for arm in scored], metric, run_ids_of(scored)
    )


def estimate(contrast: Contrast, counts: Mapping[str, ModelCounts], *, metric: str) -> Estimate:
    """The estimate and its interval.

    Paired bootstrap if all models have counts of the same micrographs, else Student's t over seeds.
    `counts` are those by the scoring that the metric is of.
    """
    try:
        first, second, sources = _paired(contrast, counts, metric)
        _, codes = np.unique(np.array(sources), return_inverse=True)
        score = SCORES[plain(metric)]
        # A fixed seed: the same runs give the same table.
        found = paired_bootstrap(
            first,
            second,
            codes.astype(np.int64),
            score=score,
            draws=DRAWS,
            rng=np.random.default_rng(0),
        )
    except ValueError as error:
        return Estimate(seed_interval(contrast.differences), ("seeds",), None, None, str(error))
    wins = [
        mean_score(second[:, codes == code], score=score)
        - mean_score(first[:, codes == code], score=score)
        for code in range(int(codes.max()) + 1)
    ]
    known = [win for win in wins if not np.isnan(win)]
    return Estimate(
        found.interval if found.levels else None,
        found.levels,
        found.improvement,
        (sum(win > 0 for win in known), len(known)),
        "",
    )


def counts_behind(model: ModelCounts, metric: str) -> Int64[np.ndarray, "micrographs 3"] | None:
    """(tp, fp, fn) per micrograph from which a metric of `SCORES` is computed.

    Of particles for the particle metrics, else of pixels; None if not recorded.
    """
    return model.particles if metric.startswith("test/particle_") else model.counts


def run_ids_to_count(arms: Sequence[Arm]) -> list[str]:
    """The runs whose counts are needed: final model and reference of each finished arm."""
    return list(
        dict.fromkeys(run for arm in arms if arm.state == "finished" for run in arm.run_ids)
    )


def _contrast(
    name: str,
    pairs: Sequence[tuple[int, TrackedModel | None, TrackedModel | None]],
    metric: str,
    run_ids: tuple[str, ...],
) -> Contrast:
    known = [
        (seed, one, other)
        for seed, one, other in pairs
        if one and other and metric in one.metrics and metric in other.metrics
    ]
    values = [other.metrics[metric] - one.metrics[metric] for _, one, other in known]
    return Contrast(name, tuple(known), np.array(values, np.float64), run_ids)


def _paired(
    contrast: Contrast, counts: Mapping[str, ModelCounts], metric: str
) -> tuple[CountsArray, CountsArray, tuple[str, ...]]:
    """Both arms' counts, seeds by micrographs, and the sources. Raises ValueError with why not."""
    if plain(metric) not in SCORES:
        raise ValueError(f"{metric} is no ratio of the counts")
    runs = dict.fromkeys(model.run_id for _, *models in contrast.pairs for model in models)
    if not runs:
        raise ValueError("no pair")
    found = {
        run: behind
        for run in runs
        if run in counts and (behind := counts_behind(counts[run], metric)) is not None
    }
    if len(found) < len(runs):
        raise ValueError(
            lacking_text(runs, counts)
            or f"{len(runs) - len(found)} of {len(runs)} runs have no counts of particles"
        )
    first = counts[next(iter(runs))]
    if any((counts[run].ids, counts[run].sources) != (first.ids, first.sources) for run in runs):
        raise ValueError("the seeds have different test micrographs")
    one, other = (
        np.stack([found[pair[index].run_id] for _, *pair in contrast.pairs]) for index in (0, 1)
    )
    return one, other, first.sources
