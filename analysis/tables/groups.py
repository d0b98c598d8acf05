"""The groups of comparable runs in the store, as a table. Pure."""

from __future__ import annotations

import json

import pandas as pd

from analysis.runs.arms import strategy_order
from analysis.runs.groups import difference_text, group_name, groups_of
from analysis.runs.tidy import data_name, tidy
from analysis.tables.comparison import started_text
from analysis.tables.formats import table_csv, table_json, table_latex, table_markdown
from analysis.tables.table import Column, Table, row_of
from analysis.tables.terminal import table_text


def groups_table(frame: pd.DataFrame) -> Table:
    """A row per group, the newest first: name, last start, data, what it holds, what differs.

    Args:
        frame: iteration runs, and arm runs if at hand.
    """
    columns = (
        Column("group", "Group"),
        Column("started", "Last start (UTC)"),
        Column("dataset", "Data"),
        Column("labelled", "Labelled"),
        Column("strategies", "Strategies", spare=1),
        Column("seeds", "Seeds", "", 0),
        Column("difference", "What differs"),
    )
    runs = tidy(frame)
    groups = groups_of(runs[runs["state"] != "foreign"])
    rows = []
    for group in groups:
        used = group[group["used"]]
        strategies = sorted(set(map(str, used["strategy"])), key=strategy_order)
        ratios = sorted(set(used["ratio_percent"].astype(float)))
        cells = (
            group_name(group),
            started_text(group),
            data_name(group) or "unnamed",
            ", ".join(f"{ratio:g}%" for ratio in ratios) or "none finished",
            ", ".join(strategies) or "none finished",
            len(set(used["seed"])),
            difference_text(group, groups) or "nothing",
        )
        ids = [str(run) for run in group["run_id"].dropna()]
        rows.append(row_of(columns, cells, run_ids=ids))
    return Table("groups", "Groups of comparable runs", columns, tuple(rows))


def groups_text(frame: pd.DataFrame, form: str, *, width: int | None = None) -> str:
    """The table of groups in one of the formats of `compare`, ending in a newline."""
    table = groups_table(frame)
    if form == "table":
        return table_text(table, width=width)
    if form == "json":
        return json.dumps(table_json(table), indent=2, allow_nan=False) + "\n"
    return {"markdown": table_markdown, "csv": table_csv, "latex": table_latex}[form](table)
