"""Tracked runs -> the comparison: all tables and verdicts of one group of runs. Pure.

A group has the same data, the same settings and the same code.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.runs.arms import Arm, build_arms
from analysis.runs.counts import (
    Counts,
    ModelCounts,
    ReadCounts,
    by_scoring,
    no_counts,
    unreachable_text,
)
from analysis.runs.groups import (
    NOTE_ARMS,
    Choice,
    chosen_first,
    difference_text,
    group_name,
    groups_of,
    last_start,
)
from analysis.runs.tidy import data_name, is_absent, metric_names, started, tidy
from analysis.stats.contrasts import run_ids_to_count
from analysis.tables.details import aspects, iterations, sources
from analysis.tables.evidence import evidence
from analysis.tables.second import (
    SecondScoring,
    has_values,
    note_with_second,
    parts_of_gain,
    second_evidence,
    second_scoring,
    strategies_with_second,
    views_behind,
)
from analysis.tables.summary import Judged, by_ratio, judge_arms, note_table
from analysis.tables.table import Table, shown
from cryossl.errors import ConfigError, DataError, nearest
from cryossl.evaluation.scorings import EIGHT, WORDS, Views, scored_by, views_of

HEADLINE = "test/f1"
_WITHOUT_COUNTS = "intervals that need them are Student's t over seeds, on these test micrographs"


@dataclass(frozen=True)
class Comparison:
    """All tables and verdicts of one data set, one group of settings and one version of the code.

    `metric` is under the scoring `views`, the headline; `second` is the other scoring, None where
    the runs have one alone. `others` are the other groups in the store; they are never mixed into
    these tables. `settings` says how this group differs from those with data of the same name,
    `group` is its short name, `started` when its newest run started. `faults` lists in words the
    runs that are in no mean. The tables were computed from `arms` and `counts` (run id -> counts);
    figures need them.
    """

    dataset: str
    group: str
    started: str
    settings: str
    metric: str
    note: Table
    by_ratio: Table
    evidence: Table
    aspects: Table
    iterations: Table
    sources: Table | None
    verdicts: tuple[Judged, ...]
    faults: tuple[str, ...]
    others: tuple[Comparison, ...] = ()
    external: Table | None = None
    views: Views = 1
    second_evidence: Table | None = None
    parts: Table | None = None
    second: SecondScoring | None = field(default=None, compare=False, repr=False)
    arms: tuple[Arm, ...] = field(default=(), compare=False, repr=False)
    counts: Mapping[str, ModelCounts] = field(default_factory=dict, compare=False, repr=False)

    @property
    def headline(self) -> str:
        """Test F1 under the scoring of the comparison."""
        return scored_by(HEADLINE, self.views)

    @property
    def words(self) -> str:
        """The scoring of the comparison: `one view` or `eight views`."""
        return WORDS[views_behind(self.arms, self.views)]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that have rows, the short ones first; columns for programs are left out."""
        return tuple(map(shown, self.full_tables))

    @property
    def full_tables(self) -> tuple[Table, ...]:
        """The same with all columns."""
        short = self.note, self.by_ratio, self.evidence, self.second_evidence
        every = (*short, self.parts, self.aspects, self.iterations, self.sources, self.external)
        return tuple(table for table in every if table is not None and table.rows)


def compare(
    frame: pd.DataFrame,
    *,
    ratio: float | None = None,
    metric: str = HEADLINE,
    views: Views | None = None,
    read_counts: ReadCounts = no_counts,
    choice: Choice = NOTE_ARMS,
) -> Comparison:
    """The comparison of the runs in `frame`.

    Of several data sets, settings or versions of the code, the one that is wanted comes first.

    Args:
        frame: iteration runs, and arm runs if at hand, as
            `cryossl.tracking.reader.read_runs` gives them.
        ratio: only this labelled part, in percent.
        metric: shown in the score columns. The verdict is always by test F1.
        views: the scoring that all is by, 8 if the metric says so; None: the runs' own headline.
        read_counts: returns the counts of runs. With counts, intervals cover sources and
            micrographs as well as seeds.
        choice: which group comes first; unless given, the newest with both arms of the note.

    Raises DataError if no run has finished, ConfigError for a ratio, metric or group that no run
    has.
    """
    runs = tidy(frame)
    ours = usable_runs(runs, ratio=ratio)
    views = EIGHT if views_of(metric) == EIGHT else views
    asked = metric if views is None else scored_by(metric, views)
    check_metric(ours, asked)
    groups = chosen_first(groups_of(ours), choice, metric=asked)
    compared = [
        _compare_group(group, difference_text(group, groups), metric, views, read_counts)
        for group in groups
    ]
    foreign = int((runs["state"] == "foreign").sum())
    faults = compared[0].faults
    if foreign:
        faults += (
            f"{foreign} run{'s' * (foreign != 1)} of something else in the same experiment left "
            "out",
        )
    return replace(compared[0], others=tuple(compared[1:]), faults=faults)


def usable_runs(runs: pd.DataFrame, *, ratio: float | None) -> pd.DataFrame:
    """The rows of a tidy table that are of cryossl, at one labelled part if one is given.

    Raises DataError if no run has finished, ConfigError for a ratio that no run has.
    """
    ours = runs[runs["state"] != "foreign"]
    if not ours["used"].any():
        raise DataError(
            f"nothing to compare: {_what_is_there(runs)}",
            cure="`python cli.py run` makes one, `python cli.py status` shows one that is on its "
            "way",
        )
    return _at_ratio(ours, ratio)


def _compare_group(
    group: pd.DataFrame,
    settings: str,
    metric: str,
    asked: Views | None,
    read_counts: ReadCounts,
) -> Comparison:
    views = asked or headline_views(group)
    metric = scored_by(metric, views)
    arms = build_arms(group, views=views)
    # The reference of gains may be another model by each scoring.
    both = [*arms, *build_arms(group, views=1 if views == EIGHT else EIGHT)]
    wanted = run_ids_to_count(both)
    recorded = read_counts(wanted)
    lost = unreachable_text(
        recorded.unreachable if isinstance(recorded, Counts) else {}, runs=len(wanted)
    )
    counts = by_scoring(recorded, views)
    verdicts = judge_arms(arms, counts)
    second = second_scoring(group, recorded, metric=metric, headline=views)
    return Comparison(
        views=views,
        second=second,
        second_evidence=second_evidence(second),
        parts=parts_of_gain(arms, second, metric=metric, views=views_behind(arms, views)),
        dataset=data_name(group),
        group=group_name(group),
        started=started_text(group),
        settings=settings,
        metric=metric,
        note=note_with_second(
            note_table(arms, verdicts, metric=metric), second, views=views_behind(arms, views)
        ),
        by_ratio=strategies_with_second(by_ratio(arms, verdicts, metric=metric), second),
        evidence=evidence(arms, counts, metric=metric),
        aspects=aspects(arms),
        iterations=iterations(arms, metric=metric),
        sources=sources(arms, metric=metric),
        verdicts=verdicts,
        faults=(*_faults(group, arms), *([f"{lost}: {_WITHOUT_COUNTS}"] if lost else [])),
        arms=arms,
        counts=counts,
    )


def headline_views(group: pd.DataFrame) -> Views:
    """The scoring that the newest run of a group says it is by; 1 where none was scored so."""
    named = [row for row in group.to_dict("records") if not is_absent(row["headline_views"])]
    newest = max(named, key=lambda row: started(row["start_time"]), default=None)
    eight = newest is not None and newest["headline_views"] == EIGHT
    return EIGHT if eight and has_values(group, scored_by(HEADLINE, EIGHT)) else 1


def started_text(group: pd.DataFrame) -> str:
    """When the newest run of a group started: `2026-11-28 21:40`; empty if that is unknown."""
    seconds = last_start(group)
    if not np.isfinite(seconds):
        return ""
    return pd.Timestamp(seconds, unit="s", tz="UTC").strftime("%Y-%m-%d %H:%M")


def _at_ratio(runs: pd.DataFrame, ratio: float | None) -> pd.DataFrame:
    if ratio is None:
        return runs
    chosen = runs[np.isclose(runs["ratio_percent"].astype(float), ratio)]
    if not chosen["used"].any():
        there = ", ".join(f"{value:g}" for value in sorted(set(runs["ratio_percent"])))
        raise ConfigError(
            f"no finished run at a ratio of {ratio:g} percent", cure=f"there are: {there}"
        )
    return chosen


def check_metric(runs: pd.DataFrame, metric: str) -> None:
    """Raise ConfigError if no run has a value of the metric."""
    known = [name for name in metric_names(runs.columns) if runs[name].notna().any()]
    if metric not in known:
        raise ConfigError(
            f"no run has a value of the metric {metric!r:.100}",
            cure=f"{nearest(metric, known)}docs/tracking.md lists the metrics, e.g. test/f1",
        )


def _what_is_there(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "the experiment has no run"
    counts = sorted(Counter(map(str, runs["state"])).items())
    return f"no run has finished ({', '.join(f'{number} {state}' for state, number in counts)})"


def _faults(group: pd.DataFrame, arms: Sequence[Arm]) -> tuple[str, ...]:
    """The runs in no mean: unfinished arms by seed, then the number of runs that were replaced."""
    seeds: defaultdict[str, list[int]] = defaultdict(list)
    for arm in arms:
        if arm.value(scored_by(HEADLINE, arm.views)) is None:
            why = (
                "finished without a finite test F1"
                if arm.state == "finished"
                else f"{arm.state} ({arm.note})"
            )
            seeds[f"{arm.strategy} at {arm.ratio_percent:g}%: {why}"].append(arm.seed)
    lines = [
        f"{what}, seed{'s' * (len(which) != 1)} {', '.join(map(str, which))}"
        for what, which in seeds.items()
    ]
    for state in ("duplicate", "superseded"):
        number = int((group["state"] == state).sum())
        if number:
            lines.append(f"{number} {state} run{'s' * (number != 1)} left out")
    return tuple(lines)
