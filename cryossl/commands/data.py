"""`data check | synth | fetch | import | show`: check, make, get and look at data sets."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, read_dataset
from cryossl.errors import DataError
from cryossl.progress.terminal import echo

_SIZES = ("diameter_px", "diameter_angstrom", "pixel_size_angstrom")
_READING = ("flip_y", "flip_x", "swap_xy", "scale", "corner")


def check(path: Path, settings: InputSettings, *, as_json: bool) -> None:
    """Print all faults of a data set and what is in it. Raises DataError if there is a fault."""
    from cryossl.data.check import check as faults_of
    from cryossl.data.check import summary
    from cryossl.progress.events import silent

    faults = faults_of(
        path,
        max_megapixels=settings.max_megapixels,
        follow_links=settings.follow_links,
        report=silent,
    )
    dataset = None if faults else _read(path, settings)
    notes = dataset.notes if dataset else ()
    rows = (
        summary(dataset, particle_radius_fraction=settings.particle_radius_fraction)
        if dataset
        else ()
    )
    if as_json:
        found = {
            "faults": [asdict(fault) for fault in faults],
            "notes": notes,
            "sources": [asdict(row) for row in rows],
        }
        click.echo(json.dumps(found, indent=1))
    for fault in () if as_json else faults:
        echo(f"❌ {fault}; {fault.cure}")
    for note in () if as_json else notes:
        echo(f"   {note}")
    for row in () if as_json else rows:
        ratio = (
            "no labels"
            if row.particle_ratio is None
            else f"particle ratio {100 * row.particle_ratio:.1f}%"
        )
        diameter = "" if row.diameter_px is None else f", {row.diameter_px:g} px wide"
        echo(
            f"✅ {row.source}: {row.labelled} of {row.micrographs} micrographs labelled, "
            f"{row.particles} particles{diameter}, unlabelled band {row.border_px} px, {ratio}"
        )
    if faults:
        raise DataError(
            f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            cure="mend and check again",
        )


def _read(path: Path, settings: InputSettings) -> DataSet:
    return read_dataset(
        path,
        border=settings.border,
        max_megapixels=settings.max_megapixels,
        follow_links=settings.follow_links,
    )


def synthesise(folder: Path, **options: Any) -> None:
    """Write a simulated data set; `options` are those of `synthetic.synthesise`."""
    from cryossl.data.synthetic import dataset as synthetic
    from cryossl.progress.console import ProgressConsole

    with ProgressConsole(sys.stderr) as console:
        synthetic.synthesise(folder, report=console, **options)
    echo(f"wrote {folder}; look at it with `cryossl data show {folder}`")


def fetch(folder: Path, *, url: str | None, sha256: str | None) -> None:
    """Download and unpack CryoTransformer's public data set.

    `sha256`: of the archive, or None for no check.
    """
    from cryossl.data.download.fetch import DEFAULT_URL, fetch_cryotransformer
    from cryossl.progress.console import ProgressConsole
    from cryossl.progress.interruption import interruptible

    with interruptible() as interruption, ProgressConsole(sys.stderr) as console:
        found = fetch_cryotransformer(
            folder,
            url=DEFAULT_URL if url is None else url,
            sha256=sha256,
            report=interruption.after(console),
        )
    echo(f"unpacked into {found}; check it with `cryossl data check {found}`")


def import_labels(labels: tuple[Path, ...], folder: Path, **options: Any) -> None:
    """Import coordinate files; `options` are the command's. Prints counts and the next command."""
    from cryossl.picking.importing.importer import Request
    from cryossl.picking.importing.importer import import_labels as run
    from cryossl.picking.importing.labelling import Sizes
    from cryossl.picking.importing.readings import Reading
    from cryossl.progress.console import ProgressConsole
    from cryossl.progress.interruption import interruptible

    request = Request(
        labels=labels,
        folder=folder,
        sizes=Sizes(**{name: options.pop(name) for name in _SIZES}),
        reading=Reading(**{name: options.pop(name) for name in _READING}),
        **options,
    )
    with interruptible() as interruption, ProgressConsole(sys.stderr) as console:
        done = run(request, report=interruption.after(console))
    for note in done.notes:
        echo(f"⚠️ {note}")
    echo(
        f"✅ {folder}: {done.labelled} labelled micrographs for training, {done.validation} for "
        f"validation, {done.pool} unlabelled, {done.particles} particles; the labels fit at "
        f"{abs(done.found.fits[request.reading]):.1f} standard errors, random places at "
        f"{abs(done.found.random_errors):.1f}"
        + (f"; {done.copied} pictures were copied" if request.link and done.copied else "")
    )
    start = f"cryossl run --data {shlex.quote(str(folder))}"
    if not done.pool:
        echo(
            f"every micrograph is labelled; to try fewer labels: {start} --ratio 10; to add "
            "unlabelled ones, import with a folder that has them too"
        )
        return
    alone = "" if done.validation > 1 else " --validation-from labelled"
    click.echo(f"go on with: {start} --labelled {shlex.quote(str(folder / 'labelled.txt'))}{alone}")


def show(path: Path, folder: Path, settings: InputSettings, *, count: int) -> None:
    """Draw up to `count` micrographs with their particles to PNG files in `folder`."""
    from PIL import Image

    from cryossl.commands.drawing import particle_pictures

    dataset = _read(path, settings)
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in particle_pictures(dataset, count=count, settings=settings):
        target = folder / f"{drawn.name}.png"
        Image.fromarray(drawn.picture).save(target)
        click.echo(str(target))
