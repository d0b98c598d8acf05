"""What is no tracking address is refused in a line, before anything heavy is loaded or any store is made."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typed_commands import Done, call

from cryossl.errors import ConfigError
from cryossl.machine.tracking_store import check_tracking
from cryossl.tracking.address import store_uri

PROJECT = Path(__file__).resolve().parents[3]
NO_ADDRESSES = (
    "postgresql://localhost:abc/x",
    "postgresql://localhost:99999/x",
    "http://[::1",
    "http://local host:5000",
    "http://localhost:5000/a b",
    "http://a..b:5000",
    "http://:5000",
    "http:/localhost",
    "sqlite://mlflow.db",
    "sqlite:mlflow.db",
    "http://localhost\n:5000",
    "sqlite:///a\tb",
)


def refused(done: Done, *, code: int) -> str:
    """The one line of a refusal."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("cryossl: error: ")
    assert done.err.count("\n") == 1
    return done.err


@pytest.mark.parametrize("uri", NO_ADDRESSES)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="is no tracking address"):
        store_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:5000",
        "https://user:word@[::1]:5000/base",
        "http://münchen.example",
        "databricks",
        "databricks://profile",
        "file:///tmp/a b",
        "mysql+pymysql://user@localhost/x",
        "sqlite:////tmp/a [b",
        "mlruns",
    ],
)
def test_an_address_of_any_kind_is_taken_as_it_is(uri: str) -> None:
    assert store_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    ["postgresql://me:se/cret@localhost/x", "http://me:secret@local host", "http://me:se@cret@h:x"],
)
def test_the_refusal_shows_no_password(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        store_uri(uri)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["postgresql://localhost:abc/x", "http://[::1", "http://local host:5000"]
)
@pytest.mark.parametrize(
    "words", [("compare",), ("run", "--dry-run"), ("sync",), ("doctor",)], ids=" ".join
)
def test_every_command_refuses_it_in_one_line(
    words: tuple[str, ...], uri: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is no tracking address" in refused(call(*words, "--tracking-uri", uri), code=2)


@contextlib.contextmanager
def mail_server(*, calls: int) -> Iterator[str]:
    """Host and port of a server of something else that is called so often."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(calls):
                with listener.accept()[0] as connection, contextlib.suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(b"220 mail.example ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_server_that_does_not_speak_http_fails_the_check() -> None:
    with mail_server(calls=1) as place:
        check = check_tracking(f"http://{place}")
    assert (check.state, "no HTTP server" in check.what) == ("fail", True)


def test_what_answers_for_a_database_and_is_none_is_tried_once() -> None:
    pytest.importorskip("psycopg")
    with mail_server(
        calls=2
    ) as place:  # by a socket, then by the driver; a third would wait for an answer
        done = call("compare", "--tracking-uri", f"postgresql://me:secret@{place}/x")
    assert "cannot be read" in refused(done, code=3)
    assert "secret" not in done.err


@pytest.mark.skipif(find_spec("MySQLdb") is not None, reason="the driver is here")
def test_a_database_without_its_driver_is_one_line() -> None:
    with mail_server(calls=1) as place:
        assert "MySQLdb" in refused(call("compare", "--tracking-uri", f"mysql://{place}/x"), code=3)


@pytest.mark.parametrize("command", ["sync", "reap"])
def test_upkeep_of_a_damaged_store_writes_one_line_also_where_warnings_are_shown(
    command: str, tmp_path: Path
) -> None:
    """In a process of its own: here pytest catches what is logged."""
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"SQLite format 3\0" + bytes(1000))
    done = subprocess.run(
        [
            sys.executable,
            "cli.py",
            command,
            "--tracking-uri",
            f"sqlite:///{file}",
            "--work",
            str(tmp_path),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be opened" in refused(Done(done.returncode, done.stdout, done.stderr), code=3)


@pytest.mark.parametrize("command", ["compare", "runs", "sync", "reap"])
def test_a_sqlite_path_that_is_a_folder_is_refused_before_mlflow_is_loaded(
    command: str, tmp_path: Path
) -> None:
    code = "import sys, cli\ntry: cli.main()\nfinally: print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--tracking-uri", f"sqlite:///{tmp_path}/"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "False\n"
    assert "is no regular file" in refused(Done(done.returncode, "", done.stderr), code=2)


@pytest.mark.parametrize("command", ["compare", "sync", "reap"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(command: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing of MLflow's")
    done = call(command, "--tracking-uri", f"sqlite:///{file}")
    assert "is no sqlite database" in refused(done, code=2)
    assert file.read_text() == "nothing of MLflow's"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["compare", "runs", "sync", "reap"])
def test_a_database_of_another_program_is_refused_and_left_alone(
    command: str, tmp_path: Path
) -> None:
    file = tmp_path / "photos #1.db"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE experiments (id)")
    before = file.read_bytes()
    done = call(command, "--tracking-uri", f"sqlite:///{file}")
    assert "is a database of another program" in refused(done, code=2)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["sync", "reap"])
def test_upkeep_of_a_sqlite_store_that_is_not_there_is_refused_and_makes_none(
    command: str, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    done = call(command, "--tracking-uri", uri, "--work", str(tmp_path / "work"))
    assert f"no tracking store {tmp_path}/new/mlflow.db" in refused(done, code=3)
    assert list(tmp_path.iterdir()) == []
