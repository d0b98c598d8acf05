"""`ui`: MLflow's server in its light form, and the links of the pages with curves and axes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.parse import urlsplit

import click

from cryossl.config import Config
from cryossl.errors import ConfigError, TrackingError
from cryossl.redaction import shown
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import MlflowStore
from cryossl.tracking.store.views import AXES, CURVES, keep_views, newest_arm, page

HOST = "127.0.0.1"
_START_SECONDS = 180.0
_ONE_LOOK_SECONDS = 2.0


def ui(config: Config, *, port: int, opens: bool) -> None:
    """Print the links of the pages that compare the strategies; serve them until Ctrl-C.

    No server is started for a store that is one. Raises TrackingError, ConfigError.
    """
    store = MlflowStore(
        store_uri(config.run.tracking_uri), *experiment_choice(config.run.experiment)
    )
    path = sqlite_path(store.uri)
    if path is not None and not path.exists():
        raise TrackingError(
            f"there is no tracking store {path}",
            cure="check the tracking URI; a run makes a new store",
        )
    with suppress(KeyboardInterrupt):
        experiment = _prepared(store)
        if urlsplit(store.uri).scheme in ("http", "https"):
            _show(shown(store.uri), experiment, opens=opens)
            return
        with _served(store.uri, port):
            _show(f"http://{HOST}:{port}", experiment, opens=opens)
            click.echo("\nCtrl-C ends the server")
            signal.pause()


def _prepared(store: MlflowStore) -> str:
    """The id of the experiment, with its views kept in it; a store that takes none is shown too."""
    try:
        there = store.existing_experiments()
        newest = {one: newest_arm(store, one) for one in reversed(there)}
        experiment = next((one for one, arm in newest.items() if arm), there[-1])
        store.experiment_id = experiment
        with suppress(RefusedError):
            keep_views(store, newest[experiment])
    except (StoreAwayError, RefusedError) as error:
        raise TrackingError(
            f"tracking store {shown(store.uri)} cannot be read ({error})", cure=error.cure
        ) from None
    return experiment


def _show(address: str, experiment: str, *, opens: bool) -> None:
    curves = page(address, experiment, CURVES)
    click.echo(
        f"F1 by iteration, grouped by strategy:\n  {curves}\n"
        f"Parallel coordinates of the arms:\n  {page(address, experiment, AXES)}"
    )
    if opens and not webbrowser.open(curves):
        click.echo("no browser can be started here: open the first link yourself", err=True)


@contextmanager
def _served(uri: str, port: int) -> Iterator[None]:
    """Run MLflow's server on this store in the block. Raises ConfigError for a port in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST} cannot be used ({error.strerror})",
                cure="end what uses it, or give another one with --port",
            ) from None
    words = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below, after the server)
    server = subprocess.Popen(
        [*words, "--workers", "1"],
        # The address may hold a password, which the list of processes would show.
        env=os.environ
        | {
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        _wait(server, f"http://{HOST}:{port}/health", log)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def _wait(server: subprocess.Popen[bytes], health: str, log: IO[str]) -> None:
    """Until the server answers. Raises TrackingError if it ends or does not begin to answer."""
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(health, timeout=_ONE_LOOK_SECONDS):
            return
        time.sleep(0.3)
    said = ""
    if server.poll() is not None:
        log.seek(0)
        said = " ".join(log.read().split()[-40:])
    raise TrackingError(
        f"MLflow's server did not start: {said or f'no answer in {_START_SECONDS:.0f} s'}",
        cure="`cryossl doctor` checks the packages and the store",
    )
