"""One table as text: for a terminal, Markdown, CSV, LaTeX and JSON. Pure."""

from __future__ import annotations

import csv
import io
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.tables.table import NOTHING, Cell, Column, Table

WIDTH = 100
TERMINAL_MARKS = {"success": "✓", "partial": "~", "failure": "✗", "control": "·", "unknown": "?"}
MARKDOWN_MARKS = {"success": "✅", "partial": "⚠️", "failure": "❌", "control": "·", "unknown": "?"}
_MARKDOWN = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;", "`": "\\`"})
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "·": r"$\cdot$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    **{letter: letter for letter in "øØßæÆœŒłŁ"},
}


def table_text(table: Table) -> str:
    """A table in aligned plain text: title over unit, a rule, rows.

    No line of units where no column has one; a first cell that repeats is left blank.
    """
    head = [[column.title for column in table.columns], [column.unit for column in table.columns]]
    cells = head if any(column.unit for column in table.columns) else head[:1]
    rule, previous = len(cells), ""
    for shown in _marked_rows(table, TERMINAL_MARKS):
        previous, shown[0] = shown[0], "" if shown[0] == previous else shown[0]
        cells.append(shown)
    widths = [max(len(line[index]) for line in cells) for index in range(len(table.columns))]
    lines = [
        "  ".join(
            _aligned(text, width, column)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    lines.insert(rule, "  ".join("─" * width for width in widths))
    return "\n".join([table.title, "", *lines]) + "\n" + wrapped(table.notes)


def table_markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    cells = [
        [column.heading for column in table.columns],
        *_marked_rows(table, MARKDOWN_MARKS),
    ]
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in cells]
    rule = "|".join("---" if column.decimals is None else "---:" for column in table.columns)
    lines.insert(1, f"|{rule}|")
    notes = ["", *(f"- {markdown_text(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([f"### {markdown_text(table.title)}", "", *lines, *notes]) + "\n"


def table_csv(table: Table) -> str:
    """A table as CSV. Numbers are not rounded; a cell without a value is empty.

    The last column holds the run ids of the row. A text that a spreadsheet would take for a
    formula gets an apostrophe in front.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    units = [column.unit.replace("%", "percent") for column in table.columns]
    names = [
        f"{column.name}_{unit}".removesuffix("_")
        for column, unit in zip(table.columns, units, strict=True)
    ]
    writer.writerow([*map(_inert, names), "run_ids"])
    for row in table.rows:
        ids = dict.fromkeys(run for cell in row for run in cell.run_ids)
        writer.writerow([*(_csv_value(cell) for cell in row), _inert(" ".join(ids))])
    return target.getvalue()


def table_latex(table: Table) -> str:
    """A table for LaTeX with the booktabs package."""
    form = "".join("l" if column.decimals is None else "r" for column in table.columns)
    head = " & ".join(latex_text(column.heading) for column in table.columns)
    rows = [" & ".join(latex_text(cell.text) for cell in row) + r" \\" for row in table.rows]
    notes = [rf"% {' '.join(note.split())}" for note in table.notes]
    return (
        "\n".join(
            [
                rf"% {table.title}; needs \usepackage{{booktabs}}",
                rf"\begin{{tabular}}{{{form}}}",
                r"\toprule",
                rf"{head} \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
            ]
        )
        + "\n"
    )


def table_json(table: Table) -> dict[str, Any]:
    """A table in JSON's types.

    Columns have name, title and unit; a row is column name -> value, text and run_ids.
    """
    return {
        "name": table.name,
        "title": table.title,
        "notes": list(table.notes),
        "columns": [
            {"name": column.name, "title": column.title, "unit": column.unit}
            for column in table.columns
        ],
        "rows": [
            {
                name: {"value": cell.value, "text": cell.text, "run_ids": list(cell.run_ids)}
                for name, cell in record.items()
            }
            for record in table.records()
        ],
    }


def markdown_text(text: str) -> str:
    """The text, escaped: it neither ends a Markdown cell nor opens an HTML tag."""
    return " ".join(text.translate(_MARKDOWN).split())


def latex_text(text: str) -> str:
    """The text, escaped for LaTeX.

    A letter that the usual fonts lack is printed as its number, `U+7C92`.
    """
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    # LaTeX makes a dash of two hyphens.
    return re.sub("-(?=-)", "-{}", "".join(map(_latex_letter, plain)))


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    known = letter.isascii() and letter.isprintable()
    accented = letter <= "\u017f" and unicodedata.decomposition(letter)[:1].isdigit()
    return letter if known or accented else f"U+{ord(letter):04X}"


def _marked_rows(table: Table, marks: Mapping[str, str]) -> list[list[str]]:
    """The texts of the rows, those of the column `verdict` with their mark in front."""
    return [
        [
            f"{marks[str(cell.value)]} {cell.text}"
            if column.name == "verdict" and cell.value in marks
            else cell.text
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for row in table.rows
    ]


def _aligned(text: str, width: int, column: Column) -> str:
    return text.ljust(width) if column.decimals is None else text.rjust(width)


def wrapped(texts: Iterable[str], *, indent: str = "  ") -> str:
    """The texts in lines of a terminal's width, each from its second line on indented."""
    return "".join(f"{textwrap.fill(text, WIDTH, subsequent_indent=indent)}\n" for text in texts)


def _csv_value(cell: Cell) -> str:
    if cell.value is None:
        return ""
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        return repr(cell.value)
    return _inert("" if cell.text == NOTHING else str(cell.value))


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
