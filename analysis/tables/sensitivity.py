"""How a score depends on one setting or more: the family's runs as a table. Pure.

A row per labelled part, strategy and combination of values. Values are compared with the default,
seed by seed, within one family: runs of other data, code or settings are never mixed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import pandas as pd

from analysis.runs.arms import Arm, none_accepted, reference_text, run_ids_of
from analysis.runs.chosen_settings import ChosenSetting, shown_value, shown_values
from analysis.runs.counts import ModelCounts, ReadCounts, by_scoring, no_counts
from analysis.runs.families import RATIO, Family, family_of
from analysis.runs.groups import Choice, group_name
from analysis.runs.levels import Level, Series, series_of
from analysis.runs.names import listed
from analysis.runs.tidy import data_name, tidy
from analysis.stats.contrasts import (
    Contrast,
    Estimate,
    against_baseline,
    between,
    estimate,
    run_ids_to_count,
)
from analysis.stats.statistics import Interval, seeds_text
from analysis.tables.comparison import (
    HEADLINE,
    check_metric,
    headline_views,
    started_text,
    usable_runs,
)
from analysis.tables.summary import score_column
from analysis.tables.table import Cell, Column, Table, mean_cell, spread_cell, without_empty
from cryossl.evaluation.scorings import EIGHT, Views, scored_by, views_of
from cryossl.strategy_names import BASELINE

ALL = "all"
"""Shown in place of a value where all values give the same numbers."""
DEFAULT = " (default)"
"""What follows a default value."""
_FIRST = ("pseudo/per_labelled", "pseudo/particle_ratio")
_MOST_NAMED = 6
NEWEST = Choice()


@dataclass(frozen=True)
class Sensitivity:
    """What the values of some settings do to the score, in one family of runs.

    `table` has a row per series and level, or one per series that is the same at all levels;
    `faults` are sentences on what is missing.
    """

    dataset: str
    group: str
    started: str
    metric: str
    family: Family = field(compare=False, repr=False)
    series: tuple[Series, ...] = field(compare=False, repr=False)
    counts: Mapping[str, ModelCounts] = field(compare=False, repr=False)
    table: Table
    faults: tuple[str, ...]

    @property
    def axes(self) -> tuple[ChosenSetting, ...]:
        """The settings."""
        return self.family.axes

    @property
    def names(self) -> str:
        """The settings in a sentence."""
        return listed(axis.name for axis in self.axes)

    @property
    def main_group(self) -> str:
        """The group of the default values, else that of the newest runs."""
        default = (one for one in self.family.members if one.values == self.family.default)
        return next((one.group for one in default), self.group)

    def fingerprints_but(self, group: str) -> set[str]:
        """The fingerprints of the experiments of all groups of the family but one."""
        return {
            str(fingerprint)
            for member in self.family.members
            if member.group != group
            for fingerprint in member.rows["fingerprint"]
            if fingerprint
        }

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All arms of the family."""
        return tuple(arm for one in self.series for level in one.levels for arm in level.arms)


def sensitivity(
    frame: pd.DataFrame,
    axes: Sequence[ChosenSetting],
    *,
    ratio: float | None = None,
    metric: str = HEADLINE,
    views: Views | None = None,
    read_counts: ReadCounts = no_counts,
    choice: Choice = NEWEST,
) -> Sensitivity:
    """The sensitivity to these settings; the other arguments are those of `comparison.compare`.

    `choice` names any group of the family; without a name it is the one in which the settings have
    the most values, among equals the newest.

    Raises DataError if no run has finished, ConfigError for a ratio, metric or group that no run
    has, and for a setting that has one value only.
    """
    runs = usable_runs(tidy(frame), ratio=ratio)
    views = EIGHT if views_of(metric) == EIGHT else views
    asked = metric if views is None else scored_by(metric, views)
    check_metric(runs, asked)
    family = family_of(runs, axes, choice, metric=asked)
    scoring = views or headline_views(family.newest)
    metric = scored_by(metric, scoring)
    series = series_of(family, views=scoring, metric=metric)
    arms = [arm for one in series for level in one.levels for arm in level.arms]
    counts = by_scoring(read_counts(run_ids_to_count(arms)), scoring)
    table, methods = _table(family, series, counts, metric=metric)
    return Sensitivity(
        dataset=data_name(family.newest),
        group=group_name(family.newest),
        started=started_text(family.newest),
        metric=metric,
        family=family,
        series=series,
        counts=counts,
        table=without_empty(Table(*table, methods), "per_labelled", "particle_ratio"),
        faults=(*_missing(family, series, metric), *family.notes, *_others(family)),
    )


def _columns(family: Family, metric: str) -> tuple[Column, ...]:
    labelled = Column("labelled", "Labelled")
    return (
        *([] if any(axis.setting == RATIO for axis in family.axes) else [labelled]),
        Column("strategy", "Strategy"),
        *(
            Column(axis.name, "Labelled" if axis.setting == RATIO else axis.setting)
            for axis in family.axes
        ),
        score_column("score", metric),
        Column("gain", "Gain", "points", 2, signed=True),
        Column("gain_interval", "Gain 95%", "points", spare=4),
        Column("change", "Change", "points", 2, signed=True),
        Column("change_interval", "Change 95%", "points"),
        Column("per_labelled", "Per label", "", 2, spare=6),
        Column("particle_ratio", "Particles", "%", 2, spare=5),
        Column("seeds", "Seeds", spare=3),
        Column("gain_lower", "Gain, lower 95%", "points", 2, signed=True, hidden=True),
        Column("gain_upper", "Gain, upper 95%", "points", 2, signed=True, hidden=True),
        Column("change_lower", "Change, lower 95%", "points", 2, signed=True, hidden=True),
        Column("change_upper", "Change, upper 95%", "points", 2, signed=True, hidden=True),
        Column("change_seeds", "Seeds of the change", "", 0, hidden=True),
        Column("interval_over", "Interval over", hidden=True),
        Column("default", "Default", hidden=True),
    )


def _table(
    family: Family,
    series: Sequence[Series],
    counts: Mapping[str, ModelCounts],
    *,
    metric: str,
) -> tuple[tuple[str, str, tuple[Column, ...], tuple[tuple[Cell, ...], ...]], tuple[str, ...]]:
    """Name, title, columns and rows of the table, and its notes."""
    columns = _columns(family, metric)
    rows, guesses = [], list[Estimate]()
    for one in series:
        for level in _shown(one, metric):
            row, used = _row(columns, one, level, counts, metric)
            rows.append(row)
            guesses += used
    title = f"Sensitivity to {listed(axis.name for axis in family.axes)}"
    notes = (
        "gain: over the run's best baseline; change: to the default, seeds paired; per label and "
        "particles: of the first pseudo-labels",
        *_reference_notes(series, family.axes),
        *_method_notes(guesses),
    )
    return ("sensitivity", title, columns, tuple(rows)), notes


def _shown(series: Series, metric: str) -> list[Level]:
    """The levels that get a row: all, or one that holds all seeds of those that are the same."""
    if not series.same:
        return list(series.levels)
    arms = {seed: arm for level in series.levels for seed, arm in level.done(metric).items()}
    return [Level((), tuple(arms[seed] for seed in sorted(arms)), series.labelled)]


def _row(
    columns: Sequence[Column],
    series: Series,
    level: Level,
    counts: Mapping[str, ModelCounts],
    metric: str,
) -> tuple[tuple[Cell, ...], list[Estimate]]:
    """The cells of a level, and the estimates behind its intervals."""
    named = {column.name: column for column in columns}
    done = [arm for _, arm in sorted(level.done(metric).items())]
    ids = run_ids_of(done)
    gain, gain_guess = _gain(done, counts, metric)
    change, change_guess = _change(series, level, counts, metric)
    kept = bool(done) and none_accepted(done)
    guesses = [one for one in (gain_guess, change_guess) if one is not None]
    cells: dict[str, Cell] = {
        "score": spread_cell(named["score"], [arm.value(metric) for arm in done], run_ids=ids),
        "gain": named["gain"].cell(
            _mean(gain), run_ids=gain.run_ids if gain else (), text="0" if kept else None
        ),
        "change": named["change"].cell(_mean(change), run_ids=change.run_ids if change else ()),
        "per_labelled": _first_cell(named["per_labelled"], done, _FIRST[0]),
        "particle_ratio": _first_cell(named["particle_ratio"], done, _FIRST[1]),
    }
    bounds = {
        "gain": gain_guess.interval if gain_guess and not kept else None,
        "change": change_guess.interval if change_guess else None,
    }
    for word, interval in bounds.items():
        lower, upper = interval.points[1:] if interval else (None, None)
        cells |= {
            f"{word}_interval": named[f"{word}_interval"].cell(interval_text(interval)),
            f"{word}_lower": named[f"{word}_lower"].cell(lower),
            f"{word}_upper": named[f"{word}_upper"].cell(upper),
        }
    facts = {
        "labelled": series.labelled,
        "strategy": series.strategy,
        "seeds": _seeds(len(done), len(series.seeds)),
        "change_seeds": len(change.pairs) if change else None,
        "interval_over": guesses[-1].method if guesses else None,
        "default": level.default or (series.same and series.default is not None),
    }
    cells |= {name: named[name].cell(value) for name, value in facts.items() if name in named}
    cells |= _value_cells(columns, level)
    return tuple(cells[column.name] for column in columns), guesses


def _value_cells(columns: Sequence[Column], level: Level) -> dict[str, Cell]:
    """The cells of the axes, which follow the strategy; the default's values are marked."""
    start = next(place for place, one in enumerate(columns) if one.name == "strategy") + 1
    stop = next(place for place, one in enumerate(columns) if one.name == "score")
    mark = DEFAULT if level.default else ""
    return {
        column.name: column.cell(ALL)
        if not level.values
        else column.cell(
            value if isinstance(value, int | float) else shown_value(value),
            text=f"{level.labelled if column.name == RATIO else shown_value(value)}{mark}",
        )
        for column, value in zip(
            columns[start:stop], level.values or [None] * (stop - start), strict=True
        )
    }


def _seeds(done: int, every: int) -> str:
    return str(done) if done == every else f"{done} of {every}"


def _first_cell(column: Column, done: Sequence[Arm], name: str) -> Cell:
    """The mean of a metric of the pseudo-labels of the first iteration."""
    models = [
        next((one for one in arm.iterations if one.iteration == 1), arm.empty) for arm in done
    ]
    known = [one for one in models if one is not None and name in one.metrics]
    return mean_cell(
        column, [one.metrics[name] for one in known], run_ids=[one.run_id for one in known]
    )


def _gain(
    done: Sequence[Arm], counts: Mapping[str, ModelCounts], metric: str
) -> tuple[Contrast | None, Estimate | None]:
    contrast = against_baseline(done, metric=metric)
    if not contrast.pairs or done[0].strategy == BASELINE:
        return None, None
    return contrast, estimate(contrast, counts, metric=metric)


def _change(
    series: Series, level: Level, counts: Mapping[str, ModelCounts], metric: str
) -> tuple[Contrast | None, Estimate | None]:
    """The level against the default; None for the default itself and where it was not run."""
    if series.same or level.default or series.default is None:
        return None, None
    return against(level, series.default, counts, metric=metric)


def against(
    level: Level, other: Level, counts: Mapping[str, ModelCounts], *, metric: str
) -> tuple[Contrast | None, Estimate | None]:
    """A level minus another, paired by seed; None and None where they share no seed."""
    contrast = between("change", other.done(metric), level.done(metric), metric=metric)
    return (contrast, estimate(contrast, counts, metric=metric)) if contrast.pairs else (None, None)


def _mean(contrast: Contrast | None) -> float | None:
    return None if contrast is None else 100 * float(contrast.differences.mean())


def interval_text(interval: Interval | None) -> str | None:
    """`[-0.40, +3.60]`, in points; None without an interval."""
    return "[{:+.2f}, {:+.2f}]".format(*interval.points[1:]) if interval else None


def _method_notes(guesses: Sequence[Estimate]) -> list[str]:
    """How the intervals were computed."""
    drawn = dict.fromkeys(
        ", ".join(one.levels) for one in guesses if one.interval and one.improvement is not None
    )
    student = dict.fromkeys(
        one.why for one in guesses if one.interval and one.improvement is None and one.why
    )
    notes = [f"interval over {levels}: paired bootstrap from counts" for levels in drawn]
    notes += [f"interval over seeds (Student's t), because {why}" for why in student]
    return notes or ["no interval: it takes two seeds, or counts of several micrographs"]


def _reference_notes(series: Sequence[Series], axes: Sequence[ChosenSetting]) -> list[str]:
    """From which baseline gains are counted, where it is not the supervised one everywhere."""
    where: dict[str, dict[str, None]] = {}
    every = [arm for one in series for level in one.levels for arm in level.arms]
    for one in series:
        for level in one.levels:
            text = next((said for arm in level.arms if (said := reference_text(arm, every))), "")
            if text:
                place = f"{one.labelled or level.labelled}, {shown_values(axes, level.values)}"
                where.setdefault(text, {})[place] = None
    return [f"gains are over {text} at {_first_of(list(found))}" for text, found in where.items()]


def _first_of(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _missing(family: Family, series: Sequence[Series], metric: str) -> list[str]:
    """What was not run, and what has not finished."""
    lines = []
    there = {member.values for member in family.members}
    if family.default not in there:
        lines.append(
            f"the default ({shown_values(family.axes, family.default)}) was not run: nothing is "
            "compared with it"
        )
    grid = product(*(family.values_of(axis) for axis in family.axes))
    holes = [shown_values(family.axes, values) for values in grid if values not in there]
    if holes:
        lines.append(f"not run: {_first_of(holes)}")
    for one in series:
        for level in one.levels if not one.same else ():
            lines += _missing_seeds(one, level, family.axes, metric)
    return lines


def _missing_seeds(
    series: Series, level: Level, axes: Sequence[ChosenSetting], metric: str
) -> list[str]:
    """A line for each reason for which a level lacks seeds that other levels have."""
    there, done = {arm.seed: arm for arm in level.arms}, level.done(metric)
    seeds: defaultdict[str, list[int]] = defaultdict(list)
    for seed in series.seeds:
        if seed not in done:
            arm = there.get(seed)
            seeds[(arm.note or arm.state) if arm else "not run"].append(seed)
    return [
        f"{series.name}, {shown_values(axes, level.values)}: seed{'s' * (len(which) > 1)} "
        f"{', '.join(map(str, which))} missing ({why})"
        for why, which in seeds.items()
    ]


def _others(family: Family) -> list[str]:
    if not family.others:
        return []
    number = "another family" if family.others == 1 else f"{family.others} other families"
    return [
        f"{number} of runs with several values of these settings, not mixed in; "
        "`--group NAME` of one of its groups shows it"
    ]


def same_notes(found: Sensitivity) -> list[str]:
    """Which strategies the settings have no effect on, and over how many seeds that is known."""
    has = "has" if len(found.axes) == 1 else "have"
    said: defaultdict[tuple[str, int, int], list[str]] = defaultdict(list)
    for one in found.series:
        if one.same:
            seeds = len(one.everywhere(found.metric))
            said[one.labelled, len(one.finished(found.metric)), seeds].append(one.strategy)
    return [
        f"{found.names} {has} no effect on {listed(names)}"
        + (f" at {labelled}" if labelled else "")
        + f": the same numbers at all {levels} values ({seeds_text(seeds)})"
        for (labelled, levels, seeds), names in said.items()
    ]
