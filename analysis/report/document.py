"""A report as a file: HTML with its figures inside, Markdown or LaTeX with figures beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from analysis.report.origin import Origin
from analysis.report.plotting import Plot, image
from analysis.report.report import Picture, Report, Section
from analysis.tables.formats import (
    TERMINAL_MARKS,
    latex_text,
    markdown_text,
    table_latex,
    table_markdown,
)
from analysis.tables.rendering import verdict_latex
from analysis.tables.table import Cell, Table
from cryossl.pages.page import data_uri, render
from cryossl.pages.palette import BLUE, VERMILLION, YELLOW

TEMPLATE = Path(__file__).with_name("report.html.j2")
SWATCHES = (
    ("true positive", BLUE),
    ("false positive", YELLOW),
    ("false negative", VERMILLION),
    ("not scored", "#787878"),
)
ROWS_PER_PAGE = 40  # of a LaTeX table
LONG_SOURCES = 12  # rows of the table of sources, above which a page shows it folded


def html(report: Report) -> str:
    """One self-contained page, without scripts and without anything from outside.

    A content security policy in its head makes browsers refuse both.
    """
    return render(
        TEMPLATE,
        title=report.title,
        report=report,
        drawing=lambda plot: data_uri("image/svg+xml", image(plot.figure, "svg")),
        photo=lambda picture: data_uri("image/jpeg", picture.jpeg),
        link=lambda cell: run_link(cell, report.origin),
        marks=TERMINAL_MARKS,
        swatches=SWATCHES,
        long=lambda table: table.name == "sources" and len(table.rows) > LONG_SOURCES,
    )


def run_link(cell: Cell, origin: Origin) -> str:
    """The address at which MLflow shows the runs of a cell.

    Empty if the store is no server or if no run's experiment is known.
    """
    known = {run: origin.experiments[run] for run in cell.run_ids if run in origin.experiments}
    if urlsplit(origin.tracking_uri).scheme not in ("http", "https") or not known:
        return ""
    start = origin.tracking_uri.rstrip("/")
    if len(known) == 1:
        run, experiment = next(iter(known.items()))
        return f"{start}/#/experiments/{quote(experiment, safe='')}/runs/{quote(run, safe='')}"
    runs, experiments = (
        quote("[" + ",".join(f'"{one}"' for one in dict.fromkeys(ids)) + "]", safe="")
        for ids in (known.keys(), known.values())
    )
    return f"{start}/#/compare-runs?runs={runs}&experiments={experiments}"


def figure_files(report: Report) -> dict[str, bytes]:
    """File name -> PNG or SVG of each figure, and the pictures."""
    names = _plot_names(report)
    files = {
        f"{names[id(plot)]}.{form}": image(plot.figure, form)
        for plot in _plots(report)
        if plot.figure
        for form in ("png", "svg")
    }
    return files | {
        f"{name}.jpg": picture.jpeg for name, picture in _named_pictures(report).items()
    }


def markdown(report: Report, *, figures: str) -> str:
    """The report in GitHub's Markdown.

    `figures` is the folder of the figure files, relative to the report.
    """
    words = markdown_text
    blocks = [
        f"# {words(report.title)}",
        words(" ".join(report.abstract)),
    ]
    names = _plot_names(report)
    for section in report.sections:
        main, *plots = (_markdown_figure(plot, names, figures) for plot in section.plots)
        short = section.tables("by_ratio", "note")
        tables = (
            table_markdown(table).rstrip()
            for table in (section.verdicts, *section.comparison.tables)
            if table.rows and table not in short
        )
        blocks += [
            f"## {words(section.name)}",
            words(section.comparison.settings),
            main,
            *(table_markdown(table).rstrip() for table in short),
            *tables,
            *plots,
        ]
    if swept := report.swept:
        blocks += [
            f"## Sensitivity to {words(swept.names)}",
            words(swept.subject),
            *map(words, swept.sentences),
            _markdown_figure(swept.plot, names, figures),
            table_markdown(swept.table).rstrip(),
        ]
    blocks += [
        f"![{words(picture.title)}]({figures}/{name}.jpg)\n\n{words(picture.title)}, run "
        f"{words(picture.run_id)}"
        for name, picture in _named_pictures(report).items()
    ]
    blocks += [
        "## Method",
        *map(words, report.methods),
        _markdown_list("## Failed or missing", report.missing),
        _markdown_list("## Provenance", [f"{word}: {text}" for word, text in report.facts]),
        f"Made again by\n\n```\n{report.origin.command.replace('`', '')}\n```",
    ]
    blocks += [
        table_markdown(table).rstrip()
        for table in (report.settings, report.problems, report.runs)
        if table.rows
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _markdown_figure(plot: Plot, names: Mapping[int, str], figures: str) -> str:
    """A figure with its title and caption; empty if there is none."""
    title = markdown_text(plot.title)
    picture = f"![{title}]({figures}/{names[id(plot)]}.png)"
    return f"### {title}\n\n{picture}\n\n{markdown_text(plot.caption)}" if plot.figure else ""


def latex(report: Report, *, figures: str) -> str:
    """The report as a LaTeX document (booktabs, graphicx); `figures` as for Markdown."""
    words = latex_text
    head = [
        r"\documentclass[10pt]{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        rf"\title{{{words(report.title)}}}",
        rf"\date{{{words(report.origin.made)}}}",
        r"\author{}",
        r"\begin{document}",
        r"\maketitle",
        r"\begin{abstract}",
        words(" ".join(report.abstract)),
        r"\end{abstract}",
    ]
    names = _plot_names(report)
    blocks = [
        block for section in report.sections for block in _latex_section(section, names, figures)
    ]
    if swept := report.swept:
        blocks += [
            rf"\section{{{words(f'Sensitivity to {swept.names}')}}}",
            "\n\n".join(map(words, (swept.subject, *swept.sentences))),
            *_latex_table(swept.table),
            *_latex_figure(swept.plot, names, figures),
            r"\clearpage",
        ]
    tail = [
        r"\section*{Method}",
        "\n\n".join(map(words, report.methods)),
        r"\section*{Failed or missing}",
        "\n\n".join(map(words, report.missing)) or "Nothing.",
        r"\section*{Provenance}",
        "\n\n".join(words(f"{word}: {text}") for word, text in report.facts),
        rf"Made by \texttt{{{words(report.origin.command)}}}",
        r"\end{document}",
    ]
    return "\n".join([*head, *blocks, *tail]) + "\n"


def _latex_section(section: Section, names: Mapping[int, str], figures: str) -> list[str]:
    blocks = [
        rf"\section{{{latex_text(section.name)}}}",
        latex_text(section.comparison.settings),
        *map(verdict_latex, section.comparison.verdicts),
    ]
    blocks += [line for table in section.comparison.tables for line in _latex_table(table)]
    blocks += [line for plot in section.plots for line in _latex_figure(plot, names, figures)]
    return [*blocks, r"\clearpage"]


def _latex_table(table: Table) -> list[str]:
    """A table, in parts of one page each."""
    blocks = []
    for start in range(0, len(table.rows), ROWS_PER_PAGE):
        part = table_latex(replace(table, rows=table.rows[start : start + ROWS_PER_PAGE]))
        blocks += [
            r"\begin{table}[htbp]\centering",
            rf"\caption{{{latex_text(table.title)}}}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            part.rstrip() + "%",
            "}",
            r"\end{table}",
        ]
    return blocks


def _latex_figure(plot: Plot, names: Mapping[int, str], figures: str) -> list[str]:
    if not plot.figure:
        return []
    return [
        r"\begin{figure}[htbp]\centering",
        rf"\includegraphics[width=0.75\textwidth]{{{figures}/{names[id(plot)]}.png}}",
        rf"\caption{{{latex_text(plot.title)}. {latex_text(plot.caption)}}}",
        r"\end{figure}",
    ]


def _plots(report: Report) -> list[Plot]:
    """All figures of a report, those without data too."""
    every = [plot for section in report.sections for plot in section.plots]
    return [*every, *([report.swept.plot] if report.swept else [])]


def _plot_names(report: Report) -> dict[int, str]:
    """Id of a plot -> its file's name without ending; from the second section on with a number."""
    named = {
        id(plot): plot.name + (f"-{number}" if number > 1 else "")
        for number, section in enumerate(report.sections, start=1)
        for plot in section.plots
    }
    return {id(plot): named.get(id(plot), plot.name) for plot in _plots(report)}


def _named_pictures(report: Report) -> dict[str, Picture]:
    """Name of a picture's file without ending -> the picture; it says what the picture shows."""
    named: dict[str, Picture] = {}
    for picture in report.pictures:
        slug = re.sub(r"[^a-z0-9_+]+", "-", picture.title.lower()).strip("-")[:80]
        start = f"micrograph-{slug}".strip("-")
        again = 2
        name = start
        while name in named:
            name, again = f"{start}-{again}", again + 1
        named[name] = picture
    return named


def _markdown_list(title: str, lines: tuple[str, ...] | list[str]) -> str:
    return "\n".join([title, "", *(f"- {markdown_text(line)}" for line in lines)]) if lines else ""


def tables_of(report: Report) -> tuple[Table, ...]:
    """The tables of the first section, of settings, runs and problems, if they have rows."""
    swept = (report.swept.table,) if report.swept else ()
    every = (*report.sections[0].comparison.tables, *swept, report.runs, report.problems)
    return tuple(table for table in every if table.rows)
