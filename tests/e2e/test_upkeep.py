"""`sync`, `reap`, `doctor --fix` and `strict_tracking` on real stores, with real kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from recorded_runs import TAGS, points, record, runs_of
from typed_commands import call

from cryossl.tracking.tracker import Tracker

PROJECT = Path(__file__).resolve().parents[2]
KILLED = (
    "import os, signal, sys\nfrom pathlib import Path\nfrom cryossl.tracking.tracker import "
    "Tracker\n"
    "tracker = Tracker(sys.argv[1], 'cryossl', Path(sys.argv[2]))\n"
    "tracker.run('gone', name='gone', parent=None, tags={'cryossl.kind': 'arm'})\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
)

pytestmark = pytest.mark.usefixtures("unwatched")


def places(uri: str, folder: Path) -> tuple[str, ...]:
    return "--tracking-uri", uri, "--work", str(folder)


@pytest.fixture
def abandoned(sqlite_uri, tmp_path):
    """A store with the run of a killed process and that of this one, both shown as RUNNING."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, sqlite_uri, str(tmp_path / "journals")],
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    alive = Tracker(sqlite_uri, "cryossl", tmp_path / "journals").run(
        "alive", name="alive", parent=None, tags=TAGS
    )
    assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING", "RUNNING"]
    yield sqlite_uri
    alive.finish()


def statuses(uri: str) -> dict[str, str]:
    return {run.info.run_name: run.info.status for run in runs_of(uri)}


def test_sync_fills_a_store_that_was_away_and_says_what_is_left_while_it_is(server, tmp_path):
    with Tracker(server.uri, "cryossl", tmp_path / "journals").run(
        "fp", name="n", parent=None, tags=TAGS
    ) as run:
        record(run, epochs=range(20))
    away = call("sync", *places(server.uri, tmp_path))
    assert (away.code, away.out, away.err.count("\n")) == (3, "", 1)
    assert f"{server.uri} lacks " in away.err
    server.start()
    filled = call("sync", *places(server.uri, tmp_path))
    assert (filled.code, filled.err) == (0, "")
    assert filled.out.startswith("sent ")
    (stored,) = runs_of(server.uri)
    assert [step for step, _, _ in points(server.uri, stored.info.run_id, "train/loss")] == list(
        range(20)
    )
    assert "has all that" in call("sync", *places(server.uri, tmp_path)).out


def test_reap_ends_the_run_of_a_killed_process_and_leaves_that_of_a_living_one(abandoned, tmp_path):
    done = call("reap", *places(abandoned, tmp_path))
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["ended", "gone"],
        ["left", "alive"],
    ]
    assert statuses(abandoned) == {"gone": "KILLED", "alive": "RUNNING"}
    assert [
        line.split()[:2] for line in call("reap", *places(abandoned, tmp_path)).out.splitlines()
    ] == [["left", "alive"]]


def test_a_process_killed_right_after_its_run_was_made_leaves_one_that_can_be_ended(
    sqlite_uri, tmp_path
):
    """Who writes a run must be known from its first moment: nobody could end it otherwise."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cryossl.tracking.tracker import "
        "Tracker\n"
        "def watch(frame, event, _):\n"
        "    code = frame.f_code\n"
        "    if event == 'return' and code.co_name == 'create' and "
        "code.co_filename.endswith('mlflow_store.py'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.setprofile(watch)\n"
        "Tracker(sys.argv[1], 'cryossl', Path(sys.argv[2])).run('new', name='new', parent=None, "
        "tags={})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sqlite_uri, str(tmp_path / "journals")],
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert statuses(sqlite_uri) == {"new": "RUNNING"}
    assert call("reap", *places(sqlite_uri, tmp_path)).out.startswith("ended new")
    assert statuses(sqlite_uri) == {"new": "KILLED"}


def test_doctor_with_fix_ends_it_too_and_its_json_stays_json(abandoned, tmp_path):
    done = call("doctor", "--fix", "--json", *places(abandoned, tmp_path))
    assert {check["name"] for check in json.loads(done.out)} >= {"tracking", "disk"}
    assert "ended gone" in done.err
    assert statuses(abandoned)["gone"] == "KILLED"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--experiment", "typo"), "nothing to end: there is no experiment 'typo' in "),
        (
            ("--tracking-uri", "sqlite:///{folder}/new.db"),
            "nothing to end: there is no tracking store yet",
        ),
    ],
)
def test_doctor_with_fix_tells_that_there_is_nothing_to_end_after_its_checks(
    options, told, sqlite_uri, tmp_path
):
    done = call(
        "doctor",
        "--fix",
        *places(sqlite_uri, tmp_path),
        *(word.format(folder=tmp_path) for word in options),
    )
    assert done.out.splitlines()[0].startswith("ok    machine")
    assert done.out.splitlines()[-1].startswith(told)
    assert "there is no" not in done.err
    assert {one.name for one in MlflowClient(sqlite_uri).search_experiments()} == {"Default"}


def test_doctor_with_fix_shows_its_checks_of_a_damaged_store_too(sqlite_uri, tmp_path):
    path = Path(sqlite_uri.removeprefix("sqlite:///"))
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8000)
    done = call("doctor", "--fix", *places(sqlite_uri, tmp_path))
    assert done.code == 2
    assert done.out.startswith("ok    machine")
    assert "is damaged" in done.out
    assert "checks failed: " in done.err
    assert "tracking; the lines above say how" in done.err


def test_reap_without_a_store_is_one_line(server, tmp_path):
    done = call("reap", *places(server.uri, tmp_path))
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "cannot be read" in done.err


@pytest.mark.parametrize("words", [("sync",), ("reap",)], ids=" ".join)
def test_an_experiment_that_is_not_there_is_refused_with_those_that_are_and_none_is_made(
    words, sqlite_uri, tmp_path
):
    MlflowClient(sqlite_uri).create_experiment("cryossl")
    done = call(*words, *places(sqlite_uri, tmp_path), "--experiment", "typo")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "there is no experiment 'typo' in " in done.err
    assert "some are: cryossl, Default" in done.err
    assert {one.name for one in MlflowClient(sqlite_uri).search_experiments()} == {
        "cryossl",
        "Default",
    }


@pytest.mark.parametrize("identifier", ["777", "nonsense", "deleted"])
@pytest.mark.parametrize("words", [("sync",), ("reap",)], ids=" ".join)
def test_an_id_that_no_experiment_has_is_refused(
    words, identifier, sqlite_uri, monkeypatch, tmp_path
):
    client = MlflowClient(sqlite_uri)
    if identifier == "deleted":
        identifier = client.create_experiment("gone")
        client.delete_experiment(identifier)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", identifier)
    done = call(*words, *places(sqlite_uri, tmp_path))
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"there is no experiment with id '{identifier}' in " in done.err
    assert "unset MLFLOW_EXPERIMENT_ID" in done.err


def test_sync_says_of_a_server_that_is_away_that_it_is_not_there_even_with_nothing_to_send(
    server, tmp_path
):
    done = call("sync", *places(server.uri, tmp_path))
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert "does not answer (no server there: " in done.err


def test_reap_makes_no_experiment_for_journals_either(server, tmp_path):
    Tracker(server.uri, "cryossl", tmp_path / "journals").run(
        "fp", name="n", parent=None, tags=TAGS
    ).finish()
    server.start()
    refused = call("reap", *places(server.uri, tmp_path))
    assert (refused.code, "; `cryossl sync` makes it" in refused.err) == (2, True)
    doctor = call("doctor", "--fix", *places(server.uri, tmp_path))
    assert f"{server.uri} answers\n" in doctor.out
    assert doctor.out.splitlines()[-1].startswith(
        "nothing to end: there is no experiment 'cryossl' in "
    )
    assert doctor.out.splitlines()[-1].endswith(
        "; `cryossl sync` makes it and sends what the journals hold for it"
    )
    assert [one.name for one in MlflowClient(server.uri).search_experiments()] == ["Default"]


def test_a_backlog_is_a_failure_only_where_that_is_asked_for(new_lab, server):
    lab = new_lab()
    options = ("--tracking-uri", server.uri, "--strategies", "naive")
    lax = lab.run(*options)
    assert lax.code == 0
    assert "the tracking store lacks" in lax.out
    strict = lab.run(*options, "--strict-tracking", "true")
    assert strict.code == 3
    assert "the run has finished, but the tracking store lacks" in strict.err
    assert lab.file("naive_pseudolabel_ratio_30.json")["seeds"]["0"]["summary"]["f1"] is not None
    server.start()
    assert call("sync", *places(server.uri, lab.work)).code == 0
    assert lab.run(*options, "--strict-tracking", "true").code == 0
    assert statuses(server.uri)["naive 30% s0"] == "FINISHED"


def test_a_sweep_with_nothing_left_to_do_sends_what_the_store_has_missed(new_lab, server):
    lab = new_lab()
    at = lab.tiny.index("--ratio")
    options = (
        *lab.places(),
        *lab.tiny[:at],
        *lab.tiny[at + 2 :],
        "--ratios",
        "30",
        "--seeds",
        "1",
        "--strategies",
        "naive",
        "--tracking-uri",
        server.uri,
    )
    first = call("sweep", *options)
    assert first.code == 0
    assert "1 of 1 cells have finished" in first.out
    assert "the tracking store lacks" in first.out
    server.start()
    second = call("sweep", *options)
    assert second.code == 0
    assert "1 cell, 1 of them finished" in second.out
    assert "the tracking store lacks" not in second.out
    assert statuses(server.uri)["naive 30% s0"] == "FINISHED"
    assert "Naive against class-balanced" in second.out
