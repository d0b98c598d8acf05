"""Which tracking store and experiment are meant: MLflow's environment variables come before the config."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from cryossl.config import redacted
from cryossl.errors import ConfigError
from cryossl.provenance import PROJECT

__all__ = ["experiment_choice", "knock", "redacted", "refuse_other_files", "sqlite_path", "store_uri"]

_SQLITE_MAGIC = b"SQLite format 3\0"
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def experiment_choice(configured: str) -> tuple[str, str | None]:
    """(name, None), or (name, id) where `mlflow run` or the user chose by id; the id counts then.

    Of what is set the first holds: MLFLOW_RUN_ID with MLFLOW_EXPERIMENT_ID (both from `mlflow run`),
    MLFLOW_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_ID, the configured name.
    """
    name, identifier = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID") or None
    chosen_by_id = identifier is not None and (not name or bool(os.environ.get("MLFLOW_RUN_ID")))
    return name or configured, identifier if chosen_by_id else None


def store_uri(configured: str) -> str:
    """MLFLOW_TRACKING_URI if it is set, else the configured URI; the path of a sqlite file made absolute.

    A relative path counts from the current folder in the environment variable, as MLflow has it, and from the project
    in the config. Postgres gets the driver that comes with the extra `postgres`. Raises ConfigError for what is no address.
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


def refuse_other_files(uri: str) -> None:
    """Raise ConfigError where a sqlite path leads to anything but a database or an empty file: MLflow would try for minutes."""
    path = sqlite_path(uri)
    if path is None or not path.exists():
        return
    cure = "sqlite:///FILE names one, which may not exist yet"
    if not path.is_file():
        raise ConfigError(f"tracking store {path} is no regular file", cure=cure)
    with path.open("rb") as file:
        found = file.read(len(_SQLITE_MAGIC))
    if found not in (b"", _SQLITE_MAGIC):
        raise ConfigError(f"tracking store {path} is no sqlite database", cure=cure)


def knock(uri: str) -> None:
    """Raise OSError at once where no database listens: MLflow would try for minutes."""
    address = urlsplit(uri)
    port = _DATABASE_PORTS.get(address.scheme.partition("+")[0])
    if port is None or not address.hostname:
        return
    try:
        socket.create_connection((address.hostname, address.port or port), timeout=10).close()
    except OSError as error:
        raise OSError(f"no database at {address.hostname}:{address.port or port} ({error})") from None


def _check_address(uri: str) -> None:
    """Refuse here what a socket, urllib or SQLAlchemy would stumble over later. Raises ConfigError."""
    head, separator, rest = uri.partition("://")
    try:
        address = urlsplit(uri)
        (address.hostname or "").encode("idna")  # as a socket will
        wrong = (address.port == 0 or re.search(r"[\x00-\x1f\x7f]", uri) or " " in address.netloc
                 or (address.scheme in ("http", "https") and (not address.hostname or " " in uri))
                 or (address.scheme == "sqlite" and sqlite_path(uri) is None))
    except ValueError:  # a port that is no number, half an IPv6 address, a host name with an empty part
        wrong = True
    if wrong:
        # The last @ counts: a password that is not quoted may hold what made the address unreadable.
        raise ConfigError(f"{head + separator + rest.rpartition('@')[2]!r} is no tracking address",
                          cure="sqlite:///FILE, http://HOST:PORT or postgresql://USER@HOST:PORT/DATABASE is one")
