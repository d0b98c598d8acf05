"""cryossl.machine.tracking_store."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import mlflow
import pytest
from alembic.script import ScriptDirectory
from answering import answering

from cryossl.machine.check import render
from cryossl.machine.tracking_store import check_tracking

FIRST_TABLES = ("experiments", "runs", "metrics", "params", "tags")


@contextlib.contextmanager
def server_that_answers(status: int, body: str = "OK", **headers: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    with answering(Handler) as uri:
        yield uri


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_sqlite_store_that_is_not_there_yet_can_be_made_and_is_not_made_by_looking(
    tmp_path: Path,
) -> None:
    assert check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db").state == "ok"
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def store_of_mlflow(path: Path, *, schema: str | None) -> Iterator[sqlite3.Connection]:
    """A database with MLflow's tables that says of which schema it is."""
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        for table in FIRST_TABLES:
            store.execute(f"CREATE TABLE {table} (id)")
        if schema is not None:
            store.execute("CREATE TABLE alembic_version (version_num)")
            store.execute("INSERT INTO alembic_version VALUES (?)", [schema])
        yield store


def schemas_of_mlflow() -> list[str]:
    """From the oldest to the newest, as MLflow's own migrations have it."""
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [one.revision for one in scripts.walk_revisions()][::-1]


def test_a_sqlite_store_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schemas_of_mlflow()[-1]):
        pass
    before = path.read_bytes()
    assert check_tracking(f"sqlite:///{path}").state == "ok"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("schema", "cure"),
    [
        (schemas_of_mlflow()[-2], "mlflow db upgrade"),
        ("deadbeef", "install the MLflow that made it"),
        (None, "install the MLflow that made it"),
    ],
)
def test_a_store_of_another_version_of_mlflow_fails(
    tmp_path: Path, schema: str | None, cure: str
) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schema) as store:
        store.execute("INSERT INTO runs VALUES (1)")
    check = check_tracking(f"sqlite:///{path}")
    assert (check.state, cure in check.cure) == ("fail", True)
    assert f"another version of MLflow (schema {schema or 'unknown'})" in check.what


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (None, "unknown"),
        ("", "unknown"),
        ("one\ntwo", r"'one\ntwo'"),
        (b"\xff\n", "'\ufffd\\n'"),
        (7, "7"),
        ("v" * 5000, "'" + "v" * 39),
    ],
    ids=["null", "empty", "two lines", "bytes", "number", "long"],
)
def test_a_version_that_is_none_is_shown_in_a_line(
    tmp_path: Path, version: object, shown: str
) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema="") as store:
        store.execute("INSERT INTO runs VALUES (1)")
        store.execute("UPDATE alembic_version SET version_num = ?", [version])
    check = check_tracking(f"sqlite:///{path}")
    assert (check.state, check.what) == (
        "fail",
        f"{path} is of another version of MLflow (schema {shown})",
    )


def test_a_table_of_versions_without_its_column_says_nothing_of_the_version(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=None) as store:
        store.execute("CREATE TABLE alembic_version (other)")
        store.execute("INSERT INTO runs VALUES (1)")
    assert (
        check_tracking(f"sqlite:///{path}").what
        == f"{path} is of another version of MLflow (schema unknown)"
    )


@pytest.mark.parametrize(
    "tables",
    [
        ["experiments"],
        ["experiments", "runs"],
        list(FIRST_TABLES),
        [*FIRST_TABLES, "alembic_version"],
    ],
    ids=len,
)
def test_a_store_whose_making_was_interrupted_may_be_removed_if_it_holds_nothing(
    tmp_path: Path, tables: list[str]
) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as store:
        for table in tables:
            store.execute(
                f"CREATE TABLE {table} ({'version_num' if table == 'alembic_version' else 'id'})"
            )
    check = check_tracking(f"sqlite:///{path}")
    assert (check.state, check.what) == ("fail", f"{path} is half made: its making was interrupted")
    assert check.cure.startswith("if it holds nothing yet, remove it")


def test_the_search_for_damage_ends_in_time_on_a_store_of_many_pages(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as small:
        small.execute("PRAGMA page_size = 512")
        small.execute("VACUUM")
    with store_of_mlflow(path, schema=schemas_of_mlflow()[-1]) as store:
        store.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000) "
            "INSERT INTO runs SELECT zeroblob(400) FROM n"
        )
    with path.open("r+b") as file:
        file.seek(20 * 512)  # SQLite walks from the last row to the first
        file.write(b"\xff" * 512)
    assert check_tracking(f"sqlite:///{path}", damage_seconds=60).state == "fail"
    assert (
        check_tracking(f"sqlite:///{path}", damage_seconds=0.03).state == "ok"
    )  # the time was over before it came there


def test_what_hinders_the_search_for_damage_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schemas_of_mlflow()[-1]) as store:
        store.create_function("ours", 1, abs, deterministic=True)
        store.execute("CREATE TABLE odd (id CHECK (ours(id)))")
        store.execute("INSERT INTO odd VALUES (1)")
    check = check_tracking(f"sqlite:///{path}")
    assert (check.state, "cannot be read and written: unknown function" in check.what) == (
        "fail",
        True,
    )


@pytest.mark.parametrize("damaged", [slice(0, 2), slice(10, 20)], ids=["head", "rows"])
def test_a_damaged_store_fails(tmp_path: Path, damaged: slice) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schemas_of_mlflow()[-1]) as store:
        store.executemany("INSERT INTO runs VALUES (?)", [("r" * 1000,)] * 100)
    content, page = bytearray(path.read_bytes()), 4096
    start, end = damaged.start * page or 100, damaged.stop * page
    content[start:end] = b"\xff" * (end - start)
    path.write_bytes(content)
    check = check_tracking(f"sqlite:///{path}")
    assert (check.state, "is damaged" in check.what) == ("fail", True)


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"not a database" * 100)
    assert check_tracking(f"sqlite:///{path}").state == "fail"


def test_a_database_of_another_program_fails(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE photos (id)")
    assert "another program" in check_tracking(f"sqlite:///{path}").what


def test_a_locked_sqlite_store_warns(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert check_tracking(f"sqlite:///{path}").state == "warn"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, "ok"),
        (304, "fail"),
        (401, "warn"),
        (404, "fail"),
        (429, "warn"),
        (500, "warn"),
        (503, "warn"),
    ],
)
def test_a_tracking_server_is_judged_by_its_answer(status: int, state: str) -> None:
    with server_that_answers(status) as address:
        assert check_tracking(address).state == state


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://tracking.example:8443/health", "https://tracking.example:8443"),
        ("/elsewhere", "{here}"),
        ("http://user:secret@tracking.example/mlflow/health", "http://tracking.example"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed_but_reported(
    status: int, location: str, target: str
) -> None:
    with server_that_answers(status, Location=location) as address:
        check = check_tracking(address)
        assert (check.state, check.cure) == ("fail", "give that address")
        assert (
            check.what.replace("***@", "")
            == f"{address} answers, but redirects to {target.format(here=address)}"
        )


@pytest.mark.parametrize("location", ["", "http://[half"])
def test_a_redirection_to_nowhere_is_no_answer_of_a_tracking_server(location: str) -> None:
    with server_that_answers(302, Location=location) as address:
        assert check_tracking(address).what.endswith("answers, but not as a tracking server (302)")


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("OK", "ok"),
        ("OK\n", "ok"),
        ("<!doctype html><p>OK", "fail"),
        (" <html>", "fail"),
        ("", "warn"),
        ("healthy", "warn"),
        ("OK" * 1000, "warn"),
    ],
)
def test_a_server_that_does_not_say_ok_as_mlflow_does_is_not_ok(body: str, state: str) -> None:
    with server_that_answers(200, body) as address:
        assert check_tracking(address).state == state


def test_a_server_that_sends_a_byte_at_a_time_is_given_up_in_seconds() -> None:
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not gone.wait(0.1) and time.monotonic() < begun + 60:
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        begun = time.monotonic()
        thread.start()
        check = check_tracking(f"http://127.0.0.1:{listener.getsockname()[1]}")
        waited = time.monotonic() - begun
        gone.set()
        thread.join()
    assert (check.state, "does not answer: no whole answer in time" in check.what) == ("warn", True)
    assert waited < 30


def test_a_server_that_is_down_warns_because_a_run_keeps_its_own_journal(closed_port: int) -> None:
    check = check_tracking(f"http://127.0.0.1:{closed_port}")
    assert check.state == "warn"
    assert "does not answer" in check.what


def test_a_server_that_accepts_and_stays_silent_is_given_up_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        check = check_tracking(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert check.state == "warn"


def test_a_database_that_is_down_fails_without_showing_the_password(closed_port: int) -> None:
    check = check_tracking(f"postgresql+psycopg://user:secret@127.0.0.1:{closed_port}/mlflow")
    assert check.state == "fail"
    assert "secret" not in render([check])


@pytest.mark.parametrize(
    ("uri", "state"), [("mlruns", "fail"), ("file:///tmp/mlruns", "fail"), ("databricks", "warn")]
)
def test_a_plain_folder_is_no_store_and_a_hosted_one_is_not_tried(uri: str, state: str) -> None:
    assert check_tracking(uri).state == state
