"""The tracked run of `pick`: what it holds, that an outage costs nothing, and that no table takes it for an arm."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from picked_micrographs import collection
from typed_commands import Done, call
from untrained_models import write_model

from cryossl.tracking.reader import Artifacts, read_runs


@pytest.fixture
def place(tmp_path, unwatched) -> Path:
    collection(tmp_path / "mics", names=("a", "b", "c"))
    write_model(tmp_path / "model.safetensors")
    return tmp_path


def picked(place: Path, uri: str, *options: str, to: str = "picks") -> Done:
    return call(
        *("pick", str(place / "mics"), "--to", str(place / to)),
        *("--model", str(place / "model.safetensors"), "--format", "csv"),
        *("--tracking-uri", uri, "--work", str(place / "work"), *options),
    )


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


def test_what_is_asked_again_after_a_kill_goes_on_in_its_run(place, sqlite_uri):
    """The state that a kill leaves: a run that is RUNNING, and the file that names it."""
    assert picked(place, sqlite_uri, "--threshold", "0.2").code == 0
    (first,) = read_runs(sqlite_uri, "cryossl", kind="pick", tags={}).to_dict("records")
    asked = {"run": first["cryossl.fingerprint"], "asked": "something else"}
    (place / "picks" / ".unfinished-run.json").write_text(json.dumps(asked))
    assert picked(place, sqlite_uri, "--threshold", "0.3").code == 0
    assert len(read_runs(sqlite_uri, "cryossl", kind="pick", tags={})) == 2
    assert not (place / "picks" / ".unfinished-run.json").exists()


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
