"""The errors of MLflow's client as three: unreachable, refused, not authorised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryossl.errors import CryosslError, one_line
from cryossl.redaction import redacted
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
_MOST_LETTERS = 300
# First part of a module's name -> what `pip install` is told, where that is another name.
_PACKAGES = {
    "boto3": "boto3` (the extra `s3`), `pip install -e .[s3]",
    "botocore": "boto3` (the extra `s3`), `pip install -e .[s3]",
    "psycopg": "psycopg[binary]` (the extra `postgres`), `pip install -e .[postgres]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "azure": "azure-storage-blob azure-storage-file-datalake azure-identity",
    "google": "google-cloud-storage",
    "databricks": "databricks-sdk",
}


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

    What is not known is StoreAwayError: there are too many libraries below MLflow to name all. Our
    own errors are passed on.
    """
    try:
        yield
    except (CryosslError, StoreAwayError, RefusedError):
        raise
    except Exception as error:
        raise _kind(error)(said(error)) from error


@contextmanager
def translated_for_files() -> Iterator[None]:
    """As `translated`, but RefusedError only where MLflow itself refuses the run or the path.

    A package that is not installed, a login and a missing bucket can be mended, and the files be
    sent or read later.
    """
    try:
        with translated():
            yield
    except RefusedError as error:
        if isinstance(error, NotAuthorisedError) or not _is_of("mlflow", error.__cause__):
            raise StoreAwayError(str(error)) from error.__cause__
        raise


def said(error: Exception) -> str:
    """One line, without the secrets of an address in it."""
    text = one_line(error)
    if isinstance(error, (CryosslError, StoreAwayError, RefusedError)):
        pass  # said by us already
    elif isinstance(error, ImportError) and error.name:
        package = error.name.partition(".")[0]
        text += f"; `pip install {_PACKAGES.get(package, package)}`"
    elif not _is_of("mlflow", error) and not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = redacted(text)
    # The reason often stands at the end, behind long names of files.
    return text if len(text) <= _MOST_LETTERS else f"{text[:120]} … {text[123 - _MOST_LETTERS :]}"


def _kind(error: Exception) -> type[StoreAwayError | RefusedError]:
    from requests import HTTPError

    code = getattr(error, "error_code", None)
    if isinstance(code, str) and _is_of("mlflow", error):
        return _kind_of_code(code)
    if isinstance(error, HTTPError):
        return _kind_of_status(error.response.status_code if error.response is not None else 500)
    return RefusedError if isinstance(error, ImportError) else StoreAwayError


def _is_of(package: str, error: BaseException | None) -> bool:
    return any(one.__module__.partition(".")[0] == package for one in type(error).__mro__)


def _kind_of_code(code: str) -> type[StoreAwayError | RefusedError]:
    if code in _NOT_AUTHORISED:
        return NotAuthorisedError
    return RefusedError if code in _REFUSALS else StoreAwayError


def _kind_of_status(status: int) -> type[StoreAwayError | RefusedError]:
    if status in (401, 403):
        return NotAuthorisedError
    return RefusedError if 400 <= status < 500 and status not in (408, 429) else StoreAwayError
