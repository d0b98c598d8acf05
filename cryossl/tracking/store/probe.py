"""Does a tracking server or a database answer: one try with a time limit.

MLflow's client would try a silent server three times, and a silent database for an hour.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryossl.tracking.store.deadline import within

__all__ = ["Answer", "BrokenAnswerError", "NoServerError", "connect_to_port", "get_once", "probe"]

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Answer:
    """The answer of an HTTP server: status code, start of the body, and where it redirects to."""

    status: int
    body: bytes
    location: str


class NoServerError(OSError):
    """No connection could be made."""


class BrokenAnswerError(Exception):
    """A connection was made, but what came is not HTTP, or the address cannot be requested."""


def probe(uri: str, *, seconds: float | None = None) -> None:
    """Try a server or a database once; any answer of a server will do.

    A server is queried for an experiment, which it must look up: with a stuck database its
    `/health` still says OK. What is wrong with an answer is left to MLflow to report.

    Args:
        uri: of a store; nothing is done for one that is neither a server nor a database.
        seconds: the time limit, by default that of MLFLOW_HTTP_REQUEST_TIMEOUT.

    Raises:
        OSError: silence, or no connection.
        ImportError: no driver for this kind of database.
        sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    limit = float(os.environ[_TIMEOUT]) if seconds is None else seconds
    address = urlsplit(uri)
    if address.scheme in ("http", "https"):
        _probe_server(uri, limit)
    elif address.hostname and _kind(uri) in _DATABASE_PORTS:
        _probe_database(uri, limit)


def get_once(
    url: str, *, seconds: float, params: Mapping[str, str] | None = None, body_bytes: int = 0
) -> Answer:
    """Send one GET request by the HTTP client of MLflow, without following a redirection.

    It runs in a thread that may be left behind: the client's own limit holds for each read, and a
    server may send a byte at a time.

    Args:
        url: with or without a user and a password.
        seconds: the time limit for all of it.
        params: of the query.
        body_bytes: how much of the body is read at most.

    Raises:
        TimeoutError: no whole answer in time.
        NoServerError: no connection.
        OSError: the connection broke, or its encryption failed.
        BrokenAnswerError: see there.
    """
    try:
        return within(seconds, lambda: _exchange(url, seconds, params, body_bytes))
    except TimeoutError:
        raise TimeoutError("no whole answer in time") from None


def connect_to_port(uri: str, *, seconds: float) -> None:
    """Connect to the port of a database server, and close. Raises OSError."""
    address = urlsplit(uri)
    port = address.port or _DATABASE_PORTS.get(_kind(uri), 5432)
    socket.create_connection((address.hostname or "localhost", port), timeout=seconds).close()


def _kind(uri: str) -> str:
    """The scheme without the driver."""
    return urlsplit(uri).scheme.partition("+")[0]


def _probe_server(uri: str, seconds: float) -> None:
    try:
        get_once(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get",
            seconds=seconds,
            params={"experiment_id": "0"},
        )
    except TimeoutError:
        raise OSError(f"no answer within {seconds:g} s ({_TIMEOUT})") from None
    except NoServerError as error:
        raise OSError(f"no server there: {error}") from None
    except (OSError, BrokenAnswerError):
        return


def _probe_database(uri: str, seconds: float) -> None:
    """By its port first: a driver may try longer than its time limit."""
    try:
        connect_to_port(uri, seconds=seconds)
    except OSError as error:
        address = urlsplit(uri)
        port = address.port or _DATABASE_PORTS[_kind(uri)]
        raise OSError(f"no database at {address.hostname}:{port} ({error})") from None
    from sqlalchemy import create_engine

    limit = "timeout" if _kind(uri) == "mssql" else "connect_timeout"
    engine = create_engine(uri, connect_args={limit: max(1, round(seconds))})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _exchange(
    url: str, seconds: float, params: Mapping[str, str] | None, body_bytes: int
) -> Answer:
    import requests
    from urllib3 import exceptions

    try:
        # Not session.get: it reads the target of a redirection, and fails where that is no address.
        with requests.Session() as session:
            request = session.prepare_request(requests.Request("GET", url, params=params))
            address = request.url or url
            settings = session.merge_environment_settings(
                address, proxies={}, stream=True, verify=None, cert=None
            )
            adapter = session.get_adapter(address)
            with adapter.send(request, timeout=seconds, **settings) as answer:
                body = next(answer.iter_content(body_bytes), b"") if body_bytes else b""
                return Answer(answer.status_code, body, answer.headers.get("Location", ""))
    except (requests.RequestException, ValueError) as error:
        root = _root(error)
        if isinstance(root, exceptions.NewConnectionError):
            raise NoServerError(str(root).rpartition(": ")[2]) from None
        if isinstance(root, exceptions.TimeoutError):
            raise TimeoutError("no whole answer in time") from None
        if isinstance(root, OSError) and not isinstance(root, requests.RequestException):
            raise root from None
        raise BrokenAnswerError(type(root).__name__) from error


def _root(error: BaseException) -> BaseException:
    """The error that the HTTP client's layers have wrapped."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _root(inner)
    return error
