"""The command line: options become a config, and one function is called with it.

There is no logic here. Importing this file loads neither torch nor mlflow.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryossl.progress import interruption, streams

if __name__ == "__main__" or Path(sys.argv[0]).name == "cryossl":
    interruption.exit_at_once()  # a signal may arrive while the imports below load

import click

from cryossl.commands.options import (
    PATH,
    config_of,
    dashes,
    json_option,
    option,
    setting_option,
    settings_options,
)
from cryossl.config import Config
from cryossl.errors import CryosslError, lacks_memory
from cryossl.redaction import hide_in_tracebacks, redacted
from cryossl.tracking.store.deadline import leave

FORMATS = ("table", "markdown", "csv", "json", "latex")


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "token_normalize_func": dashes,
    }
)
@click.version_option(package_name="cryossl")
def cli() -> None:
    """Does self-training improve particle segmentation when few micrographs are labelled?

    Run the experiment and see.
    """


@cli.command()
@settings_options
@option(
    "--dry-run",
    is_flag=True,
    help="print the settings, the counts and the estimates; train nothing",
)
def run(config: Config, *, dry_run: bool) -> None:
    """Train the baseline, then every strategy from it; print the comparison and the verdict."""
    from analysis import commands as reporting
    from cryossl.commands import run as launch

    if dry_run:
        launch.dry_run(config)
    else:
        reporting.conclude(config, launch.run)


@cli.command()
@settings_options
def baseline(config: Config) -> None:
    """Train and score the supervised baseline alone."""
    from cryossl.commands import run as launch

    launch.run(
        config.model_copy(update={"loop": config.loop.model_copy(update={"max_iterations": 0})})
    )


@cli.command()
@settings_options
@option(
    "--ratios", metavar="LIST", help="labelled parts in percent, separated by commas  [--ratio]"
)
@option("--seeds", type=click.IntRange(1, 1000), default=6, help="how many seeds, from --seed on")
@option("--jobs", type=click.IntRange(1), default=1, help="cells at a time")
@option(
    "--executor",
    type=click.Choice(("local", "slurm")),
    default="local",
    help="where cells run: processes here, or jobs of a cluster",
)
@option("--slurm", metavar="LIST", help="with --executor slurm: options of sbatch, NAME=VALUE,...")
@option(
    "--dry-run",
    is_flag=True,
    help="list the cells, which have finished, and how long the others take",
)
def sweep(config: Config, *, ratios: str | None, **options: Any) -> int:
    """Run a grid of ratios and seeds, each cell as `run` does; print the comparison over seeds."""
    from analysis import commands as reporting
    from cryossl.sweep import sweep as sweeping
    from cryossl.sweep.grid import named_ratios

    typed = click.get_current_context().params
    ratios = named_ratios(
        config, ratio=typed["ratio"], ratios=ratios, default_yields=typed["defaults_yield"]
    )
    return sweeping.sweep(config, ratios=ratios, conclude=reporting.conclude_sweep, **options)


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the two options that say which tracked runs are meant."""
    command = option("--experiment", help="MLflow experiment  [cryossl]")(command)
    return option("--tracking-uri", help="MLflow tracking store  [sqlite:///mlflow.db]")(command)


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which tracking store and which work folder are meant."""
    command = option("--work", help="work folder, whose journals hold what was recorded  [work]")(
        command
    )
    return store_options(command)


def choice_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what is compared."""
    command = option("--metric", default="test/f1", help="metric of the comparison")(command)
    return option("--ratio", type=float, help="only this labelled part, in percent")(command)


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
def compare(**options: Any) -> None:
    """Compare the strategies in the tracking store: naive-vs-balanced tables and the verdict."""
    from analysis import commands as reporting

    context = click.get_current_context()
    reporting.refuse_beside_explain(
        {
            one.opts[0]
            for one in context.command.params
            if one.name
            and (context.get_parameter_source(one.name) is click.core.ParameterSource.COMMANDLINE)
        }
    )
    reporting.compare(**options)


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
def report(**options: Any) -> None:
    """Write the report as one file: verdict, tables, figures, micrographs, method and origin."""
    from analysis import commands as reporting

    reporting.report(**options)


@cli.command()
@json_option(help="print the tables as JSON")
@store_options
def runs(**options: Any) -> None:
    """List what is in the tracking store, what failed and what is missing."""
    from analysis import commands as reporting

    reporting.runs(**options)


@cli.command()
@option("--name", default="pseudolabel_balanced", help="name of the results folder")
@option("--results", type=PATH, default=Path("experiments"), help="folder of the results folders")
@option("--watch", is_flag=True, help="redraw every two seconds until the run ends")
@json_option(help="print the status as JSON")
def status(name: str, results: Path, *, watch: bool, as_json: bool) -> None:
    """Show what the experiment is doing now."""
    from cryossl.commands import status as reading

    reading.status(results / name, watch=watch, as_json=as_json)


@cli.command()
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
    help="of star, particles, box, cbox, csv, topaz, coco, separated by commas",
)
@option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="lowest score of a pick  [the one that was chosen with the model]",
)
@option(
    "--expected",
    type=click.FloatRange(0, min_open=True),
    help="mean number of picks per micrograph, in place of a threshold",
)
@option("--max-per-micrograph", "most", type=click.IntRange(1), help="most picks of one micrograph")
@option("--source", help="source of the model's data set that the micrographs belong to")
@option(
    "--diameter-angstrom",
    type=click.FloatRange(0, min_open=True),
    help="diameter of a particle; needed where the model knows no micrographs of this size",
)
@option("--diameter-px", type=click.FloatRange(0, min_open=True), help="the same in px of the file")
@option(
    "--pixel-size", type=click.FloatRange(0, min_open=True), help="of the micrographs, in angstrom"
)
@option("--flip-y", is_flag=True, help="count rows from the last one in what is written")
@setting_option("device")
@setting_option("precision")
@setting_option("threads")
@setting_option("batch_size")
@setting_option("max_megapixels")
@setting_option("tracking_uri")
@setting_option("experiment")
def pick(micrographs: tuple[Path, ...], formats: str, **options: Any) -> None:
    """Find the particles of MICROGRAPHS with a trained model, and write them for RELION and others.

    MICROGRAPHS are pictures, folders of pictures, or STAR files that list micrographs.
    """
    named = (
        "device",
        "precision",
        "threads",
        "batch_size",
        "max_megapixels",
        "tracking_uri",
        "experiment",
    )
    settings = {name: options.pop(name) for name in named}
    config = config_of(None, defaults_yield=False, options=settings)
    from cryossl.commands import pick as picking

    picking.pick(
        config, picking.Request(micrographs, formats=picking.formats_of(formats), **options)
    )


@cli.group()
def data() -> None:
    """Check, make, fetch, import and look at data sets."""


@data.command("check")
@click.argument("path", type=PATH)
@setting_option("border")
@setting_option("max_megapixels")
@setting_option("follow_links")
@setting_option("particle_radius_fraction")
@json_option(help="print the faults as JSON")
def data_check(path: Path, *, as_json: bool, **options: str | None) -> None:
    """List all faults of a data set at once, then what is in it."""
    config = config_of(None, defaults_yield=False, options={"data": str(path), **options})
    from cryossl.commands import data as data_sets

    data_sets.check(path, config.input, as_json=as_json)


@data.command("synth")
@option("--to", "folder", type=PATH, required=True, help="folder to write")
@option("--seed", type=click.IntRange(0), default=0)
@option("--train", type=click.IntRange(6), default=100, help="training micrographs")
@option("--validation", type=click.IntRange(2), default=20, help="validation micrographs")
@option("--test", type=click.IntRange(1), default=40, help="test micrographs")
@option("--size-px", type=click.IntRange(64, 4096), default=128, help="side of a micrograph")
@option("--sources", type=click.IntRange(1, 60), default=3, help="sources, each with its particle")
@option(
    "--format",
    "form",
    type=click.Choice(("png", "jpg", "mrc")),
    default="png",
    help="of the pictures; mrc has the electron counts",
)
def data_synth(folder: Path, **options: Any) -> None:
    """Write the simulator's micrographs as a COCO data set."""
    from cryossl.commands import data as data_sets

    data_sets.synthesise(folder, **options)


@data.command("fetch")
@click.argument("what", type=click.Choice(["cryotransformer"]))
@option("--to", "folder", type=PATH, required=True, help="folder to unpack into")
@option("--url", help="other address of the archive")
@option(
    "--sha256",
    metavar="HEX",
    help="checksum of the archive, where you have it; the authors give none",
)
def data_fetch(what: str, folder: Path, url: str | None, sha256: str | None) -> None:  # noqa: ARG001 (the only choice there is)
    """Download and unpack a public data set: CryoTransformer's, of 22 EMPIAR entries."""
    from cryossl.commands import data as data_sets

    data_sets.fetch(folder, url=url, sha256=sha256)


@data.command("import")
@click.argument("labels", type=PATH, nargs=-1, required=True)
@option(
    "--micrographs",
    type=PATH,
    required=True,
    help="folder of the micrographs, or a micrographs STAR; those without labels become the pool",
)
@option("--to", "folder", type=PATH, required=True, help="data folder to write")
@option("--diameter-px", type=float, help="particle diameter in px of the pictures  [the labels']")
@option("--diameter-angstrom", type=float, help="particle diameter in angstrom, instead")
@option(
    "--pixel-size",
    "pixel_size_angstrom",
    type=float,
    help="angstrom per px of the pictures  [from the MRC header or the labels]",
)
@option(
    "--validation",
    "validation_fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    help="share of the labelled micrographs that become validation",
)
@option(
    "--link/--copy",
    default=True,
    help="hard links to the micrographs where the file system allows them, or copies",
)
@option("--source", help="name of the data set's one source  [from the file names]")
@option("--flip-y", is_flag=True, help="count the labels' rows from the last one: y = height - y")
@option("--flip-x", is_flag=True, help="count the labels' columns from the last one")
@option("--swap-xy", is_flag=True, help="exchange the labels' x and y")
@option("--corner", is_flag=True, help="the labels are corners of boxes: add half a diameter")
@option("--scale", type=float, default=1.0, help="px of the pictures per px of the labels")
@option(
    "--keep-reading",
    is_flag=True,
    help="import the labels as given, even if the pictures say otherwise",
)
@setting_option("max_megapixels")
def data_import(
    labels: tuple[Path, ...], folder: Path, max_megapixels: str | None, **options: Any
) -> None:
    """Make a data set of micrographs and LABELS of other programs, and check that they fit.

    LABELS are files: RELION's STAR, EMAN's .box, crYOLO's .cbox, Topaz's TSV, CSV, cryoSPARC's
    .cs, COCO JSON.
    """
    config = config_of(None, defaults_yield=False, options={"max_megapixels": max_megapixels})
    from cryossl.commands import data as data_sets

    data_sets.import_labels(labels, folder, max_megapixels=config.input.max_megapixels, **options)


@data.command("show")
@click.argument("path", type=PATH)
@option("--to", "folder", type=PATH, default=Path("pictures"), help="folder to write")
@setting_option("border")
@setting_option("max_megapixels")
@setting_option("follow_links")
@setting_option("particle_radius_fraction")
@option("--count", type=click.IntRange(1), default=6, help="micrographs to draw")
def data_show(path: Path, folder: Path, count: int, **options: str | None) -> None:
    """Draw micrographs with their particles to PNG files."""
    config = config_of(None, defaults_yield=False, options={"data": str(path), **options})
    from cryossl.commands import data as data_sets

    data_sets.show(path, folder, config.input, count=count)


def main() -> None:
    """Run a command; a fault becomes one line on standard error and an exit code."""
    streams.prepare()
    interruption.end_with_parent()
    try:
        with interruption.interrupted_at_once():
            code = cli.main(standalone_mode=False)
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # `| head` has what it wants; click exits then
        code = interruption.EXIT_CODE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except CryosslError as error:
        code = _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = _fail(interruption.MESSAGE, interruption.EXIT_CODE)
    except (OSError, MemoryError, ImportError, RuntimeError, SystemError) as error:
        code = _fail_for_machine(error)
    except UnicodeEncodeError as error:
        around = error.object[max(0, error.start - 60) : error.end + 20]
        code = _fail(f"{around!r} has a byte that is not UTF-8; rename what is called so", 2)
    streams.drop_unwritten()
    sys.exit(code)


def _fail_for_machine(error: Exception) -> int:
    if isinstance(error.__context__, KeyboardInterrupt):  # click's line, to a closed terminal
        return _fail(interruption.MESSAGE, interruption.EXIT_CODE)
    if lacking := lacks_memory(error):
        cure = "raise the limit of this process (`ulimit -v`, `ulimit -u`) or of its job, or end "
        return _fail(f"the memory is not enough ({lacking[-200:]}); {cure}other programs", 2)
    if not isinstance(error, OSError):
        raise error
    place = error.filename or "a file or standard output"
    cure = "check the path and its permissions"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        cure = "raise the limit of open files (`ulimit -n`)"
    return _fail(f"{place}: {error.strerror or error}; {cure}", 6)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # the terminal may be closed
        click.echo(f"cryossl: error: {redacted(' '.join(message.split()), paths=True)}", err=True)
    return code


def program() -> None:
    """`main` as a process of its own, which ends though a call of a silent server still goes on."""
    hide_in_tracebacks()
    try:
        main()
    except SystemExit as ended:
        leave(int(ended.code or 0))


if __name__ == "__main__":
    program()
