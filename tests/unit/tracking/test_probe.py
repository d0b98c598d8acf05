"""cryossl.tracking.store.probe: what one request finds out, by servers of all kinds."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from answering import answering

from cryossl.tracking.store.probe import Answer, BrokenAnswerError, NoServerError, get_once, probe


@contextlib.contextmanager
def server_that_sends(answer: bytes, *, endless: bytes = b"") -> Iterator[str]:
    """The address of a server that sends these bytes to its first caller, then `endless` again and again."""
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                connection.sendall(answer)
                while endless and not gone.wait(0.05):
                    connection.sendall(endless)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            gone.set()
            thread.join()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_an_answer_has_its_status_the_start_of_its_body_and_its_target():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://[half{self.path}")
            self.end_headers()
            self.wfile.write(b"0123456789")

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    with answering(Handler) as uri:
        found = get_once(f"{uri}/a", params={"b": "c"}, seconds=10, body_bytes=4)
        assert found == Answer(302, b"0123", "http://[half/a?b=c")
        assert get_once(uri, seconds=10).body == b""


def test_where_nobody_listens_there_is_no_server(closed_port: int):
    with pytest.raises(NoServerError, match="refused"):
        get_once(f"http://127.0.0.1:{closed_port}", seconds=10)


def test_a_server_that_hangs_up_is_a_broken_connection():
    with server_that_sends(b"") as uri, pytest.raises(OSError, match="closed connection") as caught:
        get_once(uri, seconds=10)
    assert not isinstance(caught.value, NoServerError | TimeoutError)


def test_what_is_not_http_is_a_broken_answer():
    with (
        server_that_sends(b"220 mail.example ready\r\n") as uri,
        pytest.raises(BrokenAnswerError, match="BadStatusLine"),
    ):
        get_once(uri, seconds=10)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_the_time_limit_holds_for_the_whole_answer(answer: bytes):
    with server_that_sends(answer, endless=b"x") as uri:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="no whole answer in time"):
            get_once(uri, seconds=0.5, body_bytes=1000)
        assert time.monotonic() - begun < 30


def test_a_probe_does_not_wait_for_the_body():
    with server_that_sends(b"HTTP/1.1 200 OK\r\n\r\n", endless=b"x") as uri:
        probe(uri, seconds=10)


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ready\r\n", b"HTTP/1.1 500 Oh\r\n\r\n"])
def test_a_probe_takes_any_answer_and_leaves_it_to_mlflow(answer: bytes):
    with server_that_sends(answer) as uri:
        probe(uri, seconds=10)


def test_a_probe_of_nobody_and_of_silence_says_which(closed_port: int):
    with pytest.raises(OSError, match=r"no server there: \[Errno \d+\] Connection refused"):
        probe(f"http://127.0.0.1:{closed_port}", seconds=10)
    with (
        server_that_sends(b"", endless=b"x") as uri,
        pytest.raises(OSError, match=r"no answer within 0\.3 s"),
    ):
        probe(uri, seconds=0.3)


def test_a_probe_of_a_database_that_is_down_names_its_port(closed_port: int):
    with pytest.raises(OSError, match=f"no database at 127.0.0.1:{closed_port} "):
        probe(f"postgresql+psycopg://me:secret@127.0.0.1:{closed_port}/x", seconds=10)


@pytest.mark.parametrize(
    "uri", ["sqlite:////no/such/file.db", "databricks", "postgresql:///by-a-local-socket"]
)
def test_what_is_neither_a_server_nor_a_database_server_is_not_probed(uri: str):
    probe(uri, seconds=0.01)
