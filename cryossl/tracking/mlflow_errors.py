"""The errors of MLflow's client as three: unreachable, refused, not authorised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryossl.errors import one_line
from cryossl.setting import redacted
from cryossl.tracking.address import LOG_IN

_REFUSALS = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "BAD_REQUEST",
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
        "ENDPOINT_NOT_FOUND",
        "INVALID_STATE",
        "FEATURE_DISABLED",
        "MALFORMED_REQUEST",
    }
)
_NOT_AUTHORISED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})


class StoreAwayError(Exception):
    """The store does not answer."""

    cure = "start the server, or check the tracking URI; `cryossl doctor` looks at a file"


class RefusedError(Exception):
    """The store refuses the call, and will refuse it again."""

    cure = "check the tracking URI"


class NotAuthorisedError(RefusedError):
    """The store demands a user and a password, or a token."""

    cure = LOG_IN


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreAwayError or RefusedError in place of the errors of MLflow and its libraries.

    Other exceptions are passed on.
    """
    try:
        yield
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        # in one line, without the user and the password of an address in it
        raise kind(redacted(one_line(error))[:300]) from error


def _kind(error: Exception) -> type[StoreAwayError | RefusedError] | None:
    from requests import HTTPError
    from sqlalchemy.exc import SQLAlchemyError

    code = getattr(error, "error_code", None)
    if isinstance(code, str) and _is_of("mlflow", error):
        return _kind_of_code(code)
    if isinstance(error, HTTPError):
        return _kind_of_status(error.response.status_code if error.response is not None else 500)
    if isinstance(error, ImportError):  # no driver for such a database
        return RefusedError
    # alembic: the schema of something else; google (protobuf): the answer of something else
    if isinstance(error, SQLAlchemyError | OSError) or _is_of("alembic", error):
        return StoreAwayError
    return StoreAwayError if _is_of("google", error) else None


def _is_of(package: str, error: Exception) -> bool:
    return any(one.__module__.partition(".")[0] == package for one in type(error).__mro__)


def _kind_of_code(code: str) -> type[StoreAwayError | RefusedError]:
    if code in _NOT_AUTHORISED:
        return NotAuthorisedError
    return RefusedError if code in _REFUSALS else StoreAwayError


def _kind_of_status(status: int) -> type[StoreAwayError | RefusedError]:
    if status in (401, 403):
        return NotAuthorisedError
    return RefusedError if 400 <= status < 500 and status not in (408, 429) else StoreAwayError
