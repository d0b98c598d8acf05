"""The verdicts as one table: what was measured for each criterion, and what to do next. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.runs.names import listed
from analysis.stats.statistics import seeds_text
from analysis.tables.rendering import MET_MARKS
from analysis.tables.summary import Judged
from analysis.tables.table import NOT_ACCEPTED, Column, Table, Value, row_of
from cryossl.evaluation.verdict import Criterion


def verdict_table(verdicts: Sequence[Judged]) -> Table:
    """A row per strategy and labelled part; the wanted values stand in the notes, each once."""
    names = list(dict.fromkeys(one.name for judged in verdicts for one in judged.verdict.criteria))
    columns = (
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        Column("verdict", "Verdict"),
        *(Column(name, name[:1].upper() + name[1:]) for name in names),
        Column("evidence", "Evidence"),
    )
    rows = []
    for judged in verdicts:
        control = judged.verdict.outcome == "control"
        found = {
            one.name: _measured(one, still=bool(judged.verdict.remark))
            if not control
            else one.measured
            for one in judged.verdict.criteria
        }
        values: tuple[Value, ...] = (
            judged.labelled,
            judged.strategy,
            judged.verdict.outcome,
            *(found.get(name) for name in names),
            f"{seeds_text(judged.verdict.seeds)}: {judged.grade}",
        )
        rows.append(row_of(columns, values, run_ids=judged.run_ids))
    return Table("verdicts", "Verdicts", columns, tuple(rows), tuple(_notes(verdicts)))


def _measured(one: Criterion, *, still: bool) -> str:
    """What was measured; a gain in points that is 0 because the baseline stayed is none."""
    none = still and one.value == 0 and " points" in one.measured
    text = NOT_ACCEPTED if none else one.measured
    return f"{MET_MARKS[one.met]} {text}"


def _notes(verdicts: Sequence[Judged]) -> list[str]:
    """What is wanted, remarks and next steps; those of several strategies are said once."""
    wanted = {
        one.name: one.wanted
        for judged in verdicts
        if judged.verdict.outcome != "control"
        for one in judged.verdict.criteria
    }
    said: dict[str, list[str]] = {}
    for judged in verdicts:
        # The score in brackets stands in the table, and would keep equal steps apart.
        steps = re.sub(r" \([^()]*% F1 [^()]*\)", "", judged.verdict.next_steps)
        for text in (judged.verdict.remark, f"Next: {steps}" if steps else "", *judged.missing):
            if text:
                said.setdefault(text, []).append(f"{judged.strategy} at {judged.ratio_percent:g}%")
    notes = ["Wanted: " + "; ".join(f"{name} {text}" for name, text in wanted.items())]
    return (notes if wanted else []) + [f"{listed(who)}: {text}" for text, who in said.items()]
