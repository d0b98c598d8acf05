"""Can the tracking store be used: a SQLite file, a server, or a database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from cryossl.errors import one_line
from cryossl.machine.check import Check, named_checks
from cryossl.redaction import shown
from cryossl.system.file_lock import owner
from cryossl.tracking.address import LOG_IN, sqlite_path
from cryossl.tracking.store.probe import BrokenAnswerError, connect_to_port, get_once
from cryossl.tracking.store.sqlite_file import is_half_made, schema_fault, schema_of, sqlite_fault

_ok, _warn, _fail = named_checks("tracking")
_COMPARE = "compare the address with what `mlflow server` printed"
HOSTED_STORES = ("databricks", "databricks-uc")
STORE_TIMEOUT_SECONDS = 3.0
DAMAGE_SECONDS = 1.0


def check_tracking(uri: str, *, damage_seconds: float = DAMAGE_SECONDS) -> Check:
    """Check that the tracking store can be used.

    A SQLite file must be undamaged, of the installed MLflow, and writable. A server or a database
    must answer within three seconds.

    Args:
        uri: as `address.store_uri` returns it.
        damage_seconds: how long a SQLite file is searched for damage at most.
    """
    parts = urlsplit(uri)
    kind = parts.scheme.split("+")[0]
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(path, damage_seconds)
    if kind in ("http", "https"):
        return _check_server(uri)
    if kind in ("postgresql", "postgres", "mysql", "mssql"):
        return _check_database(uri)
    if kind == "file" or (kind == "" and uri not in HOSTED_STORES):
        return _fail(
            f"{shown(uri) or 'no store'}: MLflow no longer writes into plain folders",
            "`tracking_uri=sqlite:///mlflow.db`",
        )
    return _warn(f"{shown(uri)}: not tried, this kind of store is unknown here")


def _check_sqlite(path: Path, damage_seconds: float) -> Check:
    elsewhere = "`tracking_uri=sqlite:///FILE` names another"
    if not path.exists():
        parent = nearest_existing(path.parent)
        if os.access(parent, os.W_OK | os.X_OK):
            return _ok(f"{path} will be made")
        return _fail(f"{path} cannot be made: {parent} cannot be written", elsewhere)
    fault = sqlite_fault(path)
    if fault and not is_half_made(path):
        return _fail(f"{path} {fault}", elsewhere)
    if not os.access(path, os.W_OK):
        return _fail(
            f"{path} can be read, but not written (it belongs to {owner(path)})", elsewhere
        )
    try:
        with contextlib.closing(
            sqlite3.connect(path, timeout=STORE_TIMEOUT_SECONDS, isolation_level=None)
        ) as store:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
            _refuse_damage(store, damage_seconds)
            made_by = schema_of(store)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return _warn(f"{path} is locked by another process", f"wait for it; {elsewhere}")
        return _fail(f"{path} cannot be read and written: {one_line(error)}", elsewhere)
    except sqlite3.DatabaseError as error:
        return _fail(f"{path} is damaged: {one_line(error)}", f"restore it; {elsewhere}")
    fault, cure = schema_fault(path, made_by)
    return (
        _fail(f"{path} {fault}", f"{cure}; {elsewhere}") if fault else _ok(f"{path} can be written")
    )


def _refuse_damage(store: sqlite3.Connection, seconds: float) -> None:
    """Raise DatabaseError if so many seconds of search find damage."""
    # Older SQLite calls no progress handler while it walks the pages, but can be interrupted.
    timer = threading.Timer(seconds, store.interrupt)
    timer.start()
    try:
        (found,) = store.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        timer.cancel()
        timer.join()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _check_server(uri: str) -> Check:
    place = shown(uri)
    health = f"{uri.rstrip('/')}/health"
    try:
        answer = get_once(health, seconds=STORE_TIMEOUT_SECONDS, body_bytes=1000)
    except OSError as error:
        # Not a failure: a run keeps its own journal and sends it when the server is back.
        return _warn(
            f"{place} does not answer: {error}",
            "start the server, or `tracking_uri=sqlite:///mlflow.db`",
        )
    except BrokenAnswerError as error:
        return _fail(f"{place} cannot be queried, or is no HTTP server ({error})", _COMPARE)
    body = answer.body.strip()
    if answer.status >= 300:
        return _judge_status(place, answer.status, _target(health, answer.location))
    if body == b"OK":
        return _ok(f"{place} answers")
    if body.startswith(b"<"):
        return _fail(
            f"{place} answers, but not as a tracking server (with a page of HTML)", _COMPARE
        )
    return _warn(f"{place} answers, but its /health does not say OK, as MLflow's does", _COMPARE)


def _judge_status(place: str, status: int, target: str) -> Check:
    if status in (401, 403):
        return _warn(f"{place} answers and demands a login ({status})", LOG_IN)
    if status == 429 or status >= 500:
        return _warn(
            f"{place} answers, but cannot serve now ({status})",
            "its log says why; a run goes on without it and sends later",
        )
    if status < 400 and target:
        return _fail(f"{place} answers, but redirects to {target}", "give that address")
    return _fail(f"{place} answers, but not as a tracking server ({status})", _COMPARE)


def _target(url: str, location: str) -> str:
    """The address of the server that a redirection leads to, as it can be shown; "" if to none."""
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:
        return ""
    place = shown(f"{parts.scheme}://{parts.netloc}")
    return ascii(place)[1:-1][:200] if location else ""


def _check_database(uri: str) -> Check:
    try:
        connect_to_port(uri, seconds=STORE_TIMEOUT_SECONDS)
    except OSError as error:
        return _fail(
            f"{shown(uri)} does not answer: {error}",
            "start the database, or correct the address",
        )
    return _ok(f"{shown(uri)} answers")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
