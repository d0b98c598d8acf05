"""A sensitivity in sentences, and as text in the formats of `compare`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from analysis.runs.chosen_settings import shown_value, shown_values
from analysis.runs.levels import Level, Series
from analysis.stats.statistics import seeds_text
from analysis.tables.formats import (
    latex_text,
    markdown_text,
    table_csv,
    table_json,
    table_latex,
    table_markdown,
)
from analysis.tables.sensitivity import (
    ALL,
    DEFAULT,
    Sensitivity,
    against,
    interval_text,
    same_notes,
)
from analysis.tables.summary import score_column
from analysis.tables.table import Cell, Column, Table, without, without_empty
from analysis.tables.terminal import table_text, wrapped

SCHEMA = "cryossl.sensitivity/1"
REMARK = (
    "The best of several values was found on the same test micrographs after the fact, so its "
    "lead is too large on average, and the interval of that lead is no test. A value is to be "
    "chosen on validation, and then run with new seeds."
)


def sentences(found: Sensitivity) -> tuple[str, ...]:
    """What the settings do to each strategy at each labelled part, then how far to believe it."""
    moved = [text for one in found.series if not one.same for text in _sentence(found, one)]
    remark = (
        [REMARK] if any("below the best" in text or "highest at" in text for text in moved) else []
    )
    return (*moved, *(f"{note}." for note in same_notes(found)), *remark)


def _sentence(found: Sensitivity, series: Series) -> list[str]:
    """Over which range the score of a series changes; empty for one that has one value only."""
    done = series.finished(found.metric)
    if len(done) < 2:
        return []
    means = series.means(found.metric)
    if not means:
        return [f"{series.name}: no seed has finished at all values, so no range is given."]
    best, highest = max(means, key=lambda one: one[1])
    lowest = min(mean for _, mean in means)
    text = (
        f"{score_column('', found.metric).title} of {series.name} changes by "
        f"{100 * (highest - lowest):.2f} points over {_range(found, done)} "
        f"({100 * lowest:.2f}% to {100 * highest:.2f}%)"
    )
    shared = len(series.everywhere(found.metric))
    if any(len(level.done(found.metric)) != shared for level in done):
        text += f", over the {seeds_text(shared)} that all values have"
    return [f"{text}; {_default(found, series, best)}."]


def _range(found: Sensitivity, done: list[Level]) -> str:
    """`particle_threshold 0.5 to 0.7`, or how many values of what."""
    if len(found.axes) > 1:
        return f"{len(done)} combinations of {found.names}"
    (axis,) = found.axes
    values = [level.values[0] for level in done]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return f"{axis.name} {shown_value(values[0])} to {shown_value(values[-1])}"
    return f"the values of {axis.name} ({', '.join(map(shown_value, values))})"


def _default(found: Sensitivity, series: Series, best: Level) -> str:
    """How far the default is below the best value."""
    default, top = series.default, _short(found, best)
    if default is None or not default.done(found.metric):
        return f"it is highest at {top}; the default was not run"
    if best is default:
        return f"the default, {top}, is the best value"
    contrast, guess = against(best, default, found.counts, metric=found.metric)
    if contrast is None or guess is None:
        return f"it is highest at {top}; the default shares no seed with it"
    points = 100 * float(contrast.differences.mean())
    bounds = interval_text(guess.interval)
    interval = f"95% interval {bounds}" if bounds else "one seed gives no interval"
    return (
        f"the default, {_short(found, default)}, is {points:.2f} points below the best value, "
        f"{top}, {interval}"
    )


def _short(found: Sensitivity, level: Level) -> str:
    """The value of one setting alone, or of several with their names."""
    if len(found.axes) == 1:
        return level.labelled if found.axes[0].setting == "ratio" else shown_value(level.values[0])
    return shown_values(found.axes, level.values)


def subject(found: Sensitivity) -> str:
    """Which data and runs these are."""
    groups = len({member.group for member in found.family.members})
    return (
        f"Data: {found.dataset or 'unnamed'}; {groups} {'group' if groups == 1 else 'groups'} of "
        f"runs that differ in {found.names} alone, among them {found.group}"
        + (f", all with {', '.join(found.family.apart)}" if found.family.apart else "")
    )


def render_sensitivity(found: Sensitivity, form: str, *, width: int | None = None) -> str:
    """The sensitivity in one of the formats of `compare`, ending in a newline."""
    writers: dict[str, Callable[[], str]] = {
        "table": lambda: _terminal(found, width=width),
        "markdown": lambda: _markdown(found),
        "csv": lambda: table_csv(found.table),
        "json": lambda: json.dumps(sensitivity_json(found), indent=2, allow_nan=False) + "\n",
        "latex": lambda: _latex(found),
    }
    return writers[form]()


def _terminal(found: Sensitivity, *, width: int | None) -> str:
    """A table for each strategy and labelled part: one for all would not fit a terminal."""
    blocks = [table_text(table, width=width) for table in parts(found.table)]
    words = [
        wrapped([subject(found)], width=width),
        *blocks,
        wrapped(found.table.notes, width=width),
        wrapped(sentences(found), width=width),
        wrapped([f"! {fault}" for fault in found.faults], width=width, indent="    "),
    ]
    return "\n".join(block for block in words if block)


def parts(table: Table) -> list[Table]:
    """The table of a sensitivity, a part for each strategy and labelled part.

    The rows that hold for all values come first, in one part. Of several settings the values share
    a column, in the order of the title: their names side by side would not fit a terminal.
    """
    names = [column.name for column in table.columns]
    first, last = names.index("strategy") + 1, names.index("score")
    same = [row for row in table.rows if row[first].value == ALL]
    found: dict[tuple[str, ...], list[tuple[Cell, ...]]] = {}
    for row in table.rows:
        if row not in same:
            found.setdefault(tuple(cell.text for cell in row[:first]), []).append(row)
    whole = _without(
        replace(table, notes=(), title=f"{table.title}: the same at all values", rows=tuple(same)),
        *names[first:last],
        *("change", "change_interval"),
    )
    named = [
        without_empty(
            _with_values(table, rows, first, last)
            if last - first > 1
            else replace(table, columns=table.columns[first:], rows=tuple(r[first:] for r in rows)),
            *("gain", "gain_interval", "change", "change_interval"),
        )
        for rows in found.values()
    ]
    titles = [" at ".join(reversed(key)) for key in found]
    return [
        *([whole] if same else []),
        *(
            replace(one, notes=(), title=f"{table.title}: {title}")
            for one, title in zip(named, titles, strict=True)
        ),
    ]


def _without(table: Table, *names: str) -> Table:
    for name in names:
        table = without(table, name)
    return table


def _with_values(table: Table, rows: list[tuple[Cell, ...]], first: int, last: int) -> Table:
    """The rows with the cells from `first` to `last` in one, and nothing before it."""
    column = Column("values", "Values")
    joined = []
    for row in rows:
        texts = [cell.text for cell in row[first:last]]
        plain = ", ".join(text.removesuffix(DEFAULT) for text in texts)
        mark = DEFAULT if all(text.endswith(DEFAULT) for text in texts) else ""
        joined.append((column.cell(plain + mark), *row[last:]))
    return replace(table, columns=(column, *table.columns[last:]), rows=tuple(joined))


def _markdown(found: Sensitivity) -> str:
    blocks = [
        f"## {markdown_text(subject(found))}\n",
        table_markdown(found.table),
        "\n".join([*(f"- {markdown_text(text)}" for text in sentences(found)), ""]),
    ]
    if found.faults:
        lines = [f"- {markdown_text(fault)}" for fault in found.faults]
        blocks.append("\n".join(["### Missing\n", *lines, ""]))
    return "\n".join(blocks)


def _latex(found: Sensitivity) -> str:
    lines = [f"% {' '.join(subject(found).split())}\n", table_latex(found.table)]
    lines += [f"{latex_text(text)}\n" for text in sentences(found)]
    return "\n".join([*lines, *(f"% {' '.join(fault.split())}" for fault in found.faults)]) + (
        "\n" if found.faults else ""
    )


def sensitivity_json(found: Sensitivity) -> dict[str, Any]:
    """The sensitivity in JSON's types; the schema is docs/schemas/sensitivity.json."""
    return {
        "schema": SCHEMA,
        "dataset": found.dataset,
        "group": found.group,
        "groups": sorted({member.group for member in found.family.members}),
        "started": found.started,
        "metric": found.metric,
        "by": [
            {
                "setting": axis.name,
                "default": shown_value(axis.default),
                "values": [shown_value(value) for value in found.family.values_of(axis)],
            }
            for axis in found.axes
        ],
        "table": table_json(found.table),
        "sentences": list(sentences(found)),
        "faults": list(found.faults),
    }
