"""Reading commands need not write: over read-only stores, as a user who may write nothing, and in other states of the file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from counted_frames import grid
from other_user import as_user, needs_another_user
from recorded_grid import record_grid
from typed_commands import Done, call

from cryossl.tracking.reader import Artifacts, read_runs
from cryossl.tracking.tracker import Tracker

PROJECT = Path(__file__).resolve().parents[2]
ROWS, DOCUMENTS = grid(seeds=[0, 1], micrographs=5)
PAIR = [row for row in ROWS if row["cryossl.strategy"] in ("supervised", "class_balanced")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, store_template) -> Path:
    """A folder with a store and the files of its runs."""
    root = tmp_path_factory.mktemp("store")
    shutil.copyfile(store_template, root / "mlflow.db")
    record_grid(f"sqlite:///{root}/mlflow.db", tmp_path_factory.mktemp("work"), PAIR, DOCUMENTS)
    return root


@pytest.fixture
def store(recorded, tmp_path) -> Path:
    """A copy of the database of this test's own, alone in its folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(recorded / "mlflow.db", folder / "mlflow.db")
    return folder / "mlflow.db"


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


def compared(database: Path) -> Done:
    return call("compare", "--tracking-uri", f"sqlite:///{database}", "--format", "json")


def test_reading_commands_change_nothing_and_make_nothing(store, tiny_data, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before, data = tree(tmp_path), tree(tiny_data)
    uri = f"sqlite:///{store}"
    for words in (("compare",), ("runs",), ("compare", "--explain", "F1", "--arm", "supervised")):
        done = call(*words, "--tracking-uri", uri)
        assert (done.code, done.err) == (0, "")
    assert call("data", "check", str(tiny_data)).code == 0
    assert (tree(tmp_path), tree(tiny_data)) == (before, data)


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("name", ["ha#sh", "per%20c", "per%2520c", "ques?tion", "a b&c=d;é"])
def test_a_folder_with_letters_that_an_address_quotes_is_written_and_read(
    name, store_template, tmp_path, monkeypatch
):
    """The address is relative, as in the config: the folder's name is never written in it."""
    here = tmp_path / name
    here.mkdir()
    shutil.copyfile(store_template, here / "mlflow.db")
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    tracker = Tracker("sqlite:///mlflow.db", "cryossl", here / "journals")
    with tracker.invocation(name="one", tags={"cryossl.kind": "experiment"}) as run:
        run.metrics({"test/f1": 0.5}, step=1)
        run.json({"a": 1}, "config.json")
    assert tracker.sync() == 0
    before = tree(tmp_path)
    rows = read_runs("sqlite:///mlflow.db", "cryossl", kind="experiment", tags={})
    (run_id,) = rows["run_id"]
    assert list(rows["test/f1"]) == [0.5]
    files = Artifacts("sqlite:///mlflow.db", "cryossl")
    assert files.json([run_id], "config.json") == {run_id: {"a": 1}}
    assert tree(tmp_path) == before
    assert list(tmp_path.iterdir()) == [here]


@needs_another_user
def test_a_user_who_may_write_nothing_reads_everything(recorded, tmp_path):
    before = tree(recorded)
    uri = f"sqlite:///{recorded}/mlflow.db"
    for words in (
        ("compare", "--tracking-uri", uri, "--format", "json"),
        ("runs", "--tracking-uri", uri),
        ("report", "--tracking-uri", uri, "--output", "/dev/null"),
    ):
        done = subprocess.run(
            [*as_user(), sys.executable, str(PROJECT / "cli.py"), *words],
            cwd=tmp_path,
            env=os.environ | {"MPLCONFIGDIR": "/tmp"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), words
        if "json" in words:
            content = json.loads(done.stdout)
            (row,) = content["tables"]["evidence"]["rows"]
            assert (row["interval"]["text"], content["faults"]) == ("seeds, sources", [])
    assert tree(recorded) == before
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_a_write_ahead_log_is_read_without_files_beside_it(store):
    with contextlib.closing(sqlite3.connect(store)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
    done = compared(store)
    assert (done.code, done.err) == (0, "")
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_what_only_the_write_ahead_log_holds_is_read(store):
    """As after a kill, or in a copy made while somebody wrote."""
    aside = store.with_name("aside")
    aside.mkdir()
    with contextlib.closing(sqlite3.connect(store)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE latest_metrics SET value = 0.9876 WHERE key = 'test/f1'")
        writer.commit()
        for ending in ("", "-wal"):
            shutil.copyfile(f"{store}{ending}", aside / f"mlflow.db{ending}")
    before = tree(aside)
    content = json.loads(compared(aside / "mlflow.db").out)
    assert "98.76" in json.dumps(content["tables"]["by_ratio"])
    assert tree(aside) == before


def test_a_store_is_read_while_a_writer_is_at_work(store):
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE latest_metrics SET value = 0 WHERE key = 'test/f1'")
        assert compared(store).code == 0
        writer.execute("ROLLBACK")


def test_a_store_that_stays_locked_is_one_line_in_seconds(store):
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        done = compared(store)
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"cryossl: error: tracking store {store} is locked by a process that writes it; "
        "wait for it\n"
    )


@pytest.mark.parametrize(
    ("schema", "cure"),
    [("older", "mlflow db upgrade"), ("deadbeef", "install the MLflow that made it")],
)
def test_a_store_of_another_mlflow_is_named_and_not_upgraded(schema, cure, store):
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    revision = (
        str(scripts.get_revision(scripts.get_current_head()).down_revision)
        if schema == "older"
        else schema
    )
    with contextlib.closing(sqlite3.connect(store)) as writer, writer:
        writer.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    before = tree(store.parent)
    done = compared(store)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert f"of another version of MLflow (schema {revision})" in done.err
    assert cure in done.err
    assert tree(store.parent) == before


@pytest.mark.parametrize("words", [("compare",), ("runs",), ("report",)], ids=" ".join)
def test_a_store_that_is_not_there_is_called_so_and_not_made(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.db").touch()
    for name, said in (("not/there.db", "there is no tracking store"), ("empty.db", "is empty")):
        done = call(*words, "--tracking-uri", f"sqlite:///{tmp_path}/{name}")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert said in done.err
        assert f"{tmp_path}/{name}" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


@pytest.mark.parametrize("words", [("compare",), ("runs",), ("report",)], ids=" ".join)
def test_an_experiment_that_is_not_there_is_called_so(words, store):
    done = call(*words, "--tracking-uri", f"sqlite:///{store}", "--experiment", "nothere")
    assert (done.code, done.out) == (2, "")
    assert f"there is no experiment 'nothere' in sqlite:///{store}" in done.err
    assert "cryossl" in done.err.partition("some are:")[2]


@needs_another_user
def test_doctor_says_whose_the_store_is_that_may_not_be_written(store):
    store.chmod(0o644)
    code = (
        "from cryossl.machine.tracking_store import check_tracking; import sys; "
        "check = check_tracking(sys.argv[1]); print(check.state, check.what)"
    )
    done = subprocess.run(
        [*as_user(), sys.executable, "-c", code, f"sqlite:///{store}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"fail {store} can be read, but not written (it belongs to root)\n"
