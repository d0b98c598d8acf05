"""One table as text: Markdown, CSV, LaTeX and JSON. Pure."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from analysis.tables.table import NOTHING, Cell, Column, Table, shown
from cryossl.evaluation.answer import MARKDOWN_MARKS

TERMINAL_MARKS = {"success": "✓", "partial": "~", "failure": "✗", "control": "·", "unknown": "?"}
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


def table_markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    table = shown(table)
    cells = [
        [column.heading for column in table.columns],
        *marked_rows(table, MARKDOWN_MARKS),
    ]
    lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in cells]
    rule = "|".join("---" if column.decimals is None else "---:" for column in table.columns)
    lines.insert(1, f"|{rule}|")
    notes = ["", *(f"- {markdown_text(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([f"### {markdown_text(table.title)}", "", *lines, *notes]) + "\n"


def table_csv(table: Table) -> str:
    """A table as CSV, tidy: a value a cell, numbers as numbers and not rounded.

    A mean of several seeds has its standard deviation in the next column, `..._sd`. A cell without
    a value is empty. The last columns hold the run ids of the row, one each. A text that a
    spreadsheet would take for a formula gets an apostrophe in front.
    """
    several = [
        any(row[place].deviation is not None for row in table.rows)
        for place in range(len(table.columns))
    ]
    ids = [list(dict.fromkeys(run for cell in row for run in cell.run_ids)) for row in table.rows]
    most = max(map(len, ids), default=0)
    head = [
        name
        for column, has_deviation in zip(table.columns, several, strict=True)
        for name in _csv_names(column, has_deviation=has_deviation)
    ]
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*map(_inert, head), *(f"run_id_{number + 1}" for number in range(most))])
    for row, runs in zip(table.rows, ids, strict=True):
        cells = [
            text
            for cell, has_deviation in zip(row, several, strict=True)
            for text in (_csv_value(cell), *([_csv_number(cell.deviation)] * has_deviation))
        ]
        writer.writerow([*cells, *map(_inert, runs), *[""] * (most - len(runs))])
    return target.getvalue()


def _csv_names(column: Column, *, has_deviation: bool) -> list[str]:
    unit = column.unit.replace("%", "percent")
    name = f"{column.name}_{unit}".removesuffix("_")
    return [name, f"{name}_sd"] if has_deviation else [name]


def table_latex(table: Table) -> str:
    """A table for LaTeX with the booktabs package."""
    table = shown(table)
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

    Columns have name, title and unit; a row is column name -> value, text, run_ids and deviation.
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
                name: {
                    "value": cell.value,
                    "text": cell.text,
                    "run_ids": list(cell.run_ids),
                    "deviation": cell.deviation,
                }
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


def marked_rows(table: Table, marks: Mapping[str, str]) -> list[list[str]]:
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


def _csv_value(cell: Cell) -> str:
    if cell.value is None:
        return ""
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        return _csv_number(cell.value)
    return _inert("" if cell.text == NOTHING else str(cell.value))


def _csv_number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
