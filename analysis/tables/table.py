"""A table: each cell has a value, a text and the runs it was computed from. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress, groupby
from statistics import stdev

from cryossl.evaluation.verdict import mean_of

Value = str | int | float | bool | None
NOTHING = "-"
NOT_ACCEPTED = "no student accepted"


@dataclass(frozen=True)
class Cell:
    """One cell: value in its column's unit or None, text to show, runs it was computed from.

    `deviation`: the standard deviation over seeds, where the value is a mean of several.
    """

    value: Value
    text: str
    run_ids: tuple[str, ...] = ()
    deviation: float | None = None


@dataclass(frozen=True)
class Column:
    """A column: `name` for programs, `title` for people; `unit` is that of every value in it.

    `decimals` None means words, which are aligned to the left; numbers are aligned to the right.
    `spare`: where a table is too wide for a terminal, columns with the highest number are left out
    first, and those with 0 never. `hidden`: for programs alone (CSV, JSON).
    """

    name: str
    title: str
    unit: str = ""
    decimals: int | None = None
    signed: bool = False
    spare: int = 0
    hidden: bool = False

    def cell(
        self,
        value: Value,
        *,
        run_ids: Sequence[str] = (),
        text: str | None = None,
        deviation: float | None = None,
    ) -> Cell:
        """The cell of this column for a value; a number that is not finite becomes None."""
        if isinstance(value, float) and not math.isfinite(value):
            value, text = None, None
        shown = text if text is not None else self.show(value)
        return Cell(value, shown, tuple(dict.fromkeys(run_ids)), deviation)

    def show(self, value: Value) -> str:
        """The text of a value."""
        if value is None:
            return NOTHING
        if self.decimals is None or isinstance(value, str | bool):
            return str(value)
        return f"{value:{'+' if self.signed else ''}.{self.decimals}f}"

    @property
    def factor(self) -> int:
        """100 where fractions are shown in percent or in points, else 1."""
        return 100 if self.unit in ("%", "points") else 1

    @property
    def heading(self) -> str:
        """Title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """Columns and rows of equal length; `notes` are sentences shown below it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Cell]]:
        """Each row as column name -> cell."""
        return [
            dict(zip((column.name for column in self.columns), row, strict=True))
            for row in self.rows
        ]

    def groups(self) -> list[tuple[str, list[tuple[Cell, ...]]]]:
        """(text of the first cell, the rows that follow each other with it)."""
        return [(key, list(rows)) for key, rows in groupby(self.rows, lambda row: row[0].text)]


def shown(table: Table) -> Table:
    """The table without the columns that are for programs alone."""
    return _keep(table, [not column.hidden for column in table.columns])


def without(table: Table, name: str) -> Table:
    """The table without the column of this name."""
    return _keep(table, [column.name != name for column in table.columns])


def _keep(table: Table, kept: Sequence[bool]) -> Table:
    return replace(
        table,
        columns=tuple(compress(table.columns, kept)),
        rows=tuple(tuple(compress(row, kept)) for row in table.rows),
    )


def without_empty(table: Table, *names: str) -> Table:
    """The table without those of the named columns in which no cell has a value."""
    return _keep(
        table,
        [
            column.name not in names or any(row[place].value is not None for row in table.rows)
            for place, column in enumerate(table.columns)
        ],
    )


def row_of(
    columns: Sequence[Column],
    values: Sequence[Value],
    *,
    run_ids: Sequence[str] = (),
    numbers_only: bool = False,
) -> tuple[Cell, ...]:
    """A row of these values; its cells, or those of number columns only, name the runs."""
    return tuple(
        column.cell(value, run_ids=() if numbers_only and column.decimals is None else run_ids)
        for column, value in zip(columns, values, strict=True)
    )


def percent(fraction: float | None) -> float | None:
    """100 times the fraction, or None."""
    return None if fraction is None else 100 * fraction


def mean_cell(column: Column, values: Iterable[float | None], *, run_ids: Sequence[str]) -> Cell:
    """The cell of the mean of the values that are not None, in the column's unit."""
    known = [value for value in values if value is not None]
    mean = mean_of(known)
    return column.cell(
        None if mean is None else column.factor * mean,
        run_ids=run_ids,
        deviation=_deviation([column.factor * value for value in known]),
    )


def spread_cell(column: Column, values: Iterable[float | None], *, run_ids: Sequence[str]) -> Cell:
    """The mean; with two values or more the text is mean and deviation, `72.10 ± 0.40`."""
    known = [column.factor * value for value in values if value is not None]
    mean, deviation, text = mean_of(known), _deviation(known), None
    if deviation is not None:
        text = f"{column.show(mean)} ± {deviation:.{column.decimals}f}"
    return column.cell(mean, run_ids=run_ids, text=text, deviation=deviation)


def zero_cell(column: Column, values: Iterable[float | None], *, run_ids: Sequence[str]) -> Cell:
    """The cell of a mean that is 0 by definition: it has no spread and no decimals."""
    mean = mean_of(values)
    return column.cell(mean, run_ids=run_ids, text=None if mean is None else "0")


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
