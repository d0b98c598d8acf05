"""The commands that need only the tracking store: compare, runs and report.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.run_end import MOST_DRAWN, command_line
from analysis.runs.tracked import TrackedRuns
from cryossl.errors import (
    ConfigError,
    StorageError,
)
from cryossl.progress.terminal import columns, echo
from cryossl.run_settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report.report import Picture, Report
    from analysis.runs.groups import Choice
    from analysis.tables.comparison import Comparison
    from analysis.tables.sensitivity import Sensitivity
    from cryossl.evaluation.scorings import Views

FILE_ENDINGS = {"html": "html", "markdown": "md", "latex": "tex"}
MAX_EXTERNAL_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Asked:
    """What is to be compared.

    A labelled part in percent (None: all), a metric, a scoring (None: the runs' headline), and a
    group of comparable runs by its short name (empty: the newest that holds what is asked). `by`:
    settings over whose values runs are compared; `where`: SETTING=VALUE of the only runs to read.
    """

    ratio: float | None
    metric: str
    views: Views | None
    group: str = ""
    by: tuple[str, ...] = ()
    where: tuple[str, ...] = ()


def compare(
    asked: Asked,
    *,
    form: str,
    explain: str | None = None,
    arm: str | None = None,
    external: Path | None = None,
    **store: str | None,
) -> None:
    """Print the comparison of the tracked runs, or where one of its numbers comes from.

    `store`: tracking_uri and experiment. Raises ConfigError for options that do not go together,
    DataError where no run has finished.
    """
    from analysis.report import explanation
    from analysis.runs.groups import LIST, Choice
    from analysis.tables.groups import groups_text
    from analysis.tables.rendering import render

    if (explain is None) != (arm is None):
        raise ConfigError(
            "--explain METRIC and --arm STRATEGY go together", cure="give both, or neither"
        )
    tracked = TrackedRuns(store.get("tracking_uri"), store.get("experiment"))
    if asked.group.lower() == LIST:
        listed = groups_text(_runs_where(tracked, asked), form, width=columns())
        click.echo(listed, nl=False)
        return
    if asked.by:
        from analysis.tables.sensitivity_text import render_sensitivity

        click.echo(
            render_sensitivity(_sensitivity(tracked, asked), form, width=columns()), nl=False
        )
        return
    if explain is not None and arm is not None:
        named = replace(asked, ratio=None, metric=explanation.metric_called(explain))
        found = _compared(tracked, named, Choice(asked.group, (arm,), asked.ratio))
        text = explanation.explain(found, strategy=arm, ratio=asked.ratio)
        echo(text.rstrip("\n"))
        return
    found = _compared(tracked, asked, Choice(asked.group))
    if external is not None:
        from analysis.tables.external import beside, parse_external
        from cryossl.system.user_files import read_text

        text = read_text(
            external, max_bytes=MAX_EXTERNAL_BYTES, smaller="give a row per test micrograph"
        )
        found = beside(found, parse_external(text, name=external.stem))
    click.echo(render(found, form, width=columns()))


def refuse_unused(typed: Collection[str], *, group: str) -> None:
    """Raise ConfigError if an option was typed that has no effect on what `compare` prints.

    `typed`: the options; `group`: the value of --group.
    """
    from analysis.runs.groups import LIST

    beside = ["--metric", "--external", "--by"]
    for shown, chosen, unused in (
        ("--explain shows one number", "--explain" in typed, [*beside, "--format"]),
        (
            f"--group {LIST} lists all groups",
            group.lower() == LIST,
            [*beside, "--ratio", "--views", "--explain", "--arm"],
        ),
        ("--by shows what a setting does", "--by" in typed, ["--external", "--explain"]),
    ):
        found = [option for option in unused if option in typed]
        if chosen and found:
            raise ConfigError(
                f"{shown} and has no use for {found[0]}", cure="leave one of the two out"
            )


def runs(*, tracking_uri: str | None, experiment: str | None, as_json: bool) -> None:
    """Print which runs are in the store, which failed and which are missing."""
    from analysis.tables.inventory import inventory, inventory_json, inventory_text

    found = inventory(TrackedRuns(tracking_uri, experiment).frame("iteration", "arm"))
    click.echo(
        inventory_json(found) if as_json else inventory_text(found, width=columns()), nl=False
    )


def report(
    asked: Asked,
    *,
    output: Path | None,
    form: str,
    figures: Path | None,
    log: bool,
    **store: str | None,
) -> None:
    """Write the report of the tracked runs.

    The figures are written as files of their own for Markdown and LaTeX, or if `figures` is given.
    `store`: tracking_uri and experiment. Raises StorageError if a file cannot be written.
    """
    from analysis.report import document
    from analysis.report.origin import origin_of
    from analysis.report.report import build_report
    from analysis.runs.groups import Choice
    from cryossl.system.files import write_durably

    path = _report_path(output, form=form, group=asked.group)
    folder = figures or (None if form == "html" else path.with_name(f"{path.stem}_figures"))
    tracked = TrackedRuns(store.get("tracking_uri"), store.get("experiment"))
    swept = _sensitivity(tracked, asked, most=MOST_DRAWN) if asked.by else None
    found = _compared(tracked, asked, Choice(asked.group), swept)
    options = {
        "--output": str(path),
        "--format": form,
        "--by": asked.by,
        "--where": asked.where,
        "--group": asked.group or None,
        "--ratio": None if asked.ratio is None else f"{asked.ratio:g}",
        "--metric": asked.metric,
        "--views": None if asked.views is None else str(asked.views),
        "--tracking-uri": tracked.shown_uri,
        "--experiment": tracked.experiment,
    }
    pictures, unreadable = _pictures(tracked, found)
    made = build_report(
        found,
        _runs_where(tracked, asked, "iteration", "arm", "experiment"),
        pictures,
        origin_of(tracked, command_line("report", options)),
        swept=swept,
        unreadable=unreadable,
        unreachable=tracked.artifacts.unreachable,
    )
    seen_from = os.path.relpath(folder, path.parent) if folder else ""
    writers: dict[str, Callable[[Report], str]] = {
        "html": document.html,
        "markdown": partial(document.markdown, figures=seen_from),
        "latex": partial(document.latex, figures=seen_from),
    }
    text = writers[form](made)
    files = (
        {folder / name: content for name, content in document.figure_files(made).items()}
        if folder
        else {}
    )
    for target, content in {**files, path: text.encode(errors="backslashreplace")}.items():
        of_folder = target in files and figures is not None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not target.is_file():
                target.write_bytes(content)  # a device or a pipe must stay
            else:
                write_durably(target.resolve(), content)  # a link stays a link
        except OSError as error:
            raise StorageError(
                f"{target} cannot be written ({error.strerror})",
                cure=f"choose another {'--figures' if of_folder else '--output'}",
            ) from None
    click.echo(f"wrote {path}" + (f" and {len(files)} files in {folder}" if folder else ""))
    if log:
        click.echo(f"logged as run {_log(tracked, made, found, path)}")


def _report_path(output: Path | None, *, form: str, group: str) -> Path:
    from analysis.runs.groups import LIST

    if group.lower() == LIST:
        raise ConfigError(
            "a report begins with one group", cure=f"`cryossl compare --group {LIST}` lists them"
        )
    path = output or Path(f"report.{FILE_ENDINGS[form]}")
    if path.is_dir():
        raise StorageError(f"{path} is a folder", cure="name a file in it as --output")
    return path


def _runs_where(tracked: TrackedRuns, asked: Asked, *kinds: str) -> pd.DataFrame:
    """The runs of these kinds, iterations and arms unless named, that meet the conditions."""
    frame = tracked.frame(*(kinds or ("iteration", "arm")))
    if not asked.where:
        return frame
    from analysis.runs.conditions import conditions_of, restricted

    return restricted(frame, conditions_of(asked.where))


def _read(tracked: TrackedRuns, asked: Asked) -> pd.DataFrame:
    """The iterations and arms that are asked for; for one ratio only its runs are read."""
    if asked.ratio is not None:
        tracked.narrow({"cryossl.ratio_percent": f"{asked.ratio:g}"})
    return _runs_where(tracked, asked)


def _compared(
    tracked: TrackedRuns, asked: Asked, choice: Choice, swept: Sensitivity | None = None
) -> Comparison:
    """The comparison of the runs that are asked for, with their counts.

    Of a family of groups that is shown as a whole, only the group of the default values, else the
    newest, is compared.
    """
    from analysis.tables.comparison import compare as compared

    frame = _read(tracked, asked)
    if swept is not None:
        choice = replace(choice, name=swept.main_group)
        others = swept.fingerprints_but(choice.name)
        frame = frame[~frame["cryossl.experiment_fingerprint"].isin(others)]
    return compared(
        frame,
        ratio=asked.ratio,
        metric=asked.metric,
        views=asked.views,
        read_counts=tracked.counts,
        choice=choice,
    )


def _sensitivity(tracked: TrackedRuns, asked: Asked, *, most: int | None = None) -> Sensitivity:
    """What the settings of `--by` do; `most`: so many settings at most can be drawn."""
    from analysis.runs.families import axes_called
    from analysis.runs.groups import Choice
    from analysis.tables.sensitivity import sensitivity

    axes = axes_called(asked.by)
    if most is not None and len(axes) > most:
        raise ConfigError(
            f"a report draws {most} settings at most, --by names {len(axes)}",
            cure="`cryossl compare` with the same --by prints the table",
        )
    return sensitivity(
        _read(tracked, asked),
        axes,
        ratio=asked.ratio,
        metric=asked.metric,
        views=asked.views,
        read_counts=tracked.counts,
        choice=Choice(asked.group),
    )


def _pictures(tracked: TrackedRuns, comparison: Comparison) -> tuple[list[Picture], list[str]]:
    """The worst, median and best micrographs of the models that the report shows.

    Also the titles of those that cannot be read.
    """
    from analysis.report.report import Picture, pictured_runs

    found = [
        (run_id, f"{title}, {place} micrograph", jpeg, place == "median")
        for run_id, title in pictured_runs(comparison)
        for place in ("worst", "median", "best")
        for jpeg in tracked.artifacts.pictures(run_id, [f"validation_{place}"]).values()
    ]
    return (
        [
            Picture(run_id, title, jpeg, typical)
            for run_id, title, jpeg, typical in found
            if jpeg is not None
        ],
        [f"{title}, run {run_id}" for run_id, title, jpeg, _ in found if jpeg is None],
    )


def _log(tracked: TrackedRuns, report: Report, comparison: Comparison, path: Path) -> str:
    """Log a report and its tables as a run of their experiment.

    Returns the id of the run, or, where the store is unreachable, a note that it is not sent yet.
    """
    from analysis.report.document import figure_files, tables_of
    from analysis.tables.formats import table_csv, table_latex
    from analysis.tables.rendering import render
    from cryossl.tracking.tracker import Tracker

    tracker = Tracker(tracked.uri, tracked.experiment, RunSettings().journals)
    tags = {"cryossl.kind": "report", "cryossl.dataset": comparison.dataset}
    with tracker.run(
        f"report-{uuid.uuid4().hex}", name=f"report {report.origin.made}", parent=None, tags=tags
    ) as run:
        run.describe(" ".join(report.abstract))
        run.file(path)
        run.text(render(comparison, "json"), "comparison.json")
        for table in tables_of(report):
            run.text(table_csv(table), f"tables/{table.name}.csv")
            run.text(table_latex(table), f"tables/{table.name}.tex")
        for name, content in figure_files(report).items():
            if not name.endswith(".jpg"):  # a picture is in its own run
                run.binary(content, f"figures/{name}")
    tracker.sync()
    return run.run_id or f"(not sent yet: {tracker.away})"
