"""A tracking store that lost what it had taken is noticed and mended: once, and nothing is there twice."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from recorded_runs import PROJECT, TAGS, files, record, runs_of
from typed_commands import call

from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")
LOST_POINTS = 7


def recorded(uri: str, folder: Path) -> None:
    """An invocation with one run below it, all of it sent."""
    tracker = Tracker(uri, "cryossl", folder / "journals")
    with (
        tracker.invocation(name="experiment", tags={"cryossl.kind": "experiment"}) as parent,
        tracker.run("fp", name="model", parent=parent, tags=TAGS) as run,
    ):
        parent.json({"a": 1}, "config.json")
        record(run, epochs=range(9))
        run.metrics({"test/f1": 0.5}, step=1)
    assert tracker.sync() == 0


def changed(uri: str, *statements: str) -> None:
    with (
        contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store,
        store,
    ):
        for statement in statements:
            store.execute(statement)


def content(uri: str) -> dict[str, object]:
    """All that matters of the runs of a store, by name, each row as often as it is there."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
        rows = sorted(
            store.execute(
                "SELECT runs.name, key, step, value, timestamp FROM metrics JOIN runs USING (run_uuid)"
                " WHERE runs.lifecycle_stage = 'active'"
            )
        )
    runs = runs_of(uri)
    names = {run.info.run_id: run.info.run_name for run in runs}
    client = MlflowClient(uri)
    return {"points": rows, "runs": sorted(names.values())} | {
        run.info.run_name: (
            run.info.status,
            run.data.params,
            {
                name: value
                for name, value in run.data.tags.items()
                if name not in ("mlflow.parentRunId", "process.heartbeat")
                and not name.startswith("mlflow.source.")  # of the process that sent it
            },
            names.get(run.data.tags.get("mlflow.parentRunId", "")),
            [entry.dataset.digest for entry in run.inputs.dataset_inputs],
            files(client, run.info.run_id),
        )
        for run in runs
    }


def purge(table: str) -> str:
    """Of everything that a store has of a run."""
    return f"DELETE FROM {table} WHERE run_uuid IN (SELECT run_uuid FROM runs WHERE name = 'model')"


PARTS = ("metrics", "latest_metrics", "params", "tags", "runs")
DAMAGES = {
    "the newest points": (
        "DELETE FROM metrics WHERE key = 'train/loss' AND step > 1",
        "UPDATE latest_metrics SET step = 1, value = 0.5 WHERE key = 'train/loss'",
    ),
    "points in the middle": ("DELETE FROM metrics WHERE key = 'train/loss' AND step IN (2, 4)",),
    "some lost and some other than ours": (
        "DELETE FROM metrics WHERE key = 'train/loss' AND step = 2",
        "INSERT INTO metrics SELECT 'other', value, timestamp, run_uuid, step, is_nan FROM metrics"
        " WHERE key = 'train/loss' AND step = 3",
    ),
    "params": ("DELETE FROM params WHERE key LIKE 'split.%'",),
    "tags": ("DELETE FROM tags WHERE key LIKE 'cryossl.%' AND value = 'naive'",),
    "the link to the parent": ("DELETE FROM tags WHERE key = 'mlflow.parentRunId'",),
    "data sets": ("DELETE FROM inputs", "DELETE FROM datasets"),
    "the end of the run": ("UPDATE runs SET status = 'RUNNING', end_time = NULL",),
    "the run": tuple(purge(table) for table in PARTS),
    "its parent": tuple(purge(table).replace("model", "experiment") for table in PARTS),
    "the experiment": (
        *(f"DELETE FROM {table}" for table in PARTS),
        "DELETE FROM experiments WHERE name = 'cryossl'",
    ),
}


def test_sync_mends_what_a_store_has_lost_and_nothing_is_there_twice(note, sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    whole = content(sqlite_uri)
    for damage, statements in DAMAGES.items():
        changed(sqlite_uri, *statements)
        done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
        assert (done.code, done.err, done.out[:5]) == (0, "", "sent "), damage
        mended = content(sqlite_uri)
        mended["points"] = [row for row in mended["points"] if row[1] != "other"]
        assert mended == whole, damage
    again = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert "has all that" in again.out
    note(
        "tracking store that was rolled back or lost something",
        ran=f"{len(DAMAGES)} kinds of loss (points, params, tags, runs, the experiment ...), then "
        "`cryossl sync`",
        found=f"{len(DAMAGES)} times the content of before, nothing twice",
        bar="the content of before, nothing twice",
    )


def test_sync_says_how_many_entries_were_lost(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    changed(sqlite_uri, f"DELETE FROM metrics WHERE key = 'train/loss' AND step < {LOST_POINTS}")
    done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert done.out.startswith(f"sent {LOST_POINTS} entries")


def test_files_that_are_gone_or_cut_off_are_sent_again(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    whole = content(sqlite_uri)
    root = tmp_path / "store" / "mlruns"
    (table,) = root.rglob("iteration_1.json")
    (result,) = root.rglob("result.json")
    before = table.read_bytes()
    table.write_bytes(before[:5])
    result.unlink()
    shutil.rmtree(next(root.rglob("images")))
    assert (
        call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path)).out.split()[1]
        == "4"  # a table, a document, a picture and its thumbnail
    )
    assert content(sqlite_uri) == whole
    assert table.read_bytes() == before


def test_a_file_with_another_digit_is_sent_again(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    (result,) = (tmp_path / "store" / "mlruns").rglob("result.json")
    before = result.read_bytes()
    result.write_bytes(before.replace(b"1", b"2"))
    assert result.read_bytes() != before
    done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert done.out.startswith("sent 1 entries")
    assert result.read_bytes() == before
    again = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert "has all that" in again.out


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE latest_metrics SET value = 0.99 WHERE key = 'test/f1'",
        "DELETE FROM latest_metrics WHERE key = 'test/f1'",
        "UPDATE latest_metrics SET value = 0.99, step = 99 WHERE key = 'test/f1'",
    ],
)
def test_a_newest_value_that_is_not_ours_is_told_until_the_run_is_made_anew(
    statement, sqlite_uri, tmp_path
):
    recorded(sqlite_uri, tmp_path)
    whole = content(sqlite_uri)
    changed(sqlite_uri, statement)
    (model,) = (run for run in runs_of(sqlite_uri) if run.info.run_name == "model")
    done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"as in {model.info.run_id} (test/f1); sending them again cannot mend" in done.err
    MlflowClient(sqlite_uri).delete_run(model.info.run_id)  # the cure
    tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
    tracker.run("fp", name="model", parent=None, tags=TAGS).finish()
    assert tracker.sync() == 0
    (model,) = (run for run in runs_of(sqlite_uri) if run.info.run_name == "model")
    assert model.data.metrics["test/f1"] == 0.5
    assert content(sqlite_uri)["points"] == whole["points"]
    assert call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path)).code == 0


def test_a_newer_point_of_a_user_is_no_fault(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    (model,) = (run for run in runs_of(sqlite_uri) if run.info.run_name == "model")
    MlflowClient(sqlite_uri).log_metric(model.info.run_id, "test/f1", 0.9, step=50)
    done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert "has all that" in done.out


def sync_elsewhere(uri: str, folder: Path) -> str:
    """What `sync` prints in a process of its own: MLflow keeps the database open in this one."""
    words = ("sync", "--tracking-uri", uri, "--work", str(folder))
    done = subprocess.run(
        [sys.executable, "cli.py", *words], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_sync_fills_the_database_that_is_in_the_place_of_the_old_one(
    sqlite_uri, store_template, tmp_path
):
    path, backup = Path(sqlite_uri.removeprefix("sqlite:///")), tmp_path / "backup.db"
    with Tracker(sqlite_uri, "cryossl", tmp_path / "journals").run(
        "fp", name="model", parent=None, tags=TAGS
    ) as run:
        run.metrics({"train/loss": 1.0}, step=0)
    shutil.copyfile(path, backup)
    recorded(sqlite_uri, tmp_path)
    whole = content(sqlite_uri)
    for place in (store_template, backup):
        path.unlink()
        shutil.copyfile(place, path)
        assert sync_elsewhere(sqlite_uri, tmp_path).startswith("sent ")
        shutil.copyfile(path, tmp_path / "mended.db")
        assert content(f"sqlite:///{tmp_path}/mended.db") == whole, place


def test_the_same_start_again_notices_and_mends_too(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    whole = content(sqlite_uri)
    changed(sqlite_uri, *DAMAGES["points in the middle"], *DAMAGES["params"])
    recorded(sqlite_uri, tmp_path)
    mended = content(sqlite_uri)
    assert (mended["points"], mended["model"][1]) == (whole["points"], whole["model"][1])


def test_what_a_user_deleted_or_changed_stays_as_he_wants_it(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path)
    client = MlflowClient(sqlite_uri)
    model = next(run for run in runs_of(sqlite_uri) if run.info.run_name == "model")
    parent = next(run for run in runs_of(sqlite_uri) if run.info.run_name == "experiment")
    client.set_tag(model.info.run_id, "mlflow.note.content", "my own words")
    client.delete_run(parent.info.run_id)
    done = call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    assert "has all that" in done.out
    (left,) = runs_of(sqlite_uri)
    assert left.data.tags["mlflow.note.content"] == "my own words"
    client.delete_run(model.info.run_id)
    assert "has all that" in call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path)).out
    assert runs_of(sqlite_uri) == []


def test_a_tag_with_an_older_value_of_ours_is_brought_up_to_date(sqlite_uri, tmp_path):
    run = Tracker(sqlite_uri, "cryossl", tmp_path / "journals").run(
        "fp", name="model", parent=None, tags=TAGS
    )
    run.tags({"cryossl.verdict": "unknown"})
    run.tags({"cryossl.verdict": "success"})
    run.finish()
    MlflowClient(sqlite_uri).set_tag(run.run_id, "cryossl.verdict", "unknown")
    call("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
    (stored,) = runs_of(sqlite_uri)
    assert stored.data.tags["cryossl.verdict"] == "success"
