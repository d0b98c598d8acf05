"""Tracking servers that are silent, slow, refuse, or answer something else: one line, and soon."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from answering import answering
from mlflow import environment_variables
from typed_commands import Done, call

from cryossl.tracking.address import LOG_IN
from cryossl.tracking.store.mlflow_environment import set_mlflow_environment

NO_EXPERIMENT = json.dumps(
    {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none of this name"}
)
ANSWERS = {
    "HTML": "<html><body>Please log in</body></html>",
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "other fields": '{"experiment": {"names": 3}, "runs": 7}',
    "other types": '{"experiment": [1], "runs": {"info": "x"}}',
    "half of it": '{"experiment": {"experiment_id": "1", "name": "cry',
}
COMMANDS = (
    ("compare",),
    ("runs",),
    ("reap", "--work", "work"),
    ("report", "--output", "report.html"),
)


@pytest.fixture(autouse=True)
def hasty(monkeypatch, tmp_path) -> None:
    """A client that gives up quickly, in a folder of its own."""
    for name, value in {"MAX_RETRIES": "2", "BACKOFF_FACTOR": "0", "TIMEOUT": "2"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    monkeypatch.chdir(tmp_path)


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of what takes every connection and says nothing, and the connections that it took."""
    taken: list[socket.socket] = []
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                connection, _ = listener.accept()
                stack.enter_context(connection)
                if connection.recv(1) == b"!":
                    return
                taken.append(connection)

        thread = threading.Thread(target=take)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}", taken
        finally:
            with socket.create_connection(("127.0.0.1", port)) as last:
                last.sendall(b"!")
                thread.join()


@contextlib.contextmanager
def server_that_says(text: str, *, status: int = 200, after_seconds: float = 0.0) -> Iterator[str]:
    """The address of a server that answers everything with one text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(after_seconds)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_words: object) -> None:
            """Silent."""

    with answering(Handler) as uri:
        yield uri


def one_line(done: Done, *, code: int) -> str:
    """The one line of a refusal."""
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done
    assert done.err.startswith("cryossl: error: ")
    return done.err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_silent_server_is_tried_once(words: tuple[str, ...]) -> None:
    with silent_server() as (uri, taken):
        begun = time.monotonic()
        done = call(*words, "--tracking-uri", uri)
        waited = time.monotonic() - begun
        assert len(taken) == 1
    assert "no answer within 2 s (MLFLOW_HTTP_REQUEST_TIMEOUT)" in one_line(done, code=3)
    assert waited < 90  # of which importing MLflow takes most


def test_a_server_that_trickles_is_a_silent_one() -> None:
    """Each byte comes in time, the answer never: the server goes on for twenty seconds, or until the command has ended."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(b"H")
                    if ended.wait(0.1):
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        done = call(
            "reap",
            "--work",
            "work",
            "--tracking-uri",
            f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
        ended.set()
        thread.join()
    assert "no answer within 2 s" in one_line(done, code=3)


def test_a_slow_server_is_waited_for() -> None:
    with server_that_says(NO_EXPERIMENT, status=404, after_seconds=1.0) as uri:
        done = call("reap", "--work", "work", "--tracking-uri", uri)
    assert "no answer" not in done.err
    assert "none of this name" in done.err


@pytest.mark.parametrize(
    ("status", "run_id", "cure"),
    [
        (404, None, "check the tracking URI"),
        (
            404,
            "f00",
            "check the tracking URI, and `unset MLFLOW_RUN_ID` if it names another store's run",
        ),
        (401, None, LOG_IN),
        (401, "f00", LOG_IN),
        (403, None, LOG_IN),
    ],
)
def test_a_refusal_comes_with_the_cure_that_is_its_own(
    status: int, run_id: str | None, cure: str, monkeypatch
) -> None:
    if run_id is not None:
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with server_that_says("no", status=status) as uri:
        for words in (("reap", "--work", "work"), ("compare",))[
            : 1 if run_id else 2
        ]:  # what only reads adopts no run
            assert one_line(call(*words, "--tracking-uri", uri), code=3).endswith(f"; {cure}\n")


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        *(
            ("HTTP_REQUEST_TIMEOUT", value, "a whole number from 1 to 86400")
            for value in ("soon", "", "0", "-1", "86401", "9" * 5000)
        ),
        *(
            ("HTTP_REQUEST_MAX_RETRIES", value, "a whole number from 0 to 10")
            for value in ("x", "11")
        ),
        *(
            ("HTTP_REQUEST_BACKOFF_FACTOR", value, "a whole number from 0 to 120")
            for value in ("1.5", "121")
        ),
        *(
            ("HTTP_REQUEST_BACKOFF_JITTER", value, "a finite number from 0 up")
            for value in ("much", "nan", "inf", "-1", "")
        ),
        ("LOGGING_LEVEL", "nonsense", "the name of a logging level"),
        ("LOGGING_LEVEL", "10", "the name of a logging level"),
        *(
            (name, "yes", "true, false, 1 or 0")
            for name in (
                "TRACKING_INSECURE_TLS",
                "HTTP_RESPECT_RETRY_AFTER_HEADER",
                "ALLOW_HTTP_REDIRECTS",
                "DISABLE_TELEMETRY",
            )
        ),
    ],
)
def test_a_value_of_the_environment_that_mlflow_would_stumble_over_is_refused(
    name: str, value: str, legal: str, monkeypatch
) -> None:
    monkeypatch.setenv(f"MLFLOW_{name}", value)
    line = one_line(call("compare", "--tracking-uri", "http://127.0.0.1:1"), code=2)
    assert f"MLFLOW_{name} = {value!r:.40} is not {legal}; unset it, or set e.g. " in line
    assert len(line) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_REQUEST_TIMEOUT", "86400"),
        ("HTTP_REQUEST_MAX_RETRIES", "10"),
        ("HTTP_REQUEST_BACKOFF_FACTOR", "120"),
        ("HTTP_REQUEST_BACKOFF_JITTER", "0.5"),
        ("LOGGING_LEVEL", "debug"),
        ("LOGGING_LEVEL", ""),
        ("TRACKING_INSECURE_TLS", "False"),
        ("HTTP_RESPECT_RETRY_AFTER_HEADER", "0"),
    ],
)
def test_a_value_of_the_environment_that_mlflow_takes_is_taken(
    name: str, value: str, monkeypatch
) -> None:
    monkeypatch.setenv(f"MLFLOW_{name}", value)
    set_mlflow_environment()
    assert getattr(environment_variables, f"MLFLOW_{name}").get() is not None
    assert os.environ[f"MLFLOW_{name}"] == value


@pytest.mark.parametrize("answer", list(ANSWERS))
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_server_that_answers_something_else_is_one_line(
    words: tuple[str, ...], answer: str
) -> None:
    with server_that_says(ANSWERS[answer]) as uri:
        assert uri in one_line(call(*words, "--tracking-uri", uri), code=3)
