"""One function per command that only reads: status, doctor, data check; those on tracked runs are in `analysis.commands`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from cryossl.config import Config, InputSettings
from cryossl.errors import ConfigError, DataError


def status(folder: Path, *, watch: bool, as_json: bool) -> None:
    """Print what the run of a results folder is doing; `watch` redraws until it ends."""
    from cryossl.progress.narrator import STATUS_FILE
    from cryossl.progress.status import read_status, render_status, status_as_dict

    while True:
        found = read_status(folder / STATUS_FILE)
        if watch:
            click.clear()
        click.echo(json.dumps(status_as_dict(found)) if as_json else render_status(found))
        if not watch or found.state != "running" or found.alive is False:
            return
        time.sleep(2)


def doctor(config: Config, *, as_json: bool, then: Callable[[], None]) -> None:
    """Print the checks of this machine, `then` do what needs a sound tracking store.

    Raises ConfigError if a check fails.
    """
    from cryossl.machine.check import render
    from cryossl.machine.doctor import examine

    checks = examine(
        tracking_uri=config.run.tracking_uri,
        work=config.run.work,
        device=config.training.device,
        needed_bytes=0,
    )
    click.echo(json.dumps([asdict(check) for check in checks]) if as_json else render(checks))
    failed = [check.name for check in checks if check.state == "fail"]
    if "tracking" not in failed:
        then()
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}",
            cure="the lines above say how",
        )


def check_data(path: Path, settings: InputSettings, *, as_json: bool) -> None:
    """Print all faults of a data set and what is in it. Raises DataError if there is a fault."""
    from cryossl.data.check import check, summary
    from cryossl.data.coco.dataset import read_dataset
    from cryossl.progress.events import silent

    faults = check(path, max_megapixels=settings.max_megapixels, report=silent)
    rows = (
        ()
        if faults
        else summary(
            read_dataset(path, border=settings.border, max_megapixels=settings.max_megapixels),
            particle_radius_fraction=settings.particle_radius_fraction,
        )
    )
    if as_json:
        found = {
            "faults": [asdict(fault) for fault in faults],
            "sources": [asdict(row) for row in rows],
        }
        click.echo(json.dumps(found, indent=1))
    for fault in () if as_json else faults:
        click.echo(f"❌ {fault}; {fault.cure}")
    for row in () if as_json else rows:
        ratio = (
            "no labels"
            if row.particle_ratio is None
            else f"particle ratio {100 * row.particle_ratio:.1f}%"
        )
        diameter = "" if row.diameter_px is None else f", {row.diameter_px:g} px wide"
        click.echo(
            f"✅ {row.source}: {row.labelled} of {row.micrographs} micrographs labelled, "
            f"{row.particles} particles{diameter}, unlabelled band {row.border_px} px, {ratio}"
        )
    if faults:
        raise DataError(
            f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            cure="mend and check again",
        )
