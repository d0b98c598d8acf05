"""cryossl.tracking.store.mlflow_errors: which error of a library becomes which of ours."""

from __future__ import annotations

import pytest
import requests
from alembic.util import CommandError
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import OperationalError

from cryossl.errors import ConfigError
from cryossl.tracking.store.mlflow_errors import (
    NotAuthorisedError,
    RefusedError,
    StoreAwayError,
    translated,
)


def http_error(status: int | None) -> requests.HTTPError:
    answer = None
    if status is not None:
        answer = requests.Response()
        answer.status_code = status
    return requests.HTTPError("x", response=answer)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}), RefusedError),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "x"}), NotAuthorisedError),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}), StoreAwayError),
        (MlflowException("of no code"), StoreAwayError),
        (http_error(401), NotAuthorisedError),
        (http_error(404), RefusedError),
        (http_error(408), StoreAwayError),
        (http_error(429), StoreAwayError),
        (http_error(500), StoreAwayError),
        (http_error(None), StoreAwayError),
        (ImportError("no driver"), RefusedError),
        (OperationalError("SELECT", {}, Exception("x")), StoreAwayError),
        (OSError("x"), StoreAwayError),
        (CommandError("no such revision"), StoreAwayError),
        (ParseError("x"), StoreAwayError),
        (ValueError("x"), StoreAwayError),
        (Exception("of no kind, as Azure's client raises it"), StoreAwayError),
    ],
    ids=repr,
)
def test_each_error_of_a_library_is_one_of_three(error: Exception, kind: type[Exception]):
    with pytest.raises((StoreAwayError, RefusedError)) as caught, translated():
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ConfigError("x"), RefusedError("x"), StoreAwayError("x")])
def test_our_own_errors_are_passed_on(error: Exception):
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


def test_the_message_is_one_short_line_without_a_password():
    with pytest.raises(StoreAwayError) as caught, translated():
        raise OSError(f"cannot reach\n  http://me:secret@host {'x' * 1000}")
    said = str(caught.value)
    assert said.startswith("cannot reach http://")
    assert ("secret" in said, "\n" in said, len(said)) == (False, False, 300)
