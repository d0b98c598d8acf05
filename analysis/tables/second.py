"""The scoring beside the headline: its arms and verdicts, and its part of the tables. Pure.

Each scoring has its own thresholds and its own reference of gains, both chosen on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pandas as pd

from analysis.runs.arms import Arm, build_arms, by_arm, none_accepted, run_ids_of, settings_of
from analysis.runs.counts import ModelCounts, by_scoring
from analysis.tables.evidence import evidence
from analysis.tables.summary import Judged, judge_arms, note_table, reference_notes, score_column
from analysis.tables.table import Column, Table, mean_cell, zero_cell
from cryossl.evaluation.scorings import EIGHT, WORDS, Views, scored_by

_Part = TypeVar("_Part")
VIEWS = Column("views", "Views", "", 0)


@dataclass(frozen=True)
class SecondScoring:
    """The arms of a comparison by the scoring that is not its headline.

    `views` are those that each model was averaged over, `metric` is the comparison's by this
    scoring.
    """

    views: int
    metric: str
    arms: tuple[Arm, ...]
    counts: Mapping[str, ModelCounts]
    verdicts: tuple[Judged, ...]

    @property
    def words(self) -> str:
        """`one view` or `eight views`."""
        return WORDS[self.views]


def views_behind(arms: Sequence[Arm], scoring: Views) -> int:
    """How many views a scoring averages: 8, or the setting `views` of the runs."""
    text = settings_of(arms).get("evaluation.views", "1")
    return EIGHT if scoring == EIGHT else int(text) if text in ("4", "8") else 1


def second_scoring(
    group: pd.DataFrame, counts: Mapping[str, ModelCounts], *, metric: str, headline: Views
) -> SecondScoring | None:
    """The scoring of a group of runs beside the headline; None where they have one scoring alone.

    Args:
        group: the tidy table of the group.
        counts: run id -> counts as they were recorded, of both scorings.
        metric: of the comparison, under any scoring.
        headline: the scoring that the comparison is by.
    """
    other: Views = 1 if headline == EIGHT else EIGHT
    name = scored_by(metric, other)
    if name == scored_by(metric, headline) or not has_values(group, name):
        return None
    arms = build_arms(group, views=other)
    if views_behind(arms, other) == views_behind(arms, headline):
        return None
    seen = by_scoring(counts, other)
    return SecondScoring(views_behind(arms, other), name, arms, seen, judge_arms(arms, seen))


def has_values(runs: pd.DataFrame, metric: str) -> bool:
    """Whether a run has a value of the metric."""
    return metric in runs and bool(runs[metric].notna().any())


def strategies_with_second(table: Table, second: SecondScoring | None) -> Table:
    """The table of strategies with score and gain by the second scoring beside the headline's."""
    if second is None:
        return table
    number = second.views
    word = f"{number} view{'s' * (number != 1)}"
    score = score_column(f"score_views{number}", scored_by(second.metric, 1))
    columns = (
        replace(score, title=f"{score.title}, {word}", spare=2),
        Column(f"gain_views{number}", f"Gain, {word}", "points", 2, signed=True, spare=1),
    )
    rows = []
    for row, (_, strategy, group) in zip(table.rows, by_arm(second.arms), strict=True):
        done = [arm for arm in group if arm.state == "finished"]
        gains = [arm.gain(second.metric) for arm in done if strategy != "supervised"]
        cell = zero_cell if none_accepted(done) else mean_cell
        more = (
            mean_cell(
                columns[0], [arm.value(second.metric) for arm in done], run_ids=run_ids_of(done)
            ),
            cell(columns[1], gains, run_ids=run_ids_of(done)),
        )
        rows.append(_inserted(row, more))
    notes = [f"by {second.words} {text}" for text in reference_notes(second.arms)]
    return replace(
        table,
        columns=_inserted(table.columns, columns),
        rows=tuple(rows),
        notes=(*table.notes, *notes),
    )


def _inserted(row: tuple[_Part, ...], more: tuple[_Part, ...]) -> tuple[_Part, ...]:
    """Columns or cells with more of them behind the gain, which is the fourth."""
    return (*row[:4], *more, *row[4:])


def note_with_second(table: Table, second: SecondScoring | None, *, views: int) -> Table:
    """The note's table with a row by each scoring; `views` are those of the headline."""
    if second is None:
        return table
    below = note_table(second.arms, second.verdicts, metric=second.metric)
    rows = [
        (row[0], VIEWS.cell(number), *row[1:])
        for pair in zip(table.rows, below.rows, strict=True)
        for number, row in zip((views, second.views), pair, strict=True)
    ]
    columns = tuple(
        replace(column, title=column.title.removesuffix(", 8 views")) for column in table.columns
    )
    notes = (
        (
            f"verdicts and all other tables are by {WORDS[views]} unless they say otherwise; each "
            "scoring has its own thresholds and its own best baseline",
        )
        if rows
        else ()
    )
    return replace(
        table,
        columns=(columns[0], VIEWS, *columns[1:]),
        rows=tuple(rows),
        notes=(*table.notes, *notes),
    )


def second_evidence(second: SecondScoring | None) -> Table | None:
    """The evidence over seeds by the second scoring."""
    if second is None:
        return None
    table = evidence(second.arms, second.counts, metric=second.metric)
    return replace(
        table, name=f"evidence_views{second.views}", title=f"{table.title}, by {second.words}"
    )
