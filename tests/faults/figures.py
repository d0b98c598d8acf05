"""What a fault test found, as figures: carried by the tests' reports, shown as the table of docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

COLUMNS = ("fault", "what was run", "figure", "bar", "held")
Note = Callable[..., None]
_PROPERTY = "figure"


def noting(record_property: Callable[[str, object], None]) -> Note:
    """A function that notes a figure of the running test; the outcome of the test says whether the bar held."""

    def note(fault: str, *, ran: str, found: str, bar: str) -> None:
        record_property(
            _PROPERTY, {"fault": fault, "what was run": ran, "figure": found, "bar": bar}
        )

    return note


def rows(reports: Iterable[pytest.TestReport]) -> list[dict[str, str]]:
    """The figures of tests that were run, one row each."""
    return [
        {**figure, "held": "yes" if report.passed else "NO"}
        for report in reports
        if report.when == "call"
        for name, figure in report.user_properties
        if name == _PROPERTY and isinstance(figure, dict)
    ]


def as_markdown(found: list[dict[str, str]]) -> str:
    """The table."""
    lines = [
        COLUMNS,
        tuple("---" for _ in COLUMNS),
        *(tuple(row[column] for column in COLUMNS) for row in found),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(found: list[dict[str, str]], folder: Path) -> None:
    """The table as faults.md and faults.json; rows of an earlier call stay unless they are here anew."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faults.json"
    earlier: list[dict[str, Any]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    )
    anew = {row["fault"] for row in found}
    whole = [row for row in earlier if row["fault"] not in anew] + found
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "faults.md").write_text(as_markdown(whole), encoding="utf-8")
