"""The command line: options become a config, and one function is called with it.

There is no logic here. Importing this file loads neither torch nor mlflow.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cryossl.progress import interruption, streams

if __name__ == "__main__" or Path(sys.argv[0]).name == "cryossl":
    interruption.exit_at_once()  # a signal may arrive while the imports below load

import click

from cryossl.commands.completion import VARIABLE, install_option
from cryossl.commands.data_group import data
from cryossl.commands.ending import fail, fail_for_machine, refuse_small_limit
from cryossl.commands.options import (
    PATH,
    Number,
    SettingsCommand,
    choice_options,
    config_of,
    dashes,
    executor_options,
    json_option,
    option,
    place_options,
    quick_option,
    settings_options,
    some_settings,
    store_options,
)
from cryossl.config import Config
from cryossl.errors import CryosslError
from cryossl.redaction import hide_in_tracebacks
from cryossl.tracking.store.deadline import leave

PICK_SETTINGS = (
    *("device", "precision", "threads", "batch_size", "max_megapixels"),
    *("tracking_uri", "experiment", "work"),
)
FORMATS = ("table", "markdown", "csv", "json", "latex")


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "token_normalize_func": dashes,
    }
)
@click.version_option(package_name="cryossl")
@install_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Does self-training improve particle segmentation when few micrographs are labelled?

    Run the experiment and see.
    """
    command = context.invoked_subcommand
    if "MLFLOW_RUN_ID" in os.environ and command in ("compare", "report", "data"):
        from cryossl.tracking.project_runs import tag_adopted

        tag_adopted(command)


@cli.command(cls=SettingsCommand)
@settings_options
@option(
    "--dry-run",
    is_flag=True,
    help="print the settings, the counts and the estimates; train nothing",
)
@quick_option
def run(config: Config, *, dry_run: bool, quick: bool) -> None:
    """Train the baseline, then every strategy from it; print the comparison and the verdict."""
    from analysis import run_end
    from cryossl.commands import run as launch

    if dry_run:
        launch.dry_run(config)
    else:
        run_end.conclude(config, launch.run, quick=quick)


@cli.command(cls=SettingsCommand)
@settings_options
def baseline(config: Config) -> None:
    """Train and score the supervised baseline alone; print its score and what to type next."""
    from analysis import run_end
    from cryossl.commands import run as launch

    typed = click.get_current_context().params["strategies"] is not None
    run_end.conclude_baseline(config, partial(launch.run, alone=not typed))


@cli.command(cls=SettingsCommand)
@settings_options
@option(
    "--ratios", metavar="LIST", help="labelled parts in percent, separated by commas  [--ratio]"
)
@option(
    "--seeds",
    metavar="COUNT",
    type=click.IntRange(1, 1000),
    default=6,
    help="how many seeds, from --seed on",
)
@option(
    "--vary",
    metavar="SETTING=VALUES",
    multiple=True,
    help="values of a setting, separated by commas; several settings are separated by `;` in "
    "quotes, or each has a --vary; STRATEGY.SETTING=VALUES varies it for one strategy",
)
@executor_options
@option(
    "--dry-run",
    is_flag=True,
    help="list the cells, which have finished, and how long the others take",
)
def sweep(
    config: Config, *, ratios: str | None, seeds: int, vary: tuple[str, ...], **options: Any
) -> int:
    """Run a grid of ratios, seeds and settings, each cell as `run` does; print the comparison."""
    from analysis import run_end
    from cryossl.sweep import sweep as sweeping
    from cryossl.sweep.grid import Axes, named_ratios

    typed = click.get_current_context().params
    ratios = named_ratios(
        config, ratio=typed["ratio"], ratios=ratios, default_yields=typed["defaults_yield"]
    )
    axes = Axes(ratios, seeds, vary)
    return sweeping.sweep(config, axes, conclude=run_end.conclude_sweep, **options)


@cli.command(cls=SettingsCommand)
@settings_options
@option(
    "--trials",
    metavar="COUNT",
    type=click.IntRange(1, 10000),
    default=20,
    help="trials of each strategy; the first is the strategy as it is",
)
@option(
    "--space",
    metavar="FILE",
    type=click.Path(path_type=Path),  # MLproject passes an empty text
    help="YAML file of what is tuned (docs/tuning.md)  [presets/space.yaml]",
)
@option(
    "--seeds",
    metavar="COUNT",
    type=click.IntRange(1, 1000),
    default=2,
    help="how many seeds each trial is scored on, from --tuning-seed on",
)
@option(
    "--tuning-seed",
    metavar="NUMBER",
    type=click.IntRange(0, 2**31 - 1),
    default=1000,
    help="the first of these seeds, which no table may use; it decides the draws too",
)
@executor_options
@option("--dry-run", is_flag=True, help="print the space and how long it takes; train nothing")
def tune(config: Config, **options: Any) -> None:
    """Tune each strategy by validation F1, with equal numbers of trials; write tuned.yaml."""
    from cryossl.tuning import command as tuning
    from cryossl.tuning.plan import Request

    tuning.tune(config, Request(**options))


@cli.command("tune-trial", hidden=True)
@click.argument("file", type=PATH)
def tune_trial(file: Path) -> None:
    """Do one trial, as `tune` starts it.

    FILE describes the trial.
    """
    from cryossl.tuning.trial import run_trial

    run_trial(file)


@cli.command()
@choice_options
@option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    help="how the tables are written",
)
@option("--explain", metavar="METRIC", help="runs, counts and formula behind one number, e.g. F1")
@option("--arm", metavar="STRATEGY", help="with --explain: whose number")
@option(
    "--external",
    metavar="FILE",
    type=PATH,
    help="counts of another method, CSV or JSON, beside ours (docs/report.md)",
)
@store_options
def compare(ratio: float | None, metric: str, views: Any, group: str, **options: Any) -> None:
    """Compare the strategies in the tracking store: naive-vs-balanced tables and the verdict."""
    from analysis import commands as reporting

    context = click.get_current_context()
    typed = {
        one.opts[0]
        for one in context.command.params
        if one.name
        and (context.get_parameter_source(one.name) is click.core.ParameterSource.COMMANDLINE)
    }
    runs = options.pop("by"), options.pop("where")
    asked = reporting.Asked(ratio, metric, views, group, *runs)
    reporting.refuse_unused(typed, group=group)
    reporting.compare(asked, **options)


@cli.command()
@choice_options
@option(
    "--format",
    "form",
    type=click.Choice(("html", "markdown", "latex")),
    default="html",
    help="how the report is written",
)
@option("--output", type=PATH, help="file to write  [report.html, .md or .tex]")
@option("--figures", type=PATH, help="folder for the figures as PNG and SVG")
@option("--log", is_flag=True, help="keep the report and its tables in the tracking store too")
@store_options
def report(ratio: float | None, metric: str, views: Any, group: str, **options: Any) -> None:
    """Write the report as one file: verdict, tables, figures, micrographs, method and origin."""
    from analysis import commands as reporting

    runs = options.pop("by"), options.pop("where")
    reporting.report(reporting.Asked(ratio, metric, views, group, *runs), **options)


@cli.command()
@json_option(help="print the tables as JSON")
@store_options
def runs(**options: Any) -> None:
    """List what is in the tracking store, what failed and what is missing."""
    from analysis import commands as reporting

    reporting.runs(**options)


@cli.command()
@option("--port", type=click.IntRange(1, 65535), default=5000, help="port on 127.0.0.1")
@option("--open", "opens", is_flag=True, help="open the page in a browser")
@store_options
def ui(*, port: int, opens: bool, **options: Any) -> None:
    """Serve MLflow's pages on this machine; print the link of the one that compares strategies."""
    from cryossl.commands import ui as serving

    serving.ui(config_of(None, defaults_yield=False, options=options), port=port, opens=opens)


@cli.command()
@option("--name", default="pseudolabel_balanced", help="name of the results folder")
@option("--results", type=PATH, default=Path("experiments"), help="folder of the results folders")
@option("--watch", is_flag=True, help="redraw every two seconds until the run ends")
@json_option(help="print the status as JSON")
def status(name: str, results: Path, *, watch: bool, as_json: bool) -> None:
    """Show what the experiment is doing now."""
    from cryossl.commands import status as reading

    reading.status(results / name, watch=watch, as_json=as_json)


@cli.command(cls=SettingsCommand)
@settings_options
@json_option(help="print the checks as JSON")
@option("--fix", is_flag=True, help="then do what `reap` does")
def doctor(config: Config, *, as_json: bool, fix: bool) -> None:
    """Check the environment, the GPU, the tracking store and the disk."""
    from cryossl.commands import status as reading

    reading.doctor(config, as_json=as_json, fix=fix)


@cli.command()
@place_options
def sync(**options: Any) -> None:
    """Send to the tracking store what it missed while it was unreachable."""
    from cryossl.commands import tracking as upkeep

    upkeep.sync(config_of(None, defaults_yield=False, options=options))


@cli.command()
@place_options
def reap(**options: Any) -> None:
    """End runs that the tracking store shows as RUNNING whose process on this host is gone."""
    from cryossl.commands import tracking as upkeep

    upkeep.reap(config_of(None, defaults_yield=False, options=options))


@cli.command()
@click.argument("micrographs", nargs=-1, required=True, type=PATH)
@option("--to", type=PATH, required=True, help="folder to write")
@option(
    "--model",
    metavar="MODEL",
    help="model.safetensors, runs:/ID, models:/NAME/3 or models:/NAME@best  "
    "[the best accepted model of the newest experiment]",
)
@option(
    "--format",
    "formats",
    default="star",
    metavar="LIST",
    help="of star, particles, box, cbox, csv, topaz, coco, mask, separated by commas",
)
@option(
    "--threshold",
    metavar="SCORE",
    type=Number(0, 1),
    help="lowest score of a pick  [the one that was chosen with the model]",
)
@option(
    "--expected",
    metavar="PICKS",
    type=Number(0, min_open=True),
    help="mean number of picks per micrograph, in place of a threshold",
)
@option(
    "--max-per-micrograph",
    "most",
    metavar="PICKS",
    type=click.IntRange(1),
    help="most picks of one micrograph",
)
@option(
    "--min-spacing",
    metavar="DIAMETERS",
    type=Number(0, 10),
    default=0.0,
    help="least distance of two picks, in particle diameters; 0: the picker's own",
)
@option("--source", help="source of the model's data set that the micrographs belong to")
@option(
    "--diameter-angstrom",
    metavar="ANGSTROM",
    type=Number(0, min_open=True),
    help="diameter of a particle; needed where the model knows no micrographs of this size",
)
@option(
    "--diameter-px",
    metavar="PX",
    type=Number(0, min_open=True),
    help="the same in px of the file",
)
@option(
    "--pixel-size",
    metavar="ANGSTROM",
    type=Number(0, min_open=True),
    help="of the micrographs, per px",
)
@option(
    "--flip-y/--no-flip-y",
    default=None,
    help="whether rows are counted from the last one in what is written  [as in the labels that "
    "the model learned from]",
)
@executor_options
@option("--track/--no-track", default=True, help="record the picking in the tracking store")
@some_settings(*PICK_SETTINGS)
def pick(micrographs: tuple[Path, ...], formats: str, **options: Any) -> None:
    """Find the particles of MICROGRAPHS with a trained model, and write them for RELION and others.

    MICROGRAPHS are pictures, folders of pictures, or STAR files that list micrographs.
    """
    settings = {name: options.pop(name) for name in PICK_SETTINGS}
    config = config_of(None, defaults_yield=False, options=settings)
    from cryossl.commands import pick as picking

    picking.pick(
        config, picking.Request(micrographs, formats=picking.formats_of(formats), **options)
    )


@cli.command("pick-part", hidden=True)
@click.argument("file", type=PATH)
def pick_part(file: Path) -> None:
    """Find the candidates of one part of the micrographs, as `pick --jobs` starts it.

    FILE describes the part.
    """
    from cryossl.commands import pick_parts
    from cryossl.network import device as devices

    with devices.enough_memory():
        pick_parts.run_part(file)


cli.add_command(data)


def main() -> None:
    """Run a command; a fault becomes one line on standard error and an exit code."""
    streams.prepare()
    interruption.end_with_parent()
    try:
        refuse_small_limit()
        with interruption.interrupted_at_once():
            code = cli.main(standalone_mode=False, complete_var=VARIABLE)
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # `| head` has what it wants; click exits then
        # Click exits too when it has told a shell what may be typed.
        code = 0 if VARIABLE in os.environ else interruption.EXIT_CODE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = fail(error.format_message(), error.exit_code)
    except CryosslError as error:
        code = fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = fail(interruption.MESSAGE, interruption.EXIT_CODE)
    except (OSError, MemoryError, ImportError, RuntimeError, SystemError) as error:
        code = fail_for_machine(error)
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 60) : error.end + 20]
        code = fail(f"{around!r} has a byte that is not UTF-8; rename what is called so", 2)
    streams.drop_unwritten()
    sys.exit(code)


def program() -> None:
    """`main` as a process of its own, which ends though a call of a silent server still goes on."""
    hide_in_tracebacks()
    try:
        main()
    except SystemExit as ended:
        leave(int(ended.code or 0))


if __name__ == "__main__":
    program()
