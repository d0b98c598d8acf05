"""The arms of a family by strategy, labelled part and values of the axes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.runs.arms import Arm, build_arms, by_arm, labelled_text, strategy_order
from analysis.runs.chosen_settings import Value
from analysis.runs.families import RATIO, Family
from cryossl.evaluation.scorings import Views
from cryossl.strategy_names import BASELINES


@dataclass(frozen=True)
class Level:
    """The arms of one strategy at one labelled part and one combination of values."""

    values: tuple[Value, ...]
    arms: tuple[Arm, ...]
    labelled: str
    default: bool = False

    def done(self, metric: str) -> dict[int, Arm]:
        """Seed -> the finished arm that has the metric."""
        return {arm.seed: arm for arm in self.arms if arm.value(metric) is not None}


@dataclass(frozen=True)
class Series:
    """One strategy at one labelled part over the values of the axes, in their order.

    `ratio` is None where the labelled part is an axis. `same`: all values give the same numbers.
    """

    ratio: float | None
    labelled: str
    strategy: str
    levels: tuple[Level, ...]
    same: bool

    @property
    def name(self) -> str:
        """`class_balanced at 5% (258)`."""
        return f"{self.strategy} at {self.labelled}" if self.labelled else self.strategy

    @property
    def default(self) -> Level | None:
        """The level of the default values, None where it was not run."""
        return next((level for level in self.levels if level.default), None)

    @property
    def seeds(self) -> list[int]:
        """The seeds that any of the levels has."""
        return sorted({arm.seed for level in self.levels for arm in level.arms})

    def finished(self, metric: str) -> list[Level]:
        """The levels at which any seed has finished."""
        return [level for level in self.levels if level.done(metric)]

    def everywhere(self, metric: str) -> list[int]:
        """The seeds that have finished at all levels at which any has."""
        found = [set(level.done(metric)) for level in self.finished(metric)]
        return sorted(set.intersection(*found)) if found else []

    def means(self, metric: str) -> list[tuple[Level, float]]:
        """Each level with its mean over the seeds of `everywhere`; empty without such a seed."""
        seeds = self.everywhere(metric)
        return [
            (level, sum(done[seed].value(metric) or 0.0 for seed in seeds) / len(seeds))
            for level in self.levels
            if seeds and (done := level.done(metric))
        ]


def series_of(family: Family, *, views: Views, metric: str) -> tuple[Series, ...]:
    """The series of a family, in the order of the tables; of a strategy's own settings its alone.

    The baselines are there for comparison.
    """
    owners = {axis.strategy for axis in family.axes if axis.strategy}
    by_ratio = any(axis.setting == RATIO for axis in family.axes)
    found: defaultdict[tuple[float | None, str], list[Level]] = defaultdict(list)
    for member in family.members:
        arms = build_arms(member.rows, views=views)
        for ratio, strategy, group in by_arm(arms):
            if not owners or strategy in (*owners, *BASELINES):
                key = (None if by_ratio else ratio), strategy
                found[key].append(
                    Level(
                        member.values,
                        tuple(group),
                        labelled_text(arms, ratio),
                        default=member.values == family.default,
                    )
                )
    return tuple(
        Series(
            ratio,
            "" if ratio is None else _only(level.labelled for level in levels),
            strategy,
            tuple(levels),
            _same(levels, metric),
        )
        for (ratio, strategy), levels in sorted(
            found.items(), key=lambda one: (one[0][0] or 0.0, strategy_order(one[0][1]))
        )
    )


def _only(texts: Iterable[str]) -> str:
    """The text that tells most: a labelled part with its count where any run knows it."""
    return max(dict.fromkeys(texts), key=len)


def _same(levels: Sequence[Level], metric: str) -> bool:
    """Whether several levels have finished seeds, and each seed the same numbers at all of them."""
    numbers: defaultdict[int, set[object]] = defaultdict(set)
    for level in levels:
        for seed, arm in level.done(metric).items():
            numbers[seed].add(_numbers(arm, metric))
    finished = [set(done) for level in levels if (done := level.done(metric))]
    return (
        len(finished) > 1
        and bool(set.intersection(*finished))
        and all(len(known) == 1 for known in numbers.values())
    )


def _numbers(arm: Arm, metric: str) -> tuple[object, ...]:
    """What a setting can change: score and pseudo-labels of each iteration, and what was kept."""
    models = [*arm.iterations, *([arm.empty] if arm.empty else [])]
    names = (metric, "pseudo/count", "pseudo/particle_ratio")
    return (
        arm.value(metric),
        *((one.iteration, *map(one.metrics.get, names)) for one in models),
    )
