"""cryossl.doctor, cryossl.packages, cryossl.diagnosis."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import mlflow
import pytest
from alembic.script import ScriptDirectory
from packaging.requirements import Requirement

from cryossl import doctor, packages
from cryossl.diagnosis import Check, render, worst

PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def server_that_answers(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# --- what the checks say together


def test_the_worst_check_decides() -> None:
    fine, odd, bad = Check("a", "ok", ""), Check("b", "warn", ""), Check("c", "fail", "")
    assert [worst(()), worst([fine]), worst([odd, fine]), worst([fine, bad, odd])] == ["ok", "ok", "warn", "fail"]


def test_every_check_is_a_line_and_every_cure_stands_below_its_check() -> None:
    text = render([Check("disk", "ok", "5 GB free"), Check("torch pair", "fail", "builds differ", "`make venv`")])
    assert text.splitlines() == [
        "ok    disk        5 GB free", "fail  torch pair  builds differ", "                  -> `make venv`",
    ]


# --- packages


@pytest.mark.parametrize(("torch", "torchvision", "state"), [
    ("2.14.1", "0.29.2", "ok"),
    ("2.14.1+cpu", "0.29.2+cpu", "ok"),
    ("2.11.0+cu126", "0.26.0+cu126", "ok"),
    ("2.13.0+cpu", "0.28.0", "fail"),
    ("2.13.0", "0.28.0+cpu", "fail"),
    ("2.13.0+cu126", "0.28.0+cu130", "fail"),
    ("2.14.1", "0.28.0", "fail"),
    ("2.14.1", "0.30.0", "fail"),
    ("3.0.0", "1.0.0", "warn"),
    ("2.14.1", None, "fail"),
    (None, "0.29.2", "fail"),
])
def test_torch_and_torchvision_must_be_of_one_release_and_one_build(
    torch: str | None, torchvision: str | None, state: str
) -> None:
    check = packages.check_torch_pair(torch, torchvision)
    assert check.state == state
    assert bool(check.cure) == (state != "ok")


def test_the_installed_torch_pair_is_found_well_and_really_imports() -> None:
    pair = packages.check_torch_pair(metadata.version("torch"), metadata.version("torchvision"))
    assert pair.state == "ok"
    assert doctor.check_gpu("cpu").state == "ok"


def test_a_missing_package_fails_with_its_name() -> None:
    check = packages.check_packages((Requirement("numpy>=1"), Requirement("nowhere>=2")),
                                    installed={"numpy": "2.0", "nowhere": None}, locked={"numpy": "2.0"})
    assert check.state == "fail"
    assert "nowhere" in check.what
    assert "numpy" not in check.what


def test_a_version_out_of_range_fails_and_one_that_is_not_locked_warns() -> None:
    wanted = (Requirement("numpy>=1.26,<3"),)
    states = [packages.check_packages(wanted, installed={"numpy": version}, locked={"numpy": "2.4.6"}).state
              for version in ("2.4.6", "2.4.5", "1.20", "3.0")]
    assert states == ["ok", "warn", "fail", "fail"]


def test_the_lock_of_this_project_names_what_is_installed() -> None:
    locked = packages.locked_versions(PROJECT / "requirements.lock")
    assert len(locked) > 100
    assert packages.installed_version("numpy") == locked["numpy"]
    assert packages.installed_version("no-such-package") is None


def test_this_python_is_in_the_supported_range() -> None:
    assert packages.check_python(PROJECT / "pyproject.toml").state == "ok"


def test_a_python_out_of_range_is_told_the_range(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=4"\n')
    check = packages.check_python(tmp_path / "pyproject.toml")
    assert check.state == "fail"
    assert ">=4" in check.what


# --- GPU


@pytest.mark.parametrize(("found", "device", "driver", "state"), [
    ("cuda", "auto", True, "ok"),
    ("cuda", "cuda", True, "ok"),
    ("cuda", "cpu", True, "ok"),
    ("cpu", "auto", False, "ok"),
    ("cpu", "auto", True, "warn"),
    ("cpu", "cuda", False, "fail"),
    ("cpu", "mps", False, "fail"),
    ("mps", "cuda", False, "fail"),
])
def test_a_gpu_that_is_wanted_and_missing_fails_and_one_that_lies_idle_warns(
    found: str, device: str, driver: bool, state: str
) -> None:
    probe = {"torch": "2.14.1", "cuda_build": "13.0", "device": found, "name": "", "bytes": 0}
    assert doctor.judge_gpu(probe, device=device, driver_present=driver).state == state


# --- tracking store


def test_a_sqlite_store_that_is_not_there_yet_can_be_made_and_is_not_made_by_looking(tmp_path: Path) -> None:
    assert doctor.check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db").state == "ok"
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def store_of_mlflow(path: Path, *, schema: str | None) -> Iterator[sqlite3.Connection]:
    """A database with MLflow's tables that says of which schema it is."""
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        for table in ("experiments", "runs", "metrics", "params", "tags"):
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
    assert doctor.check_tracking(f"sqlite:///{path}").state == "ok"
    assert path.read_bytes() == before


@pytest.mark.parametrize(("schema", "cure"), [
    (schemas_of_mlflow()[-2], "mlflow db upgrade"), ("deadbeef", "install the MLflow that made it"),
    (None, "install the MLflow that made it")])
def test_a_store_of_another_version_of_mlflow_fails(tmp_path: Path, schema: str | None, cure: str) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schema):
        pass
    check = doctor.check_tracking(f"sqlite:///{path}")
    assert (check.state, cure in check.cure) == ("fail", True)
    assert f"another version of MLflow (schema {schema or 'unknown'})" in check.what


@pytest.mark.parametrize("damaged", [slice(0, 2), slice(10, 20)], ids=["head", "rows"])
def test_a_damaged_store_fails(tmp_path: Path, damaged: slice) -> None:
    path = tmp_path / "mlflow.db"
    with store_of_mlflow(path, schema=schemas_of_mlflow()[-1]) as store:
        store.executemany("INSERT INTO runs VALUES (?)", [("r" * 1000,)] * 100)
    content, page = bytearray(path.read_bytes()), 4096
    start, end = damaged.start * page or 100, damaged.stop * page
    content[start:end] = b"\xff" * (end - start)
    path.write_bytes(content)
    check = doctor.check_tracking(f"sqlite:///{path}")
    assert (check.state, "is damaged" in check.what) == ("fail", True)


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"not a database" * 100)
    assert doctor.check_tracking(f"sqlite:///{path}").state == "fail"


def test_a_database_of_another_program_fails(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE photos (id)")
    assert "another program" in doctor.check_tracking(f"sqlite:///{path}").what


def test_a_locked_sqlite_store_warns(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert doctor.check_tracking(f"sqlite:///{path}").state == "warn"


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "warn"), (404, "fail"), (500, "fail")])
def test_a_tracking_server_is_judged_by_its_answer(status: int, state: str) -> None:
    with server_that_answers(status) as address:
        assert doctor.check_tracking(address).state == state


def test_a_server_that_is_down_warns_because_a_run_keeps_its_own_journal(closed_port: int) -> None:
    check = doctor.check_tracking(f"http://127.0.0.1:{closed_port}")
    assert check.state == "warn"
    assert "does not answer" in check.what


def test_a_server_that_accepts_and_stays_silent_is_given_up_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        check = doctor.check_tracking(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert check.state == "warn"


def test_a_database_that_is_down_fails_without_showing_the_password(closed_port: int) -> None:
    check = doctor.check_tracking(f"postgresql+psycopg://user:secret@127.0.0.1:{closed_port}/mlflow")
    assert check.state == "fail"
    assert "secret" not in render([check])


@pytest.mark.parametrize(("uri", "state"), [("mlruns", "fail"), ("file:///tmp/mlruns", "fail"), ("databricks", "warn")])
def test_a_plain_folder_is_no_store_and_a_hosted_one_is_not_tried(uri: str, state: str) -> None:
    assert doctor.check_tracking(uri).state == state


def test_the_environment_variable_takes_the_place_of_the_configured_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/chosen.db")
    check = doctor.preflight(tracking_uri="sqlite:///configured.db", work=tmp_path, needed_bytes=1)[0]
    assert "chosen.db" in check.what


# --- disk


def test_a_disk_without_room_for_what_is_needed_and_a_fifth_fails(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path / "not" / "yet", needed_bytes=1000).state == "ok"
    check = doctor.check_disk(tmp_path, needed_bytes=10**18)
    assert check.state == "fail"
    assert "1200000000.0 GB needed" in check.what


@pytest.mark.parametrize(("folder", "kind", "state"), [
    ("/data/work", "ext4", "ok"), ("/data/shared/work", "nfs4", "warn"), ("/database", "xfs", "ok"),
])
def test_the_deepest_mount_point_decides_and_a_network_disk_warns(folder: str, kind: str, state: str) -> None:
    mounts = [("/", "xfs"), ("/data/shared", "nfs4"), ("/data", "ext4")]
    check = doctor.judge_file_system(Path(folder), mounts)
    assert (check.state, check.what.split(" is on ")[1].split(":")[0]) == (state, kind)


def test_preflight_looks_at_the_store_the_disk_and_the_file_system(tmp_path: Path) -> None:
    checks = doctor.preflight(tracking_uri=f"sqlite:///{tmp_path}/m.db", work=tmp_path / "work", needed_bytes=1)
    assert [check.name for check in checks] == ["tracking", "disk", "file system"]
    assert not (tmp_path / "work").exists()
