"""The tracked run of `pick`: what it holds, that an outage costs nothing, and that no table takes it for an arm."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from picked_micrographs import collection
from typed_commands import Done, call
from untrained_models import write_model

from cryossl.picking.finding import KEPT
from cryossl.tracking.reader import Artifacts, read_runs

PROJECT = Path(__file__).resolve().parents[2]
NAMES = tuple(f"m{number:02d}" for number in range(24))


@pytest.fixture
def place(tmp_path, unwatched) -> Path:
    collection(tmp_path / "mics", names=("a", "b", "c"))
    write_model(tmp_path / "model.safetensors")
    return tmp_path


def words(place: Path, uri: str, *options: str, to: str = "picks") -> list[str]:
    return [
        *("pick", str(place / "mics"), "--to", str(place / to)),
        *("--model", str(place / "model.safetensors"), "--format", "csv"),
        *("--tracking-uri", uri, "--work", str(place / "work"), *options),
    ]


def picked(place: Path, uri: str, *options: str, to: str = "picks") -> Done:
    return call(*words(place, uri, *options, to=to))


def runs_of(uri: str) -> list[dict]:
    return read_runs(uri, "cryossl", kind="pick", tags={}).to_dict("records")


def killed_while_picking(place: Path, uri: str, *options: str) -> None:
    """Start a `pick`, and kill it when its first result is there."""
    process = subprocess.Popen(
        [sys.executable, "cli.py", *words(place, uri, *options)],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 240
    while not list((place / "picks" / KEPT).rglob("*.npz")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert len(list((place / "picks" / KEPT).rglob("*.npz"))) < len(NAMES)


def test_the_run_holds_what_was_asked_and_what_came_of_it(place, sqlite_uri):
    (place / "mics" / "torn.mrc").write_bytes(b"MAP " + bytes(2000))
    torn = str(place / "mics" / "torn.mrc")
    done = picked(place, sqlite_uri, torn, "--min-spacing", "0.5")
    assert done.code == 4, done.err
    (run,) = read_runs(sqlite_uri, "cryossl", kind="pick", tags={}).to_dict("records")
    counts = json.loads((place / "picks" / "counts.json").read_text())
    numbers = sorted(row["picks"] for row in counts)
    assert run["status"] == "FINISHED"
    assert run["cryossl.model"] == str(place / "model.safetensors")
    assert run["cryossl.model_fingerprint"] == "none-supervised-iteration-0"
    assert (run["pick.min_spacing"], run["pick.formats"], run["pick.flip_y"]) == (
        "0.5",
        "csv",
        "false",
    )
    assert (run["pick/micrographs"], run["pick/failed"]) == (3, 1)
    assert run["pick/picks"] == sum(numbers) > 0
    assert (run["pick/mean"], run["pick/median"]) == (sum(numbers) / 3, numbers[1])
    artifacts = Artifacts(sqlite_uri, "cryossl")
    table = artifacts.json([run["run_id"]], "micrographs.json")[run["run_id"]]
    assert table["columns"][:2] == ["micrograph", "picks"]
    assert sorted(row[1] for row in table["data"]) == numbers
    assert json.loads(run["mlflow.loggedArtifacts"])[0] == {
        "path": "micrographs.json",
        "type": "table",
    }
    assert artifacts.copy(run["run_id"], "picks.html", place / "copy.html")
    assert (place / "copy.html").read_bytes() == (place / "picks" / "picks.html").read_bytes()


def test_no_command_stumbles_over_it(place, sqlite_uri):
    assert picked(place, sqlite_uri).code == 0
    options = ("--tracking-uri", sqlite_uri)
    assert "no run is shown as RUNNING" in call("reap", *options).out
    assert call("sync", *options, "--work", str(place / "work")).code == 0
    assert "the experiment has no run" in call("runs", *options).out
    nothing = call("compare", *options)
    assert (nothing.code, nothing.err.count("nothing to compare")) == (2, 1)


def test_a_store_that_is_away_costs_no_pick_and_gets_the_run_later(place, server):
    began = time.monotonic()
    done = picked(place, server.uri)
    assert done.code == 0, done.err
    assert time.monotonic() - began < 60
    assert "the tracking store lacks" in done.out
    assert (place / "picks" / "picks.csv").is_file()
    server.start()
    assert call("sync", "--tracking-uri", server.uri, "--work", str(place / "work")).code == 0
    (run,) = read_runs(server.uri, "cryossl", kind="pick", tags={}).to_dict("records")
    assert (run["status"], run["pick/micrographs"]) == ("FINISHED", 3)


def test_without_tracking_no_store_is_made(place):
    store = place / "other.db"
    assert picked(place, f"sqlite:///{store}", "--no-track").code == 0
    assert not store.exists()
    assert not (place / "work").exists()


def test_a_pick_that_was_killed_goes_on_in_its_run_if_the_same_is_asked_again(place, sqlite_uri):
    write_model(place / "model.safetensors", views=8)
    collection(place / "mics", names=NAMES)
    killed_while_picking(place, sqlite_uri, "--threshold", "0.2")
    (left,) = runs_of(sqlite_uri)
    assert left["status"] == "RUNNING"
    again = picked(place, sqlite_uri, "--threshold", "0.2")
    assert again.code == 0, again.err
    (run,) = runs_of(sqlite_uri)
    assert (run["run_id"], run["status"]) == (left["run_id"], "FINISHED")
    assert run["pick/micrographs"] == len(list((place / "mics").iterdir()))
    # The next start is a new invocation, though the same is asked.
    assert picked(place, sqlite_uri, "--threshold", "0.2").code == 0
    assert len(runs_of(sqlite_uri)) == 2


def test_a_pick_that_asks_for_something_else_after_a_kill_has_a_run_of_its_own(place, sqlite_uri):
    write_model(place / "model.safetensors", views=8)
    collection(place / "mics", names=NAMES)
    killed_while_picking(place, sqlite_uri, "--threshold", "0.2")
    assert picked(place, sqlite_uri, "--threshold", "0.3").code == 0
    states = {run["pick.threshold"]: run["status"] for run in runs_of(sqlite_uri)}
    assert states == {"0.2": "KILLED", "0.3": "FINISHED"}


def test_a_model_of_a_tracked_run_is_named_by_the_id_of_that_run(lab, tmp_path):
    done = lab.run("--strategies", "naive", "--max-iterations", "0")
    assert done.code == 0, done.err
    uri = f"sqlite:///{lab.database}"
    done = call(
        *("pick", str(lab.data / "test"), "--to", str(tmp_path / "p"), "--format", "csv"),
        *("--tracking-uri", uri, "--work", str(lab.work)),
    )
    assert done.code == 0, done.err
    (run,) = read_runs(uri, "cryossl", kind="pick", tags={}).to_dict("records")
    with closing(sqlite3.connect(lab.database)) as database:
        ((kind,),) = database.execute(
            "SELECT value FROM tags WHERE key = 'cryossl.kind' AND run_uuid = ?",
            (run["cryossl.model_run_id"],),
        ).fetchall()
    assert kind == "iteration"
    compared = call("compare", "--tracking-uri", uri)
    assert "pick" not in compared.out
