"""The commands that need only the tracking store: compare, runs, report, and the end of a run.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.runs.tracked import TrackedRuns
from cryossl.config import Config, fields
from cryossl.errors import (
    ConfigError,
    DataError,
    FailedArmsError,
    NoExperimentError,
    StorageError,
    TrackingError,
)
from cryossl.progress.terminal import columns, echo
from cryossl.redaction import redacted
from cryossl.run_settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report.report import Picture, Report
    from analysis.runs.groups import Choice
    from analysis.tables.comparison import Comparison
    from analysis.tables.sensitivity import Sensitivity
    from cryossl.evaluation.scorings import Views

OTHER_RATIO = {5.0: 10.0, 10.0: 5.0}  # the two that the experiment is about
FILE_ENDINGS = {"html": "html", "markdown": "md", "latex": "tex"}
MAX_EXTERNAL_BYTES = 16 * 2**20
MOST_DRAWN = 2  # settings that a figure can show


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


def conclude(
    config: Config, experiment: Callable[[Config], tuple[str, int]], *, quick: bool = False
) -> None:
    """Run an experiment, print its comparison and the next command to type.

    `quick`: it was a demonstration, and the experiment itself is the next command. Where arms
    failed, their error is raised after that. Where entries could not be sent, the store is not
    read: it may be unreachable, and the run has waited for it already.
    """
    try:
        fingerprint, missing = experiment(config)
    except FailedArmsError as fault:
        _conclude(config, fault.experiment, quick=quick)
        raise
    _conclude(config, fingerprint, missing=missing, quick=quick)


def _conclude(config: Config, fingerprint: str, *, missing: int = 0, quick: bool = False) -> None:
    _print_results(config, fingerprint, missing=missing)
    where = config.run.store_options
    if quick:
        echo(
            "\nThis was a demonstration of short trainings. Next: `python cli.py run` is the "
            f"experiment itself, `{_command('report', where)}` writes this one up"
        )
        return
    other = None if config.split.labelled else OTHER_RATIO.get(config.split.ratio)
    another = f"`{command_at(config, other)}` runs the other labelled part, " if other else ""
    echo(
        f"\nNext: {another}`{_command('compare', where)}` shows all runs side by side, "
        f"`{_command('report', where)}` writes them up"
    )


def conclude_baseline(config: Config, experiment: Callable[[Config], tuple[str, int]]) -> None:
    """Train the supervised baseline alone, print its score and the next command to type."""
    loop = config.loop.model_copy(update={"max_iterations": 0})
    fingerprint, missing = experiment(config.model_copy(update={"loop": loop}))
    _print_results(config, fingerprint, missing=missing)
    echo(
        f"\nNext: `{command_at(config, config.split.ratio)}` trains the strategies from this "
        "baseline, which is not trained again"
    )


def _print_results(config: Config, fingerprint: str, *, missing: int) -> None:
    if missing:
        echo(
            f"\nNo table now: first `cryossl sync` for the {missing} missing entries, then "
            "`cryossl compare`"
        )
    else:
        _print_comparison(config, [fingerprint])


def command_at(config: Config, ratio: float) -> str:
    """The command line of the same experiment at another ratio."""
    changed = {
        name: value
        for name, (section, field) in fields().items()
        if name != "ratio" and (value := getattr(getattr(config, section), name)) != field.default
    }
    if not changed:
        return f"make run RATIO={ratio:g}"
    options = {
        f"--{name.replace('_', '-')}": (
            ",".join(value) if isinstance(value, tuple) else redacted(str(value))
        )
        for name, value in changed.items()
    }
    return _command("run", {"--ratio": f"{ratio:g}", **options})


def conclude_sweep(config: Config, fingerprints: Collection[str], by: Sequence[str]) -> None:
    """Print the comparison of all experiments of a sweep and the next command to type.

    `by`: the settings that varied.
    """
    _print_comparison(config, fingerprints)
    where = config.run.store_options
    echo(
        f"\nNext: `{_command('report', where)}` writes all of it up with figures, "
        f"`{_command('compare', where | {'--ratio': 'R'})}` shows one labelled part"
    )


def _print_comparison(config: Config, fingerprints: Collection[str]) -> None:
    from analysis.tables.rendering import render

    known = list(fingerprints)
    tags = {"cryossl.experiment_fingerprint": known[0]} if len(known) == 1 else None
    try:
        tracked = TrackedRuns(config.run.tracking_uri, config.run.experiment, tags=tags)
        found = _compared_among(tracked, known)
        click.echo("\n" + render(found, "table", width=columns()), nl=False)
    except (TrackingError, DataError, NoExperimentError) as error:
        # Journals and result files hold the numbers too.
        echo(f"\nNo table now: {error}")


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
        origin_of(tracked, _command("report", options)),
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


def _compared_among(tracked: TrackedRuns, fingerprints: Collection[str]) -> Comparison:
    """The comparison of these experiments; counts are read only where there are several."""
    from analysis.runs.counts import no_counts
    from analysis.tables.comparison import compare as compared

    frame = tracked.frame("iteration", "arm")
    if len(frame):
        frame = frame[frame["cryossl.experiment_fingerprint"].isin(list(fingerprints))]
    return compared(frame, read_counts=tracked.counts if len(fingerprints) > 1 else no_counts)


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


def _command(name: str, options: Mapping[str, str | Sequence[str] | None]) -> str:
    """A command line; an option of several values is repeated."""
    given = [
        word
        for option, values in options.items()
        for value in ([values] if isinstance(values, str) else values or ())
        for word in (option, value)
    ]
    return shlex.join(["python", "cli.py", name, *given])
