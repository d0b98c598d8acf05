"""Which tracking store and experiment are used: MLflow's environment variables, then the config."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from cryossl.errors import ConfigError
from cryossl.system.process import PROJECT
from cryossl.tracking.artifact_places import FOLDER

LOG_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


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
    _check_address(uri)
    path = sqlite_path(uri)
    if path is not None and not path.is_absolute():
        return f"sqlite:///{base / path}"
    for scheme in ("postgresql://", "postgres://"):
        if uri.startswith(scheme):
            return f"postgresql+psycopg://{uri.removeprefix(scheme)}"
    return uri


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite store, None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


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


def _check_address(uri: str) -> None:
    """Raise ConfigError for an address that a socket, urllib or SQLAlchemy would reject later."""
    head, separator, rest = uri.partition("://")
    try:
        address = urlsplit(uri)
        (address.hostname or "").encode("idna")  # as a socket will
        wrong = (
            address.port == 0
            or re.search(r"[\x00-\x1f\x7f]", uri)
            or " " in address.netloc
            or (address.scheme in ("http", "https") and (not address.hostname or " " in uri))
            or (address.scheme == "sqlite" and sqlite_path(uri) is None)
        )
    except (
        ValueError
    ):  # a port that is no number, half an IPv6 address, a host name with an empty part
        wrong = True
    if wrong:
        # The last @ counts: a password that is not quoted may hold what made the address
        # unreadable.
        raise ConfigError(
            f"{head + separator + rest.rpartition('@')[2]!r} is no tracking address",
            cure="sqlite:///FILE, http://HOST:PORT or postgresql://USER@HOST:PORT/DATABASE is one",
        )
