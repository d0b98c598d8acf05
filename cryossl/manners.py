"""How MLflow's client behaves: quiet, quick to give up, safe. It reads that from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cryossl.errors import ConfigError

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    _RETRIES: "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    _TIMEOUT: "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def set_manners() -> None:
    """Where the user has not chosen otherwise. Raises ConfigError for a number that MLflow would stumble over."""
    for name, value in _MANNERS.items():
        chosen = os.environ.setdefault(name, value)
        if value.isdecimal() and not (chosen.isdecimal() and (int(chosen) or name != _TIMEOUT)):
            raise ConfigError(f"{name} = {chosen!r:.40} is no number that it can have", cure=f"unset it, or set e.g. {value}")


@contextmanager
def without_retries() -> Iterator[None]:
    """The client tries once, for what must not be done twice."""
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RETRIES]
        else:
            os.environ[_RETRIES] = before
