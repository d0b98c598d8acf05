"""Can the tracking store be used: is a SQLite file sound and of this MLflow, does a server or a database answer."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from cryossl.diagnosis import Check
from cryossl.storeuri import LOG_IN, redacted, sqlite_fault, sqlite_path

HOSTED_STORES = ("databricks", "databricks-uc")
STORE_TIMEOUT_SECONDS = 3.0
DAMAGE_SECONDS = 1.0


def check_tracking(uri: str) -> Check:
    """Can the tracking store be reached: a sound SQLite file of this MLflow be written, a server answer in three seconds."""
    parts = urlsplit(uri)
    kind = parts.scheme.split("+")[0]
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(path)
    if kind in ("http", "https"):
        return _check_server(uri)
    if kind in ("postgresql", "postgres", "mysql", "mssql"):
        return _check_database(uri)
    if kind == "file" or (kind == "" and uri not in HOSTED_STORES):
        return Check("tracking", "fail", f"{uri or 'no store'}: MLflow no longer writes into plain folders",
                     "`tracking_uri=sqlite:///mlflow.db`")
    return Check("tracking", "warn", f"{redacted(uri)}: not tried, this kind of store is unknown here")


def _check_sqlite(path: Path) -> Check:
    elsewhere = "`tracking_uri=sqlite:///FILE` names another"
    if not path.exists():
        parent = nearest_existing(path.parent)
        if os.access(parent, os.W_OK | os.X_OK):
            return Check("tracking", "ok", f"{path} will be made")
        return Check("tracking", "fail", f"{path} cannot be made: {parent} cannot be written", elsewhere)
    fault = sqlite_fault(path)
    if fault:
        return Check("tracking", "fail", f"{path} {fault}", elsewhere)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=STORE_TIMEOUT_SECONDS, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
            _refuse_damage(store)
            made_by = _schema_of(store)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return Check("tracking", "warn", f"{path} is locked by another process", f"wait for it; {elsewhere}")
        return Check("tracking", "fail", f"{path} cannot be written: {error}", elsewhere)
    except sqlite3.DatabaseError as error:
        return Check("tracking", "fail", f"{path} is damaged: {' '.join(str(error).split())}", f"restore it; {elsewhere}")
    known, latest = _mlflow_schemas()
    if made_by is None or not latest or made_by in latest:
        return Check("tracking", "ok", f"{path} can be written")
    cure = (f"back it up, then `mlflow db upgrade sqlite:///{path}`" if made_by in known else "install the MLflow that made it")
    return Check("tracking", "fail", f"{path} is of another version of MLflow (schema {made_by or 'unknown'})",
                 f"{cure}; {elsewhere}")


def _refuse_damage(store: sqlite3.Connection) -> None:
    """Raise DatabaseError for a damaged file, as far as one second of looking shows."""
    end = time.monotonic() + DAMAGE_SECONDS
    store.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    with contextlib.suppress(sqlite3.OperationalError):  # the second is over
        (found,) = store.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    store.set_progress_handler(None, 0)


def _schema_of(store: sqlite3.Connection) -> str | None:
    """Which schema of MLflow's a database has, "" if it does not say; None for an empty one, which MLflow fills."""
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        return "" if tables else None
    row = store.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def _mlflow_schemas() -> tuple[set[str], set[str]]:
    """All schemas that the installed MLflow knows and the newest of them, read from its files: importing it takes seconds."""
    found = find_spec("mlflow")
    known: set[str] = set()
    older: set[str] = set()
    for folder in (found.submodule_search_locations or () if found else ()):
        for path in Path(folder, "store", "db_migrations", "versions").glob("*.py"):
            pairs = re.findall(r"""^(down_)?revision = ["'](\w+)["']""", path.read_text(encoding="utf-8"), re.MULTILINE)
            known |= {name for _, name in pairs}
            older |= {name for down, name in pairs if down}
    return known, known - older


def _check_server(uri: str) -> Check:
    shown = redacted(uri).rstrip("/")
    address = re.sub(r"(?<=://)[^/@]*@", "", uri).rstrip("/")
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=STORE_TIMEOUT_SECONDS):
            return Check("tracking", "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                return Check("tracking", "warn", f"{shown} answers and asks who you are ({error.code})", LOG_IN)
            return Check("tracking", "fail", f"{shown} answers, but not as a tracking server ({error.code})",
                         "compare the address with what `mlflow server` printed")
    except OSError as error:  # before HTTPException: a server that hangs up is both
        reason = getattr(error, "reason", error)
        # Not a failure: a run keeps its own journal and sends it when the server is back.
        return Check("tracking", "warn", f"{shown} does not answer: {reason}",
                     "start the server, or `tracking_uri=sqlite:///mlflow.db`")
    except (HTTPException, UnicodeError) as error:
        return Check("tracking", "fail", f"{shown} cannot be asked, or is no HTTP server ({type(error).__name__})",
                     "compare the address with what `mlflow server` printed")


def _check_database(uri: str) -> Check:
    parts = urlsplit(uri)
    port = parts.port or {"mysql": 3306, "mssql": 1433}.get(parts.scheme.split("+")[0], 5432)
    try:
        with socket.create_connection((parts.hostname or "localhost", port), timeout=STORE_TIMEOUT_SECONDS):
            return Check("tracking", "ok", f"{redacted(uri)} answers")
    except OSError as error:
        return Check("tracking", "fail", f"{redacted(uri)} does not answer: {error}",
                     "start the database, or correct the address")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
