"""The scoring beside the headline: its arms and verdicts, and its part of the tables. Pure.

Each scoring has its own thresholds and its own reference of gains, both chosen on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from analysis.runs.arms import (
    Arm,
    build_arms,
    by_arm,
    finished,
    labelled_text,
    none_accepted,
    ratios_of,
    run_ids_of,
    settings_of,
    strategies_of,
)
from analysis.runs.counts import ModelCounts, by_scoring
from analysis.stats.statistics import seed_interval
from analysis.tables.evidence import evidence
from analysis.tables.summary import Judged, judge_arms, note_table, reference_notes, score_column
from analysis.tables.table import Cell, Column, Table, mean_cell, row_of, zero_cell
from cryossl.evaluation.scorings import EIGHT, WORDS, Views, scored_by
from cryossl.strategy_names import ENSEMBLE, without_pseudo_labels

_Part = TypeVar("_Part")
VIEWS = Column("views", "Views", "", 0)
_PARTS = (
    Column("labelled", "Labelled"),
    Column("step", "Step"),
    Column("views", "Views"),
    Column("change", "Change", "points", 2, signed=True),
    Column("lower", "Lower 95%", "points", 2, signed=True),
    Column("upper", "Upper 95%", "points", 2, signed=True),
    Column("seeds", "Seeds", "", 0),
)


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


@dataclass(frozen=True)
class ArmsByScoring:
    """Arms by one scoring: how many views it averages, its metric, and its arms."""

    views: int
    metric: str
    arms: tuple[Arm, ...]

    def of(self, ratio: float, strategy: str) -> dict[int, Arm]:
        """Seed -> the finished arm."""
        return finished(self.arms, ratio_percent=ratio, strategy=strategy)

    def scores(self, ratio: float, strategy: str) -> dict[int, float]:
        """Seed -> the score of the finished arm, where it has one."""
        return {
            seed: score
            for seed, arm in self.of(ratio, strategy).items()
            if (score := arm.value(self.metric)) is not None
        }


def by_views(
    arms: Sequence[Arm], second: SecondScoring, *, metric: str, views: int
) -> tuple[ArmsByScoring, ArmsByScoring]:
    """The scoring of fewer and that of more views; `metric` and `views` are the headline's."""
    scorings = (
        ArmsByScoring(views, metric, tuple(arms)),
        ArmsByScoring(second.views, second.metric, second.arms),
    )
    fewer, more = sorted(scorings, key=lambda scored: scored.views)
    return fewer, more


def paired_scores(
    ratio: float, before: tuple[ArmsByScoring, str], after: tuple[ArmsByScoring, str]
) -> dict[int, tuple[float, float]]:
    """Seed -> the scores of two arms, each a scoring and a strategy, where it has both."""
    first, then = (scored.scores(ratio, strategy) for scored, strategy in (before, after))
    return {seed: (first[seed], then[seed]) for seed in sorted(first.keys() & then.keys())}


def parts_of_gain(
    arms: Sequence[Arm], second: SecondScoring | None, *, metric: str, views: int
) -> Table | None:
    """What averaging over views, and each strategy beside it, change; None with one scoring.

    Every strategy is compared with the plain baseline by the same scoring, and strategies with
    pseudo-labels with the ensemble too, where it is there. Differences are paired by seed.

    Args:
        arms: by the headline.
        second: the other scoring.
        metric: of the headline.
        views: of the headline.
    """
    if second is None:
        return None
    one, many = by_views(arms, second, metric=metric, views=views)
    rows: list[tuple[Cell, ...]] = []
    for ratio in ratios_of(arms):
        steps = [("supervised, averaged over views", (one, "supervised"), (many, "supervised"))]
        for strategy in strategies_of([arm for arm in arms if arm.ratio_percent == ratio]):
            if strategy == "supervised":
                continue
            name = f"{strategy} - supervised"
            steps += [(name, (by, "supervised"), (by, strategy)) for by in (one, many)]
            if not without_pseudo_labels(strategy) and many.of(ratio, ENSEMBLE):
                steps.append((f"{strategy} - {ENSEMBLE}", (many, ENSEMBLE), (many, strategy)))
        labelled = labelled_text(arms, ratio)
        rows += [row for step in steps if (row := _part(labelled, ratio, *step))]
    notes = (
        "paired by seed; intervals are Student's t over seeds, on these test micrographs",
        "each strategy is compared with supervised; other tables compare with the best baseline",
    )
    return Table("parts", "What a gain is made of", _PARTS, tuple(rows), notes if rows else ())


def _part(
    labelled: str,
    ratio: float,
    name: str,
    before: tuple[ArmsByScoring, str],
    after: tuple[ArmsByScoring, str],
) -> tuple[Cell, ...] | None:
    """The row of one step; None without a seed that has both."""
    pairs = paired_scores(ratio, before, after)
    if not pairs:
        return None
    differences = np.array([new - old for old, new in pairs.values()], np.float64)
    interval = seed_interval(differences)
    numbers = interval.points if interval else (100 * float(differences.mean()), None, None)
    views = list(dict.fromkeys((str(before[0].views), str(after[0].views))))
    sides = [scored.of(ratio, strategy) for scored, strategy in (after, before)]
    runs = run_ids_of([side[seed] for seed in pairs for side in sides])
    return row_of(
        _PARTS,
        (labelled, name, " to ".join(views), *numbers, len(pairs)),
        run_ids=runs,
        numbers_only=True,
    )
