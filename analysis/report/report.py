"""The content of a report: sentences, tables, figures, pictures, origin.

`document` writes it as a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from analysis.report.abstract import abstract, methods
from analysis.report.curves import calibration, precision_recall
from analysis.report.figures import cost, f1_by_iteration, source_gains
from analysis.report.gains import gain_rows, gains
from analysis.report.origin import Origin, changes_text
from analysis.report.plotting import Plot
from analysis.report.pseudo_label_figures import particle_ratio, quality
from analysis.report.sensitivity_figure import sensitivity_figure
from analysis.report.verdict_table import verdict_table
from analysis.report.views_figure import views_figure
from analysis.runs.arms import Arm, ratios_of, settings_of
from analysis.runs.counts import unreachable_text
from analysis.runs.names import data_text, listed, short_names
from analysis.stats.statistics import seeds_text
from analysis.tables.comparison import Comparison
from analysis.tables.inventory import inventory
from analysis.tables.second import views_behind
from analysis.tables.sensitivity import Sensitivity
from analysis.tables.sensitivity_text import sentences, subject
from analysis.tables.table import Column, Table, Value, row_of, shown


@dataclass(frozen=True)
class Picture:
    """A picture that a run recorded, as JPEG; a typical one is shown before the others."""

    run_id: str
    title: str
    jpeg: bytes
    typical: bool = True


@dataclass(frozen=True)
class Section:
    """One data set under one group of settings; the main figure is the first of `plots`."""

    name: str
    comparison: Comparison
    plots: tuple[Plot, ...]
    verdicts: Table

    def drawn(self) -> list[Plot]:
        """The figures but the main one."""
        return [plot for plot in self.plots[1:] if plot.figure]

    def tables(self, *names: str) -> list[Table]:
        """The tables of these names that have rows, in this order."""
        found = {table.name: table for table in self.comparison.tables}
        return [found[name] for name in names if name in found]


@dataclass(frozen=True)
class Swept:
    """What some settings do to the score: sentences, a figure, a table."""

    names: str
    subject: str
    sentences: tuple[str, ...]
    plot: Plot
    table: Table


@dataclass(frozen=True)
class Report:
    """The content of a report.

    `abstract` is a paragraph of sentences; `sections` has the newest first; `facts` are (word,
    text) about data and code. `swept` is what some settings do, None unless it was asked for.
    """

    title: str
    subtitle: str
    abstract: tuple[str, ...]
    methods: tuple[str, ...]
    sections: tuple[Section, ...]
    pictures: tuple[Picture, ...]
    settings: Table
    runs: Table
    problems: Table
    facts: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    origin: Origin
    swept: Swept | None = None


def build_report(
    comparison: Comparison,
    frame: pd.DataFrame,
    pictures: Sequence[Picture],
    origin: Origin,
    *,
    swept: Sensitivity | None = None,
    unreadable: Sequence[str] = (),
    unreachable: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """The report of a comparison.

    Args:
        comparison: the result of `analysis.tables.comparison.compare` on `frame`.
        frame: the tracked runs: iterations, arms, and the experiments with their data sets.
        pictures: of micrographs.
        origin: of the report.
        swept: what the values of some settings do, if that was asked for.
        unreadable: titles of pictures that a run recorded, but that cannot be read.
        unreachable: run id -> where its pictures were looked for in vain.
    """
    ours = frame[frame["cryossl.kind"] != "experiment"] if "cryossl.kind" in frame else frame
    every = (comparison, *comparison.others)
    names = _section_names(every)
    sections = tuple(
        Section(name, one, _plots(one), verdict_table(one.verdicts))
        for name, one in zip(names, every, strict=True)
    )
    return Report(
        title=f"Self-training on {data_text(comparison.dataset)}",
        subtitle=_subtitle(comparison, origin),
        abstract=abstract(comparison),
        methods=methods(comparison),
        sections=sections,
        pictures=tuple(pictures),
        settings=_settings(comparison.arms),
        runs=_runs(_arms(sections, swept)),
        problems=inventory(ours)[1],
        facts=(
            *(
                (f"Data of {one.name}", one.comparison.dataset)
                for one in sections
                if one.comparison.dataset != one.name
            ),
            *_facts(frame, origin),
        ),
        missing=(
            *_missing(sections[0], pictures, unreadable, unreachable),
            *(swept.faults if swept else ()),
        ),
        origin=origin,
        swept=_swept(swept) if swept else None,
    )


def _swept(found: Sensitivity) -> Swept:
    plot = sensitivity_figure(found)
    lacking = () if plot.figure else (f'No figure "{plot.title}": {plot.reason}.',)
    return Swept(
        names=found.names,
        subject=f"{subject(found)}.",
        sentences=(*sentences(found), *lacking),
        plot=plot,
        table=shown(found.table),
    )


def _arms(sections: Sequence[Section], swept: Sensitivity | None) -> list[Arm]:
    """The arms behind all tables, each once."""
    every = [arm for section in sections for arm in section.comparison.arms]
    known = {model.run_id for arm in every for model in arm.iterations}
    more = swept.arms if swept else ()
    return every + [arm for arm in more if not any(one.run_id in known for one in arm.iterations)]


def _section_names(comparisons: Sequence[Comparison]) -> list[str]:
    """The data set of each, with a number where several have the same."""
    short = short_names({one.dataset for one in comparisons})
    names = [short[one.dataset] or "unnamed data" for one in comparisons]
    many = Counter(names)
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        if many[name] > 1:
            seen[name] += 1
            names[place] = f"{name}, settings {seen[name]} of {many[name]}"
    return names


def _subtitle(comparison: Comparison, origin: Origin) -> str:
    arms = comparison.arms
    ratios = listed(f"{ratio:g}%" for ratio in ratios_of(arms))
    seeds = seeds_text(len({arm.seed for arm in arms}))
    return f"{ratios} of the training data labelled, {seeds}. Made {origin.made}."


def pictured_runs(comparison: Comparison) -> list[tuple[str, str]]:
    """(run id, title) of the models whose pictures the report shows.

    At each ratio they are the final models of the first finished seed.
    """
    found: dict[str, str] = {}
    for ratio in ratios_of(comparison.arms):
        done = [
            arm
            for arm in comparison.arms
            if arm.ratio_percent == ratio and arm.state == "finished" and arm.final
        ]
        first = min((arm.seed for arm in done), default=0)
        for arm in done:
            if arm.seed == first and arm.final:
                name = (
                    "supervised baseline"
                    if arm.final.iteration == 0
                    else f"{arm.strategy}, iteration {arm.final.iteration}"
                )
                found.setdefault(arm.final.run_id, f"{ratio:g}% labelled, seed {first}, {name}")
    return list(found.items())


def _plots(comparison: Comparison) -> tuple[Plot, ...]:
    arms, counts, metric = comparison.arms, comparison.counts, comparison.metric
    second = comparison.second
    both = (
        (views_figure(arms, second, metric=metric, views=views_behind(arms, comparison.views)),)
        if second
        else ()
    )
    return (
        gains(gain_rows(arms, counts, metric=metric), metric=metric),
        *both,
        f1_by_iteration(arms, metric=metric),
        particle_ratio(arms),
        precision_recall(arms, counts),
        source_gains(arms, metric=metric),
        cost(arms, metric=metric),
        calibration(arms, counts),
        quality(arms),
    )


def _missing(
    section: Section,
    pictures: Sequence[Picture],
    unreadable: Sequence[str],
    unreachable: Mapping[str, str],
) -> tuple[str, ...]:
    shown = pictured_runs(section.comparison)
    lost = {run: unreachable[run] for run, _ in shown if run in unreachable}
    why = unreachable_text(lost, runs=len(shown))
    none = [f"{'not all' if pictures else 'no'} pictures of micrographs: {why}"] if why else []
    if not pictures and not unreadable and not why:
        none = ["no pictures of micrographs: the runs recorded none"]
    return (
        *section.comparison.faults,
        *(f'no figure "{plot.title}": {plot.reason}' for plot in section.plots if not plot.figure),
        *none,
        *(f"no picture of {title}: its file cannot be read" for title in unreadable),
    )


def _settings(arms: Sequence[Arm]) -> Table:
    columns = Column("setting", "Setting"), Column("value", "Value")
    rows = tuple(row_of(columns, pair) for pair in sorted(settings_of(arms).items()))
    return Table(
        "settings",
        "Settings",
        columns,
        rows,
        ("of the first run; ratio, seed and strategies vary",) if rows else (),
    )


def _runs(arms: Sequence[Arm]) -> Table:
    columns = (
        Column("labelled", "Labelled"),
        Column("strategy", "Strategy"),
        Column("seed", "Seed", "", 0),
        Column("iteration", "Iteration", "", 0),
        Column("state", "State"),
        Column("run", "Run"),
    )
    rows = []
    for arm in arms:
        for model in arm.iterations:
            values: tuple[Value, ...] = (
                f"{arm.ratio_percent:g}%",
                arm.strategy,
                arm.seed,
                model.iteration,
                model.state,
                model.run_id,
            )
            rows.append(row_of(columns, values, run_ids=(model.run_id,)))
    return Table("runs", "Runs behind the tables", columns, tuple(rows))


def _facts(frame: pd.DataFrame, origin: Origin) -> tuple[tuple[str, str], ...]:
    """Data sets with digests; the code of the runs; code and packages of the report."""
    data = [
        (f"Data {str(name).removeprefix('dataset ')}", f"digest {digest}")
        for name in frame.columns
        if str(name).startswith("dataset ")
        for digest in frame[name].dropna().unique()
    ]
    return (
        *data,
        ("Runs made with", _code(frame) or "an unknown commit"),
        *((("Stages", kept),) if (kept := _kept_stages(frame)) else ()),
        ("Report made with", origin.commit),
        ("Packages", ", ".join(f"{name} {version}" for name, version in origin.versions.items())),
        ("Tracking store", origin.tracking_uri),
        ("Made", origin.made),
    )


def _kept_stages(frame: pd.DataFrame) -> str:
    """How many models were trained by other code and reused; empty if none was."""
    tag = "cryossl.kept_stages"
    kept = 0 if tag not in frame else int((frame[tag] == "true").sum())
    models = "model is" if kept == 1 else "models are"
    return f"{kept} {models} reused from trainings by other code (keep_stages)" if kept else ""


def _code(frame: pd.DataFrame) -> str:
    commit, dirty = "mlflow.source.git.commit", "cryossl.git_dirty"
    if commit not in frame:
        return ""
    flags = frame[dirty] if dirty in frame else pd.Series("unknown", index=frame.index)
    seen = Counter(
        (str(one), changes_text(str(flag)))
        for one, flag in zip(frame[commit], flags, strict=True)
        if isinstance(one, str)
    )
    return "; ".join(
        f"commit {one[:12]}{changed} ({number} run{'s' * (number != 1)})"
        for (one, changed), number in seen.most_common()
    )
