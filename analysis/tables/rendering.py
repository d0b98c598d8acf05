"""A comparison as text: for a terminal, Markdown, CSV, JSON, LaTeX. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from analysis.stats.statistics import seeds_text
from analysis.tables.comparison import Comparison
from analysis.tables.formats import (
    MARKDOWN_MARKS,
    TERMINAL_MARKS,
    latex_text,
    markdown_text,
    table_csv,
    table_json,
    table_latex,
    table_markdown,
    table_text,
    wrapped,
)
from analysis.tables.summary import Judged
from cryossl.errors import ConfigError
from cryossl.evaluation.verdict import COUNT
from cryossl.strategy_names import fixes_its_count

FORMATS = ("table", "markdown", "csv", "json", "latex")
SCHEMA = "cryossl.comparison/1"
MET_MARKS = {True: "✓", False: "✗", None: "·"}


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


def _terminal(comparison: Comparison) -> str:
    tables = [
        table_text(table)
        for table in (comparison.note, comparison.by_ratio, comparison.external)
        if table is not None and table.rows
    ]
    by = f" by {comparison.words}" if comparison.second else ""
    words = [_verdict_lines(comparison.verdicts, by), _faults(comparison), _next(comparison)]
    return "\n".join(block for block in (_subject(comparison), *tables, *words) if block)


def _subject(comparison: Comparison) -> str:
    settings = f", {comparison.settings}" if comparison.settings else ""
    return f"Data: {comparison.dataset or 'unnamed'}{settings}\n"


def _verdict_lines(verdicts: Sequence[Judged], by: str) -> str:
    """A line per strategy: outcome, then each criterion with its mark; last, the criteria.

    `by` names the scoring, if there are two.
    """
    if not verdicts:
        return ""
    seeds = {seed_words(judged) for judged in verdicts}
    names = [f"{judged.ratio_percent:g}% {judged.strategy}" for judged in verdicts]
    lines = [f"Verdict{by}, {seeds.pop()}" if len(seeds) == 1 else f"Verdict{by}", ""]
    width = max(map(len, names))
    most = max((judged.verdict.criteria for judged in verdicts), key=len)
    shorts = [[one.short for one in judged.verdict.criteria] for judged in verdicts]
    widths = [max(map(len, texts)) for texts in zip_longest(*shorts, fillvalue="")]
    for judged, name in zip(verdicts, names, strict=True):
        verdict = judged.verdict
        marks = "  ".join(
            f"{MET_MARKS[one.met]} {one.short.ljust(size)}"
            for one, size in zip(verdict.criteria, widths, strict=False)
        )
        line = (
            f"{TERMINAL_MARKS[verdict.outcome]} {name.ljust(width)}  {verdict.outcome:8} {marks}"
        ).rstrip()
        lines += [line] + ([f"  {'':{width}}  {verdict.remark}"] if verdict.remark else [])
        lines += [f"  {'':{width}}  {seed_words(judged)}"] if seeds else []
    text = "wanted: " + "; ".join(f"{one.name} {one.wanted}" for one in most)
    fixed = dict.fromkeys(
        judged.strategy for judged in verdicts if fixes_its_count(judged.strategy)
    )
    if fixed and most[-1].name == COUNT:
        text += f" (not of {', '.join(fixed)}, whose definition fixes it)"
    return "\n".join([*lines, wrapped([text])])


def seed_words(judged: Judged) -> str:
    """`6 seeds: claim`."""
    return f"{seeds_text(judged.verdict.seeds)}: {judged.grade}"


def _faults(comparison: Comparison) -> str:
    lines = [f"! {fault}" for fault in comparison.faults]
    if comparison.others:
        number = len(comparison.others)
        named = [_subject(other).strip().removeprefix("Data: ") for other in comparison.others[:3]]
        lines.append(
            f"! {number} other {'group' if number == 1 else 'groups'} of data, settings or code in "
            f"the store, not mixed in ({'; '.join(named)}{'; ...' * (number > 3)}); "
            "`--format markdown` shows all"
        )
    if len(lines) > 6:
        lines[5:] = [f"! and {len(lines) - 5} more; `--format json` lists all"]
    return wrapped(lines, indent="    ")


def _next(comparison: Comparison) -> str:
    """The next steps for class_balanced, or for the last strategy that was judged."""
    steps = [judged for judged in comparison.verdicts if judged.verdict.next_steps]
    mine = [judged for judged in steps if judged.strategy == "class_balanced"] or steps[-1:]
    ratios: dict[str, list[str]] = {}
    for judged in mine:
        ratios.setdefault(judged.verdict.next_steps, []).append(f"{judged.ratio_percent:g}%")
    lines = [f"Next at {' and '.join(found)}: {text}" for text, found in ratios.items()]
    return wrapped(lines, indent="    ")


def _markdown(comparison: Comparison) -> str:
    blocks = [
        f"## {markdown_text(_subject(comparison).strip())}\n",
        *(table_markdown(table) for table in comparison.tables),
    ]
    for title, items in (
        (
            f"Verdict by {comparison.words}" if comparison.second else "Verdict",
            list(map(verdict_markdown, comparison.verdicts)),
        ),
        ("Not in any mean", [f"- {markdown_text(fault)}" for fault in comparison.faults]),
    ):
        if items:
            blocks.append("\n".join([f"### {title}\n", *items, ""]))
    return "\n".join([*blocks, *map(_markdown, comparison.others)])


def verdict_markdown(judged: Judged) -> str:
    """The verdict on one strategy as a list item with its criteria and signs below."""
    verdict = judged.verdict
    lines = [
        f"- {MARKDOWN_MARKS[verdict.outcome]} **{judged.labelled} "
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
    return "\n".join([*blocks, *map(_latex, comparison.others)])


def _json(comparison: Comparison) -> str:
    content = {"schema": SCHEMA, **comparison_json(comparison)}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison in JSON's types; the schema is docs/schemas/comparison.json."""
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
            {name: getattr(one, name) for name in ("name", "wanted", "measured", "value", "met")}
            for one in verdict.criteria
        ],
        "signs": [asdict(sign) for sign in verdict.signs],
        "next_steps": verdict.next_steps,
        "run_ids": list(judged.run_ids),
    }
