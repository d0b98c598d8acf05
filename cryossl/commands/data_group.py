"""The commands of `cryossl data`: options become values, and one function of `data` is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cryossl.commands.options import (
    PATH,
    Number,
    config_of,
    json_option,
    option,
    setting_option,
    some_settings,
)


@click.group()
def data() -> None:
    """Check, make, fetch, import and look at data sets."""


@data.command("check")
@click.argument("path", type=PATH)
@some_settings("border", "max_megapixels", "follow_links", "particle_radius_fraction")
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
@option(
    "--diameter-px",
    metavar="PX",
    type=Number(0, min_open=True),
    help="particle diameter in px of the pictures  [the labels']",
)
@option(
    "--diameter-angstrom",
    metavar="ANGSTROM",
    type=Number(0, min_open=True),
    help="particle diameter in angstrom, instead",
)
@option(
    "--pixel-size",
    "pixel_size_angstrom",
    metavar="ANGSTROM",
    type=Number(0, min_open=True),
    help="angstrom per px of the pictures  [from the MRC header or the labels]",
)
@option(
    "--validation",
    "validation_fraction",
    metavar="FRACTION",
    type=Number(0, 1, min_open=True, max_open=True),
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
@option(
    "--scale",
    metavar="FACTOR",
    type=Number(0, min_open=True),
    default=1.0,
    help="px of the pictures per px of the labels",
)
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
@some_settings("border", "max_megapixels", "follow_links", "particle_radius_fraction")
@option("--count", type=click.IntRange(1), default=6, help="micrographs to draw")
def data_show(path: Path, folder: Path, count: int, **options: str | None) -> None:
    """Draw micrographs with their particles to PNG files."""
    config = config_of(None, defaults_yield=False, options={"data": str(path), **options})
    from cryossl.commands import data as data_sets

    data_sets.show(path, folder, config.input, count=count)
