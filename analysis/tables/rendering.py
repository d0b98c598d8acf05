"""A comparison as text: for a terminal, Markdown, CSV, JSON, LaTeX. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from analysis.runs.groups import NOTE_ARMS
from analysis.stats.statistics import seeds_text
from analysis.tables.comparison import Comparison
from analysis.tables.formats import (
    TERMINAL_MARKS,
    latex_text,
    markdown_text,
    table_csv,
    table_json,
    table_latex,
    table_markdown,
)
from analysis.tables.second import SecondScoring
from analysis.tables.summary import Judged
from analysis.tables.terminal import WIDTH, table_text, wrapped
from cryossl.errors import ConfigError
from cryossl.evaluation.answer import ANSWERS, MARKDOWN_MARKS, merit
from cryossl.evaluation.verdict import COUNT, Criterion
from cryossl.strategy_names import fixes_its_count

FORMATS = ("table", "markdown", "csv", "json", "latex")
SCHEMA = "cryossl.comparison/1"
MET_MARKS = {True: "✓", False: "✗", None: "·"}


def render(comparison: Comparison, form: str, *, width: int | None = None) -> str:
    """The comparison as text ending in a newline.

    `table` is the short form, for a terminal of `width` columns if one is given: the note's table,
    strategies, verdicts, the answer to the note's question, what to do next. `csv` is the table of
    strategies, one header. `markdown`, `json` and `latex` hold every table. Raises ConfigError for
    another word.
    """
    writers: dict[str, Callable[[Comparison], str]] = {
        "table": lambda one: _terminal(one, width=width),
        "markdown": _markdown,
        "csv": lambda one: table_csv(one.by_ratio),
        "json": _json,
        "latex": _latex,
    }
    if form not in writers:
        raise ConfigError(f"unknown format {form!r}", cure=f"known: {', '.join(FORMATS)}")
    return writers[form](comparison)


def _terminal(comparison: Comparison, *, width: int | None) -> str:
    tables = [
        table_text(table, width=width)
        for table in (comparison.note, comparison.by_ratio, comparison.external)
        if table is not None and table.rows
    ]
    by = f" by {comparison.words}" if comparison.second else ""
    words = [
        _verdict_lines(comparison.verdicts, by, width=width),
        wrapped(_faults(comparison), width=width, indent="    "),
        wrapped(answer_lines(comparison.verdicts, comparison.second), width=width, indent="    "),
    ]
    subject = wrapped([_subject(comparison).strip()], width=width)
    return "\n".join(block for block in (subject, *tables, *words) if block)


def _subject(comparison: Comparison) -> str:
    settings = f", {comparison.settings}" if comparison.settings else ""
    return f"Data: {comparison.dataset or 'unnamed'}{settings}\n"


def _verdict_lines(verdicts: Sequence[Judged], by: str, *, width: int | None) -> str:
    """A line per strategy: outcome, then each criterion with its mark; last, the criteria.

    Where the width is too small, the criteria stand below the strategy's name. `by` names the
    scoring, if there are two.
    """
    if not verdicts:
        return ""
    seeds = {seed_words(judged) for judged in verdicts}
    lines = [f"Verdict{by}, {seeds.pop()}" if len(seeds) == 1 else f"Verdict{by}", ""]
    heads = [
        f"{TERMINAL_MARKS[judged.verdict.outcome]} {judged.ratio_percent:g}% {judged.strategy}"
        for judged in verdicts
    ]
    head_width = max(map(len, heads))
    most = max((judged.verdict.criteria for judged in verdicts), key=len)
    shorts = [[one.short for one in judged.verdict.criteria] for judged in verdicts]
    sizes = [max(map(len, texts)) for texts in zip_longest(*shorts, fillvalue="")]
    beside = width is None or head_width + 11 + sum(size + 4 for size in sizes) - 2 <= width
    for judged, head in zip(verdicts, heads, strict=True):
        verdict = judged.verdict
        marks = "  ".join(
            f"{MET_MARKS[one.met]} {one.short.ljust(size)}"
            for one, size in zip(verdict.criteria, sizes, strict=False)
        ).rstrip()
        line = f"{head.ljust(head_width)}  {verdict.outcome:8}"
        more = [verdict.remark, *([seed_words(judged)] if seeds else [])]
        if beside:
            lines.append(f"{line} {marks}".rstrip())
        else:
            lines.append(line.rstrip())
            more = [marks, *more]
        indent = " " * (head_width + 2) if beside else "    "
        lines += [
            part
            for text in more
            for part in textwrap.wrap(
                text, width or WIDTH, initial_indent=indent, subsequent_indent=indent
            )
        ]
    return "\n".join([*lines, wrapped([_wanted(verdicts, most)], width=width)])


def _wanted(verdicts: Sequence[Judged], criteria: Sequence[Criterion]) -> str:
    text = "wanted: " + "; ".join(f"{one.name} {one.wanted}" for one in criteria)
    fixed = dict.fromkeys(
        judged.strategy for judged in verdicts if fixes_its_count(judged.strategy)
    )
    if fixed and criteria[-1].name == COUNT:
        text += f" (not of {', '.join(fixed)}, whose definition fixes it)"
    return text


def seed_words(judged: Judged) -> str:
    """`6 seeds: claim`."""
    return f"{seeds_text(judged.verdict.seeds)}: {judged.grade}"


def _faults(comparison: Comparison) -> list[str]:
    lines = [f"! {fault}" for fault in comparison.faults]
    if len(lines) > 5:
        lines[4:] = [f"! and {len(lines) - 4} more; `--format json` lists all"]
    if comparison.others:
        number = len(comparison.others)
        lines.append(
            f"! this is group {comparison.group}; {number} other "
            f"{'group' if number == 1 else 'groups'} of data, settings or code in the store, not "
            "mixed in; `--group NAME` shows one, `--group list` lists all:"
        )
        lines += [
            f"  {other.group}  {_subject(other).strip().removeprefix('Data: ')}"
            + (f", last start {other.started}" if other.started else "")
            for other in comparison.others[:3]
        ]
        lines += [f"  and {number - 3} more"] if number > 3 else []
    return lines


def answer_lines(verdicts: Sequence[Judged], second: SecondScoring | None = None) -> list[str]:
    """The answer to the note's question for both arms at each ratio, and what to do next.

    Where the second scoring answers otherwise, it is said.

    The next step is that of the best strategy: of the best outcome, among equals of the highest
    gain.
    """
    asked = [judged for judged in verdicts if judged.verdict.outcome in ANSWERS]
    ratios = dict.fromkeys(judged.ratio_percent for judged in asked)
    answers, steps = [], dict[tuple[str, str], list[str]]()
    for ratio in ratios:
        here = [judged for judged in asked if judged.ratio_percent == ratio]
        best = max(here, key=lambda judged: merit(judged.verdict))
        arms = [judged for judged in here if judged.strategy in NOTE_ARMS.strategies] or [best]
        told = "; ".join(
            _answer(judged) + _otherwise(judged, second)
            for judged in (arms if best in arms else [*arms, best])
        )
        answers.append(f"Does self-training help at {ratio:g}%? {told}")
        if best.verdict.next_steps:
            steps.setdefault((best.strategy, best.verdict.next_steps), []).append(f"{ratio:g}%")
    others = {judged.strategy for judged in asked} - set(NOTE_ARMS.strategies)
    compared = "the best strategy, " if others else "the better arm, "
    chosen = compared if len(asked) > len(ratios) else ""
    return [
        *answers,
        *(
            f"Next at {' and '.join(found)}, from {chosen}{strategy}: {text}"
            for (strategy, text), found in steps.items()
        ),
    ]


def _answer(judged: Judged) -> str:
    gain = judged.verdict.criteria[0]
    shown = "" if gain.value is None else f" ({gain.short} points)"
    return f"{judged.strategy}: {ANSWERS[judged.verdict.outcome]}{shown}"


def _otherwise(judged: Judged, second: SecondScoring | None) -> str:
    """What the second scoring answers, if that is not the same."""
    for other in second.verdicts if second else ():
        same = (other.ratio_percent, other.strategy) == (judged.ratio_percent, judged.strategy)
        if second and same and other.verdict.outcome != judged.verdict.outcome:
            return f", by {second.words} {_answer(other).partition(': ')[2]}"
    return ""


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
        "group": comparison.group,
        "started": comparison.started,
        "settings": comparison.settings,
        "metric": comparison.metric,
        "tables": {table.name: table_json(table) for table in comparison.full_tables},
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
