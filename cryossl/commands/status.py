"""`status` and `doctor`: what a run is doing, and whether this machine is fit for one."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from cryossl.config import Config
from cryossl.errors import ConfigError
from cryossl.progress.terminal import echo


def status(folder: Path, *, watch: bool, as_json: bool) -> None:
    """Print what the run of a results folder is doing; `watch` redraws until it ends."""
    from cryossl.progress.narrator import STATUS_FILE
    from cryossl.progress.status import read_status, render_status, status_as_dict

    while True:
        found = read_status(folder / STATUS_FILE)
        if watch:
            click.clear()
        if as_json:
            click.echo(json.dumps(status_as_dict(found)))
        else:
            echo(render_status(found))
        if not watch or found.state != "running" or found.alive is False:
            return
        time.sleep(2)


def doctor(config: Config, *, as_json: bool, fix: bool) -> None:
    """Print the checks of this machine. Raises ConfigError if one fails.

    `fix`: then do what `reap` does, unless the check of the tracking store failed.
    """
    from cryossl.machine.check import render
    from cryossl.machine.doctor import examine

    checks = examine(
        tracking_uri=config.run.tracking_uri,
        work=config.run.work,
        device=config.training.device,
        needed_bytes=0,
    )
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks]))
    else:
        echo(render(checks))
    failed = [check.name for check in checks if check.state == "fail"]
    if fix and "tracking" not in failed:
        # Imported after the checks, which report packages that are missing.
        from cryossl.commands.tracking import reap_what_there_is

        reap_what_there_is(config, aside=as_json)
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}",
            cure="the lines above say how",
        )
