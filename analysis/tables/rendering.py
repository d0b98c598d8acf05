"""A comparison as text: for a terminal, Markdown, CSV, JSON, LaTeX. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from analysis.tables.comparison import Comparison
from analysis.tables.summary import Judged
from analysis.tables.table import NOTHING, Cell, Column, Table
from cryossl.errors import ConfigError
from cryossl.evaluation.verdict import COUNT
from cryossl.strategy_names import fixes_its_count

Format = Literal["table", "markdown", "csv", "json", "latex"]
FORMATS: tuple[str, ...] = get_args(Format)
SCHEMA = "cryossl.comparison/1"

_WIDTH = 100
_TERMINAL_MARKS = {"success": "✓", "partial": "~", "failure": "✗", "control": "·", "unknown": "?"}
_MET = {True: "✓", False: "✗", None: "·"}
_MARKDOWN_MARKS = {"success": "✅", "partial": "⚠️", "failure": "❌", "control": "·", "unknown": "?"}
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


def render(comparison: Comparison, form: str) -> str:
    """The comparison as text ending in a newline.

    `table` is the short form for a terminal: the note's table, strategies, verdicts, what to do
    next. `csv` is the table of strategies, one header. `markdown`, `json` and `latex` hold every
    table. Raises ConfigError for another word.
    """
    writers: dict[str, Callable[[Comparison], str]] = {
        "table": _terminal,
        "markdown": _markdown,
        "csv": lambda one: table_csv(one.by_ratio),
        "json": _json,
        "latex": _latex,
    }
    if form not in writers:
        raise ConfigError(f"unknown format {form!r}", cure=f"known: {', '.join(FORMATS)}")
    return writers[form](comparison)


def table_text(table: Table) -> str:
    """A table in aligned plain text: title over unit, a rule, rows.

    No line of units where no column has one; a first cell that repeats is left blank.
    """
    head = [[column.title for column in table.columns], [column.unit for column in table.columns]]
    cells = head if any(column.unit for column in table.columns) else head[:1]
    rule, previous = len(cells), ""
    for row in table.rows:
        shown = [
            _marked(cell, column, _TERMINAL_MARKS)
            for column, cell in zip(table.columns, row, strict=True)
        ]
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
    return "\n".join([table.title, "", *lines, *_wrapped(table.notes)]) + "\n"


def table_markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    head = "| " + " | ".join(markdown_text(column.heading) for column in table.columns) + " |"
    rule = (
        "|"
        + "|".join("---" if column.decimals is None else "---:" for column in table.columns)
        + "|"
    )
    rows = [
        "| "
        + " | ".join(
            markdown_text(_marked(cell, column, _MARKDOWN_MARKS))
            for column, cell in zip(table.columns, row, strict=True)
        )
        + " |"
        for row in table.rows
    ]
    notes = ["", *(f"- {markdown_text(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([f"### {markdown_text(table.title)}", "", head, rule, *rows, *notes]) + "\n"


def table_csv(table: Table) -> str:
    """A table as CSV, numbers unrounded, nothing where there is no value; the last column names the runs of the row.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(
        [
            *(
                _inert(f"{column.name}_{unit}" if (unit := _unit_word(column)) else column.name)
                for column in table.columns
            ),
            "run_ids",
        ]
    )
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
    """A table in JSON's types: columns with name, title, unit; rows of name -> value, text, run_ids."""
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


def _terminal(comparison: Comparison) -> str:
    tables = [
        table_text(table)
        for table in (comparison.note, comparison.by_ratio, comparison.external)
        if table is not None and table.rows
    ]
    words = [_verdict_lines(comparison.verdicts), _faults(comparison), _next(comparison)]
    return "\n".join(block for block in (_subject(comparison), *tables, *words) if block)


def _subject(comparison: Comparison) -> str:
    settings = f", {comparison.settings}" if comparison.settings else ""
    return f"Data: {comparison.dataset or 'unnamed'}{settings}\n"


def _verdict_lines(verdicts: Sequence[Judged]) -> str:
    """A line per strategy: outcome, then each criterion with its mark; below, what was wanted."""
    if not verdicts:
        return ""
    seeds = {seed_words(judged) for judged in verdicts}
    names = [f"{judged.ratio_percent:g}% {judged.strategy}" for judged in verdicts]
    lines = [f"Verdict, {seeds.pop()}" if len(seeds) == 1 else "Verdict", ""]
    width = max(map(len, names))
    most = max((judged.verdict.criteria for judged in verdicts), key=len)
    widths = [
        max(
            len(judged.verdict.criteria[index].short)
            for judged in verdicts
            if index < len(judged.verdict.criteria)
        )
        for index in range(len(most))
    ]
    for judged, name in zip(verdicts, names, strict=True):
        verdict = judged.verdict
        marks = "  ".join(
            f"{_MET[one.met]} {one.short.ljust(size)}"
            for one, size in zip(verdict.criteria, widths, strict=False)
        )
        line = (
            f"{_TERMINAL_MARKS[verdict.outcome]} {name.ljust(width)}  {verdict.outcome:8} {marks}"
        ).rstrip()
        lines += [line] + ([f"  {'':{width}}  {verdict.remark}"] if verdict.remark else [])
        lines += [f"  {'':{width}}  {seed_words(judged)}"] if seeds else []
    text = "wanted: " + "; ".join(f"{one.name} {one.wanted}" for one in most)
    fixed = dict.fromkeys(
        judged.strategy for judged in verdicts if fixes_its_count(judged.strategy)
    )
    if fixed and most[-1].name == COUNT:
        text += f" (not of {', '.join(fixed)}, whose definition fixes it)"
    return "\n".join([*lines, *textwrap.wrap(text, _WIDTH, subsequent_indent="  ")]) + "\n"


def seed_words(judged: Judged) -> str:
    """`6 seeds: claim`."""
    number = judged.verdict.seeds
    return f"{number} {'seed' if number == 1 else 'seeds'}: {judged.grade}"


def _faults(comparison: Comparison) -> str:
    lines = [f"! {fault}" for fault in comparison.faults]
    if comparison.others:
        number = len(comparison.others)
        lines.append(
            f"! {number} other {'group' if number == 1 else 'groups'} of data or settings in the "
            "store, not "
            "mixed in; `--format markdown` shows all"
        )
    shown = (
        lines
        if len(lines) <= 6
        else [*lines[:5], f"! and {len(lines) - 5} more; `--format json` lists all"]
    )
    return (
        "\n".join(
            line for text in shown for line in textwrap.wrap(text, _WIDTH, subsequent_indent="    ")
        )
        + "\n"
        if lines
        else ""
    )


def _next(comparison: Comparison) -> str:
    """The next steps of the arm that the comparison is about: class_balanced, else the last one judged."""
    steps = [judged for judged in comparison.verdicts if judged.verdict.next_steps]
    mine = [judged for judged in steps if judged.strategy == "class_balanced"] or steps[-1:]
    ratios: dict[str, list[str]] = {}
    for judged in mine:
        ratios.setdefault(judged.verdict.next_steps, []).append(f"{judged.ratio_percent:g}%")
    lines = [f"Next at {' and '.join(found)}: {text}" for text, found in ratios.items()]
    return (
        "\n".join(
            "\n".join(textwrap.wrap(line, _WIDTH, subsequent_indent="    ")) for line in lines
        )
        + "\n"
        if lines
        else ""
    )


def _markdown(comparison: Comparison) -> str:
    blocks = [
        f"## {markdown_text(_subject(comparison).strip())}\n",
        *(table_markdown(table) for table in comparison.tables),
    ]
    if comparison.verdicts:
        blocks.append(
            "### Verdict\n\n"
            + "\n".join(verdict_markdown(judged) for judged in comparison.verdicts)
            + "\n"
        )
    if comparison.faults:
        blocks.append(
            "### Not in any mean\n\n"
            + "\n".join(f"- {markdown_text(fault)}" for fault in comparison.faults)
            + "\n"
        )
    return "\n".join([*blocks, *(_markdown(other) for other in comparison.others)])


def verdict_markdown(judged: Judged) -> str:
    """The verdict on one strategy as a list item with its criteria and signs below."""
    verdict = judged.verdict
    lines = [
        f"- {_MARKDOWN_MARKS[verdict.outcome]} **{judged.labelled} "
        f"{markdown_text(judged.strategy)}: {verdict.outcome}**, "
        f"{markdown_text(seed_words(judged))}. {markdown_text(verdict.next_steps)}".rstrip()
    ]
    words = {True: "✅", False: "❌", None: "·"}
    lines += [
        f"  - {words[one.met]} {one.name}: {markdown_text(one.measured)} (wanted: "
        f"{markdown_text(one.wanted)})"
        for one in verdict.criteria
    ]
    lines += [f"  - sign, {sign.name}: {markdown_text(sign.text)}" for sign in verdict.signs]
    return "\n".join(
        [*lines, *(f"  - not in it: {markdown_text(text)}" for text in judged.missing)]
    )


def verdict_latex(judged: Judged) -> str:
    """The verdict on one strategy as a paragraph."""
    verdict = judged.verdict
    start = f"{judged.labelled} {judged.strategy}: {verdict.outcome}"
    return (
        rf"\paragraph{{{latex_text(start)}}} "
        rf"{latex_text(f'{seed_words(judged)}; {verdict.sentence}. {verdict.next_steps}')}"
    )


def _latex(comparison: Comparison) -> str:
    blocks = [
        f"% {' '.join(_subject(comparison).split())}\n",
        *(table_latex(table) for table in comparison.tables),
    ]
    return "\n".join([*blocks, *(_latex(other) for other in comparison.others)])


def _json(comparison: Comparison) -> str:
    content = {"schema": SCHEMA, **comparison_json(comparison)}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison in JSON's types; docs/statistics.md holds the schema."""
    return {
        "dataset": comparison.dataset,
        "settings": comparison.settings,
        "metric": comparison.metric,
        "tables": {table.name: table_json(table) for table in comparison.tables},
        "verdicts": [_judged_json(judged) for judged in comparison.verdicts],
        "faults": list(comparison.faults),
        "others": [comparison_json(other) for other in comparison.others],
    }


def _judged_json(judged: Judged) -> dict[str, Any]:
    verdict = judged.verdict
    return {
        "ratio_percent": judged.ratio_percent,
        "strategy": judged.strategy,
        "outcome": verdict.outcome,
        "sentence": verdict.sentence,
        "remark": verdict.remark,
        "seeds": verdict.seeds,
        "grade": judged.grade,
        "missing": list(judged.missing),
        "criteria": [
            {
                "name": one.name,
                "wanted": one.wanted,
                "measured": one.measured,
                "value": one.value,
                "met": one.met,
            }
            for one in verdict.criteria
        ],
        "signs": [
            {"name": sign.name, "text": sign.text, "good": sign.good} for sign in verdict.signs
        ],
        "next_steps": verdict.next_steps,
        "run_ids": list(judged.run_ids),
    }


def _marked(cell: Cell, column: Column, marks: dict[str, str]) -> str:
    mark = marks.get(str(cell.value)) if column.name == "verdict" else None
    return f"{mark} {cell.text}" if mark else cell.text


def _aligned(text: str, width: int, column: Column) -> str:
    return text.ljust(width) if column.decimals is None else text.rjust(width)


def _wrapped(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(note, _WIDTH, subsequent_indent="  ")]


def markdown_text(text: str) -> str:
    """Text that neither ends a Markdown cell nor opens an HTML tag."""
    escaped = (
        text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    )
    return " ".join(escaped.split())


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is; a letter that its fonts have not got is printed as its number, `U+7C92`."""
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    return re.sub(
        "-(?=-)", "-{}", "".join(map(_latex_letter, plain))
    )  # it makes a dash of two hyphens


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    known = letter.isascii() and letter.isprintable()
    accented = letter <= "\u017f" and unicodedata.decomposition(letter)[:1].isdigit()
    return letter if known or accented else f"U+{ord(letter):04X}"


def _unit_word(column: Column) -> str:
    return {"%": "percent"}.get(column.unit, column.unit)


def _csv_value(cell: Cell) -> str:
    if cell.value is None:
        return ""
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        return repr(cell.value)
    return _inert("" if cell.text == NOTHING else str(cell.value))


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
