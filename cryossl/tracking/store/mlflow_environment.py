"""The environment variables of MLflow's client: quiet, quick to give up, safe."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cryossl.errors import ConfigError

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # They would be drawn for each file, on the terminal.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server may name an hour, and the client would sleep for it.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # For files in S3: two tries, and three seconds for a connection.
    "AWS_MAX_ATTEMPTS": "2",
    "AWS_DEFAULTS_MODE": "standard",
}
_WHOLE_NUMBERS = {  # default, least, most; the last two mosts are MLflow's own
    "MLFLOW_HTTP_REQUEST_TIMEOUT": (10, 1, 86400),
    _RETRIES: (2, 0, 10),
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": (1, 0, 120),
}
_SWITCHES = (
    *(name for name, value in _DEFAULTS.items() if value in ("true", "false")),
    "MLFLOW_TRACKING_INSECURE_TLS",
)
_JITTER = "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"
_MOST_PAUSE_SECONDS = 120  # urllib3's
_SPARE_SECONDS = 3.0
_LEVEL = "MLFLOW_LOGGING_LEVEL"


def set_mlflow_environment() -> None:
    """Set the variables that the user has not set.

    Raises ConfigError for a value that MLflow would fail on later.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name, (default, least, most) in _WHOLE_NUMBERS.items():
        chosen = os.environ.setdefault(name, str(default))
        if not (chosen.isdecimal() and len(chosen) <= 6 and least <= int(chosen) <= most):
            raise _refusal(name, f"a whole number from {least} to {most}", such_as=str(default))
    if not _is_size(os.environ.get(_JITTER, "1")):
        raise _refusal(_JITTER, "a finite number from 0 up", such_as="1")
    level = os.environ[_LEVEL]
    if level and level.upper() not in logging.getLevelNamesMapping():
        raise _refusal(_LEVEL, "the name of a logging level", such_as="WARNING")
    for name in _SWITCHES:
        if os.environ.get(name, "true").lower() not in ("true", "false", "1", "0"):
            raise _refusal(name, "true, false, 1 or 0", such_as=_DEFAULTS.get(name, "false"))


def call_seconds() -> float:
    """How long the client may take for one call: all its tries, and the pauses between them."""
    timeout, retries, factor = (
        int(os.environ.get(name, str(default))) for name, (default, *_) in _WHOLE_NUMBERS.items()
    )
    pauses = sum(min(_MOST_PAUSE_SECONDS, factor * 2**number) for number in range(1, retries + 1))
    return float((retries + 1) * timeout + pauses + _SPARE_SECONDS)


def _is_size(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _refusal(name: str, legal: str, *, such_as: str) -> ConfigError:
    return ConfigError(
        f"{name} = {os.environ[name]!r:.40} is not {legal}", cure=f"unset it, or set e.g. {such_as}"
    )


@contextmanager
def without_retries() -> Iterator[None]:
    """Let the client try once only, for a call that must not be made twice."""
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RETRIES]
        else:
            os.environ[_RETRIES] = before
