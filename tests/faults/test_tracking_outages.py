"""A tracking server that dies, lies, stalls or is never there: no point is lost and none is there twice."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing

import pytest
from light_server import Server
from mlflow import MlflowClient
from recorded_runs import TAGS, points, runs_of

from cryossl.tracking.tracker import Tracker
from faults.apart import apart
from faults.fault_proxy import proxied

NAMES = ("loss", "f1", "recall", "precision")
ROUNDS_TO_HEAL = 3


@pytest.fixture(scope="module")
def server(store_template, tmp_path_factory):
    """A real server, started once for all tests of this file."""
    folder = tmp_path_factory.mktemp("server")
    database = folder / "mlflow.db"
    database.write_bytes(store_template.read_bytes())
    made = Server(f"sqlite:///{database}", folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    """A client that gives up quickly, so that a test sees many attempts; and no thread that watches the machine."""
    for name, value in {"MAX_RETRIES": "1", "BACKOFF_FACTOR": "0", "TIMEOUT": "1"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")


def only_run(uri: str, key: str):
    """The run of a fingerprint, which must be there once."""
    (run,) = [one for one in runs_of(uri) if one.data.tags["cryossl.fingerprint"] == key]
    return run


def wrong_points(uri: str, key: str, steps: int) -> tuple[int, int]:
    """How many of the points of a run are lost, and how many are there twice or are not what was recorded."""
    run = only_run(uri, key)
    lost = doubled = 0
    for number, name in enumerate(NAMES):
        found = Counter(
            (step, value) for step, value, _ in points(uri, run.info.run_id, f"train/{name}")
        )
        expected = {(step, (step + number) / 8) for step in range(steps)}
        lost += len(expected - found.keys())
        doubled += sum(found.values()) - len(expected & found.keys())
    assert run.info.status == "FINISHED"
    return lost, doubled


def recorded(tracker: Tracker, key: str, steps: int, *, meanwhile=None) -> None:
    """A run of many points; every tenth step insists on sending, as ends of runs do."""
    run = tracker.run(key, name=key, parent=None, tags=TAGS)
    for step in range(steps):
        if meanwhile is not None:
            meanwhile(step)
        run.metrics(
            {f"train/{name}": (step + number) / 8 for number, name in enumerate(NAMES)}, step=step
        )
        if step % 10 == 9:
            tracker.sync()
    run.json({"ok": True}, "result.json")
    run.finish()


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_server_behind_faults_has_each_point_once_in_the_end(
    server, size, note, tmp_path, percent
):
    steps = size(bounded=50, long=300)
    key = f"faults-{percent}"
    with proxied(server.port, seed=percent, stall_seconds=size(bounded=2, long=30)) as proxy:
        proxy.share = percent / 100
        tracker = Tracker(proxy.uri, "cryossl", tmp_path / "journals")
        recorded(tracker, key, steps)
        proxy.share = 0.0
        for _ in range(ROUNDS_TO_HEAL):
            left = tracker.sync()
    lost, doubled = wrong_points(server.uri, key, steps)
    met = ", ".join(f"{kind} {count}" for kind, count in sorted(proxy.met.items()))
    note(
        f"faults in {percent}% of the requests to the tracking server",
        ran=f"{steps * len(NAMES):,} points through a proxy in front of a real server, "
        f"{proxy.requests} requests ({met})",
        found=f"{lost} lost, {doubled} doubled",
        bar="0 lost, 0 doubled of 1,000 points or more",
    )
    assert (left, lost, doubled) == (0, 0, 0)
    assert proxy.met.total() > 0
    assert [
        entry.path
        for entry in MlflowClient(server.uri).list_artifacts(only_run(server.uri, key).info.run_id)
    ] == ["result.json"]


def test_an_answer_that_is_lost_after_the_work_makes_no_second_run(server, tmp_path):
    with proxied(server.port) as proxy:
        proxy.share, proxy.kinds, proxy.only, proxy.most = (
            1.0,
            ("reset after the work",),
            "runs/create",
            1,
        )
        tracker = Tracker(proxy.uri, "cryossl", tmp_path / "journals")
        recorded(tracker, "created-twice", 5)
        tracker.sync()
        assert proxy.met.total() == 1
    assert wrong_points(server.uri, "created-twice", 5) == (0, 0)


def test_a_server_killed_and_restarted_again_and_again_has_each_point_once(
    server, size, note, tmp_path
):
    steps, kills = size(bounded=250, long=500), size(bounded=1, long=10)
    every = steps // (kills + 1)

    def kill_and_restart(step: int) -> None:
        if step and step % every == 0 and step // every <= kills:
            server.kill()
        if step % every == every // 2 and step > every:
            server.start()

    tracker = Tracker(server.uri, "cryossl", tmp_path / "journals")
    recorded(tracker, "killed", steps, meanwhile=kill_and_restart)
    if not is_up(server):
        server.start()
    left = tracker.sync()
    lost, doubled = wrong_points(server.uri, "killed", steps)
    note(
        "MLflow server killed and restarted during a run",
        ran=f"{steps * len(NAMES):,} points, {kills} times kill -9 and restart",
        found=f"{lost} lost, {doubled} doubled",
        bar="0 lost, 0 doubled of 1,000 points or more",
    )
    assert (left, lost, doubled) == (0, 0, 0)


def test_a_server_that_comes_back_as_an_older_one_is_mended_by_the_run_itself(
    server, note, tmp_path
):
    steps, key = 40, "put back"
    with proxied(server.port) as proxy:
        tracker = Tracker(proxy.uri, "cryossl", tmp_path / "journals")

        def put_back(step: int) -> None:
            proxy.share = 1.0 if 20 <= step < 30 else 0.0
            if step == 25:
                with closing(sqlite3.connect(server.folder / "mlflow.db")) as store, store:
                    run = only_run(server.uri, key).info.run_id
                    for table in ("metrics", "latest_metrics"):
                        store.execute(
                            f"DELETE FROM {table} WHERE run_uuid = ? AND step > 10", (run,)
                        )

        recorded(tracker, key, steps, meanwhile=put_back)
        left = tracker.sync()
    lost, doubled = wrong_points(server.uri, key, steps)
    note(
        "tracking store put back to an older state during an outage",
        ran=f"{steps * len(NAMES)} points, of which the store lost {9 * len(NAMES)} that it had "
        "acknowledged",
        found=f"{lost} lost, {doubled} doubled",
        bar="0 lost, 0 doubled",
    )
    assert (left, lost, doubled) == (0, 0, 0)


def is_up(server: Server) -> bool:
    try:
        runs_of(server.uri)
    except Exception:  # MLflow's client raises many kinds
        return False
    return True


@pytest.mark.parametrize("kind", ["away", "silent"])
def test_a_run_whose_server_is_away_from_start_to_end_is_well_and_sync_completes_it(
    kind, size, note, bench_folder, monkeypatch, tmp_path
):
    for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
    found = apart(
        "server_away", bench_folder, kind, *["again"][: size(bounded=0, long=1)], folder=tmp_path
    )
    note(
        f"server {kind} from start to end",
        ran="a whole run of naive and class_balanced, then `cryossl sync`",
        found=f"exit code {found['code']} with a warning, {found['extra_seconds']:g} s of extra "
        "delay; sync sent all "
        f"{found['points']:,} points, {len(found['wrong'])} differ from the undisturbed run",
        bar="exit 0, within 15 s of extra delay, sync completes it",
    )
    assert found["wrong"] == []
    assert (found["code"], found["sync"], found["warned"], found["lacks"]) == (0, [3, 0], 1, 1), (
        found["said"]
    )
    assert found["extra_seconds"] < 120


def test_a_server_that_falls_silent_is_waited_for_once_however_many_runs_end(
    server, monkeypatch, tmp_path
):
    """Their ends insist, but not on a store whose silence has cost more than five seconds; the last word is a short probe."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with proxied(server.port, stall_seconds=30) as proxy:
        tracker = Tracker(proxy.uri, "cryossl", tmp_path / "journals")
        runs = [
            tracker.run(f"silence {number}", name="silence", parent=None, tags=TAGS)
            for number in range(4)
        ]
        proxy.share, proxy.kinds = 1.0, ("stall",)
        for run in runs:
            run.metrics({f"train/{name}": number / 8 for number, name in enumerate(NAMES)}, step=0)
            run.finish()
        assert tracker.sync() > 0
        assert proxy.met["stall"] == 2 + 1  # a call with one more try, and the probe
        proxy.share = 0.0
        assert tracker.sync() == 0
    for run in runs:
        assert wrong_points(server.uri, run.key, 1) == (0, 0)


def test_training_goes_on_when_the_server_comes_back_without_the_experiment(server, tmp_path):
    client = MlflowClient(server.uri)
    client.delete_experiment(client.create_experiment("gone"))
    with proxied(server.port) as proxy:
        proxy.share, proxy.kinds = 1.0, ("500",)
        tracker = Tracker(proxy.uri, "gone", tmp_path / "journals")
        run = tracker.run("lost", name="lost", parent=None, tags=TAGS)
        proxy.share = 0.0
        run.finish()
        assert tracker.sync() > 0
        assert "experiment 'gone' is deleted" in tracker.away


def test_an_outage_slows_a_training_by_a_twentieth_at_most(
    request, size, note, monkeypatch, tmp_path
):
    """With the settings that users have: three tries of ten seconds each, then the store is left alone 39 times as long."""
    seconds = size(bounded=0, long=900)
    if not seconds:
        pytest.skip("a quarter of an hour: `make faults` runs it")
    server = request.getfixturevalue("server")
    for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
    with proxied(server.port, stall_seconds=30) as proxy:
        tracker = Tracker(proxy.uri, "cryossl", tmp_path / "journals")
        run = tracker.run("stalls", name="stalls", parent=None, tags=TAGS)
        proxy.share, proxy.kinds = 0.9, ("stall",)
        began, waits, step = time.monotonic(), [], 0
        while (whole := time.monotonic() - began) < seconds:
            time.sleep(0.2)
            called = time.monotonic()
            run.metrics({"train/loss": 1.0}, step=step)
            waits.append(time.monotonic() - called)
            step += 1
        proxy.share = 0.0
        run.finish()
    waited = sum(wait for wait in waits if wait > 1)  # a journal's line takes milliseconds
    note(
        "30 s stalls in 90% of the requests",
        ran=f"{step:,} steps of 0.2 s, {proxy.met.total()} stalls",
        found=f"{100 * waited / whole:.1f}% of {whole:.0f} s spent waiting, in "
        f"{sum(wait > 1 for wait in waits)} calls",
        bar="training slowed by at most 5%",
    )
    assert waited / whole <= 0.05
