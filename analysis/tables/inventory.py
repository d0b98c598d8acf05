"""What is in the store: every arm with its seeds, what failed, what is missing. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pandas as pd

from analysis.runs.arms import strategy_order
from analysis.runs.tidy import GROUP, data_name, tidy
from analysis.tables.formats import table_json
from analysis.tables.table import Column, Table, Value, row_of, without_empty
from analysis.tables.terminal import table_text

SCHEMA = "cryossl.runs/1"
_STATES = (
    "finished",
    "unfinished",
    "failed",
    "killed",
    "missing",
    "empty",
    "superseded",
    "duplicate",
)


def inventory(frame: pd.DataFrame) -> tuple[Table, Table]:
    """(grid, problems).

    The grid has a row per data set, settings, code, ratio and strategy. The problems are the runs
    that are in no mean, each with the reason.

    Args:
        frame: iteration runs, and arm runs if at hand.
    """
    runs = tidy(frame)
    return _grid(runs[runs["state"] != "foreign"]), _problems(runs)


def inventory_text(tables: tuple[Table, Table], *, width: int | None = None) -> str:
    """Both tables for a terminal of so many columns."""
    grid, problems = tables
    if not grid.rows and not problems.rows:
        return "the experiment has no run; `python cli.py run` makes one\n"
    shown = [table_text(table, width=width) for table in tables if table.rows]
    return "\n".join(shown if problems.rows else [*shown, "nothing failed, nothing is missing\n"])


def inventory_json(tables: tuple[Table, Table]) -> str:
    """Both tables as one JSON object; docs/schemas/runs.json."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "tables": {table.name: table_json(table) for table in tables},
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _grid(runs: pd.DataFrame) -> Table:
    columns = (
        Column("dataset", "Data"),
        Column("data", "Data digest"),
        Column("settings", "Settings"),
        Column("code", "Code"),
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        Column("seeds", "Seeds"),
        Column("models", "Models", "", 0, spare=2),
        Column("states", "Runs by state"),
        Column("last", "Last start", spare=1),
    )
    rows = []
    shared = [*GROUP, "ratio_percent", "strategy"]
    several_data = len(set(runs["data"])) > len({data_name(one) for one in _by(runs, "data")})
    several_codes = len(set(runs["code_digest"])) > 1
    for group in _by(runs, *shared):
        data, settings, code, ratio, strategy = (group[name].iloc[0] for name in shared)
        done = sorted({int(seed) for seed in group.loc[group["used"], "seed"]})
        states = Counter(map(str, group["state"]))
        ids = [str(run) for run in group["run_id"].dropna()]
        starts = [start for start in group["start_time"] if isinstance(start, pd.Timestamp)]
        cells = (
            data_name(group) or "unnamed",
            data[:8] if several_data else None,
            settings or "unknown",
            (code[:8] or "unknown") if several_codes else None,
            f"{ratio:g}%",
            strategy,
            _spans(done) or "none finished",
            int((group["state"] == "finished").sum()),
            ", ".join(f"{states[state]} {state}" for state in _STATES if states[state]),
            max(starts).strftime("%Y-%m-%d %H:%M") if starts else None,
        )
        rows.append((ratio, strategy_order(strategy), row_of(columns, cells, run_ids=ids)))
    rows.sort(key=lambda one: (one[2][0].text, one[2][1].text, *one[:2]))
    grid = Table("grid", "Runs in the store", columns, tuple(row for *_, row in rows))
    return without_empty(grid, "data", "code")


def _by(runs: pd.DataFrame, *names: str) -> list[pd.DataFrame]:
    return [group for _, group in runs.groupby(list(names), sort=False)]


def _problems(runs: pd.DataFrame) -> Table:
    columns = (
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        Column("seed", "Seed", "", 0),
        Column("iteration", "Iteration", "", 0),
        Column("state", "State"),
        Column("why", "Why"),
        Column("run", "Run"),
    )
    rows = []
    for row in runs[~runs["used"]].to_dict("records"):
        run = row["run_id"] if isinstance(row["run_id"], str) else None
        place: tuple[Value, ...] = (None, None, None, None)
        if row["state"] != "foreign":
            ratio = f"{row['ratio_percent']:g}%"
            place = ratio, row["strategy"], int(row["seed"]), int(row["iteration"])
        cells = (*place, row["state"], row["note"], run)
        rows.append(row_of(columns, cells, run_ids=[run] if run else []))
    return Table("problems", "In no mean", columns, tuple(rows))


def _spans(numbers: list[int]) -> str:
    """`0-5, 7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if not spans or number != spans[-1][1] + 1:
            spans.append([number, number])
        spans[-1][1] = number
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in spans)
