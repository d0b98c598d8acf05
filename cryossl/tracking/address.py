"""Which tracking store and experiment are used: MLflow's environment variables, then the config."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryossl.errors import ConfigError
from cryossl.redaction import remember, shown
from cryossl.system.process import PROJECT
from cryossl.tracking.store.artifact_places import FOLDER

LOG_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_QUOTE = "in a user or a password, / is written %2F, @ %40, ? %3F and # %23"


def experiment_choice(configured: str) -> tuple[str, str | None]:
    """(name, None), or (name, id) if the experiment is chosen by its id, which counts then.

    The first that is set holds: MLFLOW_RUN_ID with MLFLOW_EXPERIMENT_ID (both from `mlflow
    run`), MLFLOW_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_ID, the configured name.
    """
    name, identifier = (
        os.environ.get("MLFLOW_EXPERIMENT_NAME"),
        os.environ.get("MLFLOW_EXPERIMENT_ID") or None,
    )
    chosen_by_id = identifier is not None and (not name or bool(os.environ.get("MLFLOW_RUN_ID")))
    return name or configured, identifier if chosen_by_id else None


def store_uri(configured: str) -> str:
    """MLFLOW_TRACKING_URI if it is set, else the configured URI.

    The path of a sqlite file becomes absolute. A relative one starts at the current folder in the
    environment variable, as in MLflow, and at the project's folder in the config. Postgres gets the
    driver that comes with the extra `postgres`. Raises ConfigError for an invalid address.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri, base = (given, Path.cwd()) if given else (configured, PROJECT)
    remember(uri)
    _check_address(uri, name="MLFLOW_TRACKING_URI" if given else "the setting tracking_uri")
    path = sqlite_path(uri)
    if path is not None and not path.is_absolute():
        return sqlite_uri(base / path)
    for scheme in ("postgresql://", "postgres://"):
        if uri.startswith(scheme):
            return f"postgresql+psycopg://{uri.removeprefix(scheme)}"
    return uri


def store_name(uri: str) -> str:
    """The address as it may be shown, and a mark where two stores would be shown alike.

    A user, a password and a query are no part of it.
    """
    address = re.sub(r"(?<=://)[^/]*@", "", uri).partition("?")[0].rstrip("/")
    name = shown(uri)
    return name if name == address else f"{name}~{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite store, None for any other. `%23` is a `#`, as SQLAlchemy reads it."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def sqlite_uri(path: Path) -> str:
    """The address of a sqlite file, as `sqlite_path` reads it."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def artifact_folder(uri: str, experiment: str) -> str | None:
    """The URI of the folder for an experiment's files; None for a server, which decides itself.

    Without it MLflow would use the current folder for a database.
    """
    if urlsplit(uri).scheme in ("http", "https", "databricks"):
        return None
    path = sqlite_path(uri)
    folder = (PROJECT if path is None else path.parent.resolve()) / FOLDER
    return (
        folder
        / "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in experiment)
    ).as_uri()


def _check_address(uri: str, *, name: str) -> None:
    """Raise ConfigError for an address that a socket, urllib or SQLAlchemy would reject later.

    The address is not repeated: what is wrong with it may be a password that is not quoted.
    """
    fault = _fault(uri)
    if fault:
        raise ConfigError(
            f"{name} is no tracking address: {fault}",
            cure="sqlite:///FILE, http://HOST:PORT or postgresql://USER@HOST:PORT/DATABASE is one",
        )


def _fault(uri: str) -> str:
    """What is wrong with an address; empty if nothing is."""
    try:
        address = urlsplit(uri)
        (address.hostname or "").encode("idna")  # as a socket will
        port = address.port
    except (
        ValueError
    ):  # a port that is no number, half an IPv6 address, a host name with an empty part
        return f"its host or its port is none ({_QUOTE})"
    is_server = address.scheme in ("http", "https")
    faults = {
        "a control character": re.search(r"[\x00-\x1f\x7f]", uri),
        "a blank in its host": " " in address.netloc or (is_server and " " in uri),
        "no host": is_server and not address.hostname,
        "port 0": port == 0,
        "no scheme": "://" not in uri and not re.fullmatch(r"[\w./ ~\\-]+", uri),
        "sqlite without three slashes": address.scheme == "sqlite" and sqlite_path(uri) is None,
        "a query behind a file": address.scheme == "sqlite" and "?" in uri,
        f"a query or a # ({LOG_IN})": is_server and re.search(r"[?#]", uri),
        f"an @ behind its host ({_QUOTE})": address.netloc
        and "@" in uri.partition(address.netloc)[2],
    }
    return "; ".join(f"it has {fault}" for fault, found in faults.items() if found)
