"""Results of another method beside ours, from its counts per test micrograph. Pure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64

from analysis.runs.arms import Arm, by_arm, labelled_text, run_ids_of
from analysis.stats.bootstrap import mean_score, paired_bootstrap
from analysis.stats.contrasts import DRAWS
from analysis.tables.comparison import Comparison
from analysis.tables.table import Cell, Column, Table, row_of
from cryossl.errors import DataError

Row = Mapping[str, Any]
Rows = Int64[np.ndarray, "micrographs 3"]

SCHEMA = "cryossl.external/1"
_JSON_WORDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "missing or null",
}
_T = TypeVar("_T")
CURE = "the columns are micrograph, tp, fp, fn, then method and leakage if known (docs/report.md)"


@dataclass(frozen=True, eq=False)
class External:
    """Counts of one method on micrographs.

    `counts` are (tp, fp, fn) in px per micrograph; `leakage` says which micrographs the method was
    trained on.
    """

    method: str
    leakage: str
    ids: tuple[str, ...]
    counts: Rows


def parse_external(text: str, *, name: str) -> tuple[External, ...]:
    """The methods of a file: CSV with a row per method and micrograph, or JSON.

    Args:
        text: the file's content.
        name: of the method if the file names none.

    Raises DataError for a missing or repeated micrograph and for a value that is no count.
    """
    rows = _json_rows(text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text)
    methods: dict[str, list[tuple[int, Row]]] = {}
    for number, row in enumerate(rows, start=1):
        methods.setdefault(_word(row, "method", name), []).append((number, row))
    if not methods:
        raise DataError("the external results have no row", cure=CURE)
    for method in methods:
        if not method.isprintable():
            raise _refused(f": the method {method!r:.80} is no plain text")
    return tuple(_method(method, numbered) for method, numbered in methods.items())


def beside(comparison: Comparison, externals: tuple[External, ...]) -> Comparison:
    """The comparison with a table of other methods.

    Each method is compared on the test micrographs that both it and our runs have.

    Raises DataError if our runs have no counts or share no micrograph with a method.
    """
    rows: list[tuple[Cell, ...]] = []
    notes = [
        "pixel F1 of the micrographs that both have; difference: ours (all seeds) - theirs, "
        "interval by bootstrap "
        "over seeds, sources and micrographs"
    ]
    for external in externals:
        for ratio, strategy, group in by_arm(comparison.arms):
            row, note = _row(
                comparison, external, labelled_text(comparison.arms, ratio), strategy, group
            )
            rows += row
            notes += [note] if note and note not in notes else []
    if not rows:
        raise DataError(
            "none of our test micrographs with counts is among the external results",
            cure=f"name micrographs by their path below the data folder; {CURE}",
        )
    return replace(
        comparison, external=Table("external", "Other methods", _COLUMNS, tuple(rows), tuple(notes))
    )


_COLUMNS = (
    Column("method", "Method"),
    Column("leakage", "Leakage"),
    Column("labelled", "Labelled"),
    Column("strategy", "Ours"),
    Column("micrographs", "Micrographs", "", 0),
    Column("theirs", "Their F1", "%", 2),
    Column("ours", "Our F1", "%", 2),
    Column("difference", "Difference", "points", 2, signed=True),
    Column("lower", "Lower 95%", "points", 2, signed=True),
    Column("upper", "Upper 95%", "points", 2, signed=True),
    Column("seeds", "Seeds", "", 0),
)


def _row(
    comparison: Comparison, external: External, labelled: str, strategy: str, group: list[Arm]
) -> tuple[list[tuple[Cell, ...]], str]:
    """The row of one of our strategies against one method, and a note on it.

    No row if they share no micrograph.
    """
    counted = [arm for arm in group if arm.final and arm.final.run_id in comparison.counts]
    models = [comparison.counts[arm.final.run_id] for arm in counted if arm.final]
    if not models or any(model.ids != models[0].ids for model in models):
        return [], ""
    place = {name: index for index, name in enumerate(external.ids)}
    shared = [index for index, name in enumerate(models[0].ids) if name in place]
    if not shared:
        return [], ""
    ours = np.stack([model.counts[shared] for model in models])
    theirs = external.counts[[place[models[0].ids[index]] for index in shared]]
    _, sources = np.unique(
        np.array([models[0].sources[index] for index in shared]), return_inverse=True
    )
    first = np.broadcast_to(theirs, ours.shape).copy()
    f1 = [mean_score(counts, score="f1") for counts in (first, ours)]
    bounds: tuple[float | None, ...] = (None, None, None)
    if all(map(math.isfinite, f1)):
        found = paired_bootstrap(
            first, ours, sources.astype(np.int64), draws=DRAWS, rng=np.random.default_rng(0)
        )
        bounds = found.interval.points
    values = (
        external.method,
        external.leakage,
        labelled,
        strategy,
        len(shared),
        *(100 * value for value in f1),
        *bounds,
        len(models),
    )
    row = row_of(_COLUMNS, values, run_ids=run_ids_of(counted), numbers_only=True)
    return [row], _truth_note(external, ours[0], theirs)


def _truth_note(external: External, ours: Rows, theirs: Rows) -> str:
    """A note if the two were scored against different particle pixels (tp + fn)."""
    different = int(np.count_nonzero(ours[:, [0, 2]].sum(axis=1) != theirs[:, [0, 2]].sum(axis=1)))
    if not different:
        return ""
    return (
        f"{external.method} was scored against other truth: tp + fn differs on {different} of "
        f"{len(ours)} micrographs "
        "(another pixel size, border or particle radius), so its F1 cannot be compared strictly"
    )


def _method(method: str, rows: list[tuple[int, Row]]) -> External:
    ids = [_word(row, "micrograph", "") for _, row in rows]
    often = Counter(ids)
    for (number, _), name in zip(rows, ids, strict=True):
        if not name or often[name] > 1:
            fault = "twice there" if name else "not named"
            raise _refused(f", row {number}: micrograph {name!r} is {fault}")
    counts = [
        [_count(row, column, number) for column in ("tp", "fp", "fn")] for number, row in rows
    ]
    leakage = dict.fromkeys(_word(row, "leakage", "unknown") for _, row in rows)
    if not "".join(leakage).isprintable():
        raise _refused(f": the leakage of {method} is no plain text")
    return External(
        method, ", ".join(leakage), tuple(ids), np.array(counts, np.int64).reshape(-1, 3)
    )


def _count(row: Row, column: str, number: int) -> int:
    text = str(row.get(column, "")).strip()
    if not text.isdecimal() or len(text) > 15:
        raise _refused(f", row {number}: {column} is {text[:40]!r}, no whole number from 0 up")
    return int(text)


def _refused(why: str) -> DataError:
    return DataError(f"external results{why}", cure=CURE)


def _word(row: Row, column: str, default: str) -> str:
    return str(row.get(column) or "").strip() or default


def _csv_rows(text: str) -> list[Row]:
    try:
        return [dict(row) for row in csv.DictReader(io.StringIO(text), strict=True)]
    except csv.Error as error:
        raise _refused(f": broken CSV ({error})") from None


def _json_rows(text: str) -> list[Row]:
    """A row per method and micrograph of a document that follows docs/schemas/external.json."""
    try:
        document = _of(dict, json.loads(text, parse_int=_whole_number), "the document")
        if document.get("schema") != SCHEMA:
            raise ValueError("its schema is another")
        methods = [
            _of(dict, one, "a method") for one in _of(list, document.get("methods"), "methods")
        ]
        return [
            {
                **_json_row(row),
                **{
                    name: "" if one.get(name) is None else _of(str, one[name], name)
                    for name in ("method", "leakage")
                },
            }
            for one in methods
            for row in _of(list, one.get("micrographs"), "micrographs")
        ]
    except (RecursionError, ValueError) as error:
        why = error if isinstance(error, ValueError) else "nested too deeply"
        raise _refused(f": not a document of {SCHEMA} ({why})") from None


def _json_row(value: object) -> Row:
    """The cells of a row as a CSV file would have them."""
    row = _of(dict, value, "an entry of micrographs")
    cells = {
        name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in row.items()
    }
    return {**cells, "micrograph": _of(str, row.get("micrograph"), "micrograph")}


def _of(kind: type[_T], value: object, what: str) -> _T:
    """The value, if it is of this kind. Raises ValueError that names the JSON types."""
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {_JSON_WORDS[type(value)]}, not {_JSON_WORDS[kind]}")
    return value


def _whole_number(digits: str) -> float:
    """The number, or infinity: Python refuses to read thousands of digits."""
    return int(digits) if len(digits) < 100 else math.inf
