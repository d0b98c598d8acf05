"""A table and sentences for a terminal, no wider than it is. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from analysis.tables.formats import TERMINAL_MARKS, marked_rows
from analysis.tables.table import NOTHING, Column, Table, shown, without

WIDTH = 100
"""Columns of sentences that are not written to a terminal; tables are as wide as they are there."""


def table_text(table: Table, *, width: int | None = None) -> str:
    """A table in aligned plain text: title over unit, a rule, rows.

    No line of units where no column has one; a first cell that repeats is left blank. Where the
    table is wider than `width`, spare columns are left out and named below; if that is not enough,
    each row becomes a paragraph. Without a width it is as wide as it is.
    """
    table = shown(table)
    lines, notes = _aligned_lines(table), table.notes
    if width is not None and _widest(lines) > width:
        lines, left_out = _fitted(table, width=width)
        names = ", ".join(column.title for column in left_out)
        notes = (*notes, f"left out in {width} columns: {names}") if left_out else notes
    title = wrapped([table.title], width=width)
    return "\n".join([title, *lines]) + "\n" + wrapped(notes, width=width)


def wrapped(texts: Iterable[str], *, width: int | None = None, indent: str = "  ") -> str:
    """The texts in lines of a terminal's width, each from its second line on indented."""
    return "".join(
        f"{textwrap.fill(text, width or WIDTH, subsequent_indent=indent)}\n" for text in texts
    )


def _fitted(table: Table, *, width: int) -> tuple[list[str], list[Column]]:
    """The lines of a table that is too wide, and the columns that they lack."""
    narrow, left_out = table, list[Column]()
    while (spare := _next_spare(narrow)) is not None:
        left_out.append(spare)
        narrow = without(narrow, spare.name)
        lines = _aligned_lines(narrow)
        if _widest(lines) <= width:
            return lines, left_out
    return _stacked_lines(table, width=width), []


def _aligned_lines(table: Table) -> list[str]:
    head = [[column.title for column in table.columns], [column.unit for column in table.columns]]
    cells = head if any(column.unit for column in table.columns) else head[:1]
    rule, previous = len(cells), ""
    for texts in marked_rows(table, TERMINAL_MARKS):
        previous, texts[0] = texts[0], "" if texts[0] == previous else texts[0]
        cells.append(texts)
    widths = [max(len(line[index]) for line in cells) for index in range(len(table.columns))]
    lines = [
        "  ".join(
            text.ljust(width) if column.decimals is None else text.rjust(width)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    lines.insert(rule, "  ".join("─" * width for width in widths))
    return lines


def _stacked_lines(table: Table, *, width: int) -> list[str]:
    """Each row as a paragraph: its first cell, then `Title value unit` of the cells with one."""
    lines = []
    for first, *texts in marked_rows(table, TERMINAL_MARKS):
        facts = [
            " ".join(filter(None, (column.title, text, column.unit)))
            for column, text in zip(table.columns[1:], texts, strict=True)
            if text != NOTHING
        ]
        lines.append(
            textwrap.fill(
                f"{table.columns[0].title} {first}; " + "; ".join(facts),
                width,
                subsequent_indent="  ",
            )
        )
    return lines


def _widest(lines: Sequence[str]) -> int:
    return max(map(len, lines), default=0)


def _next_spare(table: Table) -> Column | None:
    spare = max(table.columns, key=lambda column: column.spare, default=None)
    return spare if spare is not None and spare.spare else None
