from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from cryossl.errors import TrackingError
from cryossl.tracking import Tracker, read_iteration_runs, read_runs

TAGS = {"cryossl.kind": "iteration", "cryossl.strategy": "naive", "cryossl.ratio_percent": "5"}
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    # The thread that watches the machine has its own test.
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")


def runs_of(uri: str) -> list:
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def points(uri: str, run_id: str, key: str) -> list[tuple[int, float, int]]:
    return [(point.step, point.value, point.timestamp) for point in MlflowClient(uri).get_metric_history(run_id, key)]


def files(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, folder):
        found += files(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


def record(run, *, epochs: range) -> None:
    """What a training records; called again it is what a resumed training records again."""
    run.params({"split.ratio": 5.0, "loop.audit": False, "selection.strategies": ("naive", "class_balanced")})
    for epoch in epochs:
        run.metrics({"train/loss": 1.0 / (epoch + 1), "validation/f1": None if epoch % 2 else 0.5 + epoch / 100},
                    step=epoch)
    run.table([{"id": "a", "quality": 0.9}, {"id": "b", "quality": float("nan")}], "selection/iteration_1.json")
    run.image(np.full((40, 60, 3), 7, np.uint8), key="validation/worst", step=1)
    run.json({"best": 1}, "result.json")
    run.dataset([{"id": "train/a.jpg"}], name="labelled", digest="ab" * 32, context="training")
    run.describe("The student **won**.")


class TestOneStore:
    def test_what_is_written_is_read_back_by_mlflow_and_by_us(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
        with (tracker.invocation(name="experiment", tags={"cryossl.kind": "experiment"}) as parent,
              tracker.run("fp-1", name="naive 5% seed 0 iteration 1", parent=parent, tags=TAGS) as run):
            record(run, epochs=range(4))
            run.metrics({"test/f1": 0.625, "test/f1/100_17:x": 0.5}, step=1)
            run.metrics({"gone": float("nan"), "far": float("inf"), "none": None}, step=1)
        assert tracker.sync() == 0
        stored_parent, stored = runs_of(sqlite_uri)
        assert [stored_parent.info.status, stored.info.status] == ["FINISHED", "FINISHED"]
        assert stored.info.run_id == run.run_id
        assert stored.info.run_name == "naive 5% seed 0 iteration 1"
        assert stored.data.params == {"split.ratio": "5.0", "loop.audit": "false",
                                      "selection.strategies": "naive,class_balanced"}
        assert set(stored.data.metrics) == {"train/loss", "validation/f1", "test/f1", "test/f1/100_17_x"}
        assert [step for step, _, _ in points(sqlite_uri, run.run_id, "validation/f1")] == [0, 2]
        for tag in ("cryossl.host", "cryossl.pid", "cryossl.heartbeat", "cryossl.git_dirty", "mlflow.user"):
            assert stored.data.tags[tag]
        assert stored.data.tags["mlflow.parentRunId"] == stored_parent.info.run_id
        assert stored.data.tags["mlflow.note.content"] == "The student **won**."
        assert [(entry.dataset.name, entry.tags[0].value) for entry in stored.inputs.dataset_inputs] == [
            ("labelled", "training")]
        frame = read_iteration_runs(sqlite_uri, "cryossl", tags={"cryossl.strategy": "naive"})
        assert frame["test/f1"].tolist() == [0.625]
        assert frame["split.ratio"].tolist() == ["5.0"]
        assert frame["parent_id"].tolist() == [stored_parent.info.run_id]
        assert read_iteration_runs(sqlite_uri, "cryossl", tags={"cryossl.strategy": "no"}).empty
        assert read_runs(sqlite_uri, "cryossl", kind="experiment", tags={})["run_id"].tolist() == [parent.run_id]

    def test_artifacts_lie_beside_the_database_and_mlflow_reads_tables_and_pictures(
            self, sqlite_uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)  # load_table asks the global store
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(b"weights")
        with tracker.run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(1))
            run.file(weights, folder="model")
        client = MlflowClient(sqlite_uri)
        assert client.get_run(run.run_id).info.artifact_uri.startswith((tmp_path / "store" / "mlruns").as_uri())
        listed = files(client, run.run_id)
        assert [name for name in listed if not name.startswith("images/")] == [
            "datasets/labelled.json", "model/model.safetensors", "result.json", "selection/iteration_1.json"]
        table = client.load_table("1", "selection/iteration_1.json", [run.run_id])
        assert table["id"].tolist() == ["a", "b"]
        assert np.isnan(table["quality"].iloc[1])

    def test_our_pictures_have_the_names_that_mlflow_gives(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
        client = MlflowClient(sqlite_uri)
        picture = np.full((40, 60, 3), 7, np.uint8)
        run = tracker.run("fp", name="n", parent=None, tags=TAGS)
        run.image(picture, key="validation/worst", step=3)
        ours = files(client, run.run_id, "images")
        other = client.create_run("0")
        client.log_image(other.info.run_id, picture, key="validation/worst", step=3)
        theirs = files(client, other.info.run_id, "images")

        def shape(names):
            parts = [name.removesuffix(".png").removesuffix(".webp").split("+") for name in names]
            return [(part[:4], part[4].isdigit(), len(part[5]), part[6:]) for part in parts]
        assert shape(ours) == shape(theirs)
        assert "mlflow.loggedImages" in client.get_run(run.run_id).data.tags

    def test_a_resumed_run_is_the_same_run_with_each_point_file_and_picture_once(
            self, sqlite_uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
        for attempt in range(3):
            tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
            run = tracker.run("fp", name="n", parent=None, tags=TAGS)
            record(run, epochs=range(4 + attempt))
        run.finish()
        assert len(runs_of(sqlite_uri)) == 1
        assert [(step, value) for step, value, _ in points(sqlite_uri, run.run_id, "train/loss")] == [
            (step, 1.0 / (step + 1)) for step in range(6)]
        names = files(MlflowClient(sqlite_uri), run.run_id)
        assert sum(name.startswith("images/") for name in names) == 2
        table = MlflowClient(sqlite_uri).load_table("1", "selection/iteration_1.json", [run.run_id])
        assert len(table) == 2

    def test_without_its_journal_a_run_is_still_found_and_no_point_is_doubled(self, sqlite_uri, tmp_path):
        first = Tracker(sqlite_uri, "cryossl", tmp_path / "a").run("fp", name="n", parent=None, tags=TAGS)
        record(first, epochs=range(3))
        (old,) = runs_of(sqlite_uri)
        kept = points(sqlite_uri, old.info.run_id, "train/loss")
        with Tracker(sqlite_uri, "cryossl", tmp_path / "b").run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(5))
        assert run.run_id == old.info.run_id
        assert points(sqlite_uri, run.run_id, "train/loss")[:3] == kept
        assert [step for step, _, _ in points(sqlite_uri, run.run_id, "train/loss")] == list(range(5))
        assert [stored.info.status for stored in runs_of(sqlite_uri)] == ["FINISHED"]

    def test_the_same_journal_fills_another_store_completely(self, sqlite_uri, store_template, tmp_path):
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(3))
        other = tmp_path / "other.db"
        shutil.copyfile(store_template, other)
        again = Tracker(f"sqlite:///{other}", "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS)
        assert again.finished
        again.finish()
        (first,), (second,) = runs_of(sqlite_uri), runs_of(f"sqlite:///{other}")
        assert points(sqlite_uri, first.info.run_id, "train/loss") == points(
            f"sqlite:///{other}", second.info.run_id, "train/loss")
        assert second.info.status == "FINISHED"
        assert len(files(MlflowClient(f"sqlite:///{other}"), second.info.run_id)) == 5

    def test_a_run_deleted_while_it_is_written_comes_back_with_all_its_history(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        run = tracker.run("fp", name="n", parent=None, tags=TAGS)
        record(run, epochs=range(2))
        deleted = run.run_id
        MlflowClient(sqlite_uri).delete_run(deleted)
        with run:
            run.metrics({"train/loss": 0.1}, step=9)
        assert run.run_id != deleted
        assert [step for step, _, _ in points(sqlite_uri, run.run_id, "train/loss")] == [0, 1, 9]
        assert [stored.info.status for stored in runs_of(sqlite_uri)] == ["FINISHED"]


class TestStatus:
    @pytest.mark.parametrize(("error", "status"), [
        (ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(0), "FINISHED"),
        (SystemExit(2), "FAILED"), (SystemExit(143), "KILLED"), (GeneratorExit(), "KILLED")])
    def test_leaving_by_an_exception_ends_the_run_as_what_it_means(self, sqlite_uri, tmp_path, error, status):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with pytest.raises(type(error)), tracker.run("fp", name="n", parent=None, tags=TAGS):
            raise error
        assert [run.info.status for run in runs_of(sqlite_uri)] == [status]

    def test_a_failed_run_that_is_resumed_runs_and_then_finishes(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with pytest.raises(ValueError, match="x"), tracker.run("fp", name="n", parent=None, tags=TAGS):
            raise ValueError("x")
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS):
            assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING"]
        assert [run.info.status for run in runs_of(sqlite_uri)] == ["FINISHED"]

    def test_a_finished_run_asked_for_again_is_left_alone_until_something_new_is_recorded(self, sqlite_uri, tmp_path):
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(2))
        (before,) = runs_of(sqlite_uri)
        time.sleep(0.01)
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(2))
            assert run.finished
        (after,) = runs_of(sqlite_uri)
        assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
        assert after.data.tags == before.data.tags
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS) as run:
            run.metrics({"test/f1": 0.5}, step=1)
            assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING"]
        (last,) = runs_of(sqlite_uri)
        assert last.info.status == "FINISHED"
        assert last.info.end_time > before.info.end_time

    def test_resumed_runs_move_below_the_newest_invocation_and_the_killed_one_is_ended(self, sqlite_uri, tmp_path):
        code = ("import sys, os, signal\nfrom pathlib import Path\nfrom cryossl.tracking import Tracker\n"
                "t = Tracker(sys.argv[1], 'cryossl', Path(sys.argv[2]))\n"
                "p = t.invocation(name='experiment', tags={'cryossl.kind': 'experiment'})\n"
                "r = t.run('fp', name='n', parent=p, tags={'cryossl.kind': 'iteration'})\n"
                "r.metrics({'train/loss': 0.5}, step=1)\nos.kill(os.getpid(), signal.SIGKILL)\n")
        killed = subprocess.run([sys.executable, "-c", code, sqlite_uri, str(tmp_path / "j")], cwd=PROJECT, check=False)
        assert killed.returncode == -signal.SIGKILL
        old, child = runs_of(sqlite_uri)
        assert [old.info.status, child.info.status] == ["RUNNING", "RUNNING"]
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with (tracker.invocation(name="experiment", tags={"cryossl.kind": "experiment"}) as parent,
              tracker.run("fp", name="n", parent=parent, tags={"cryossl.kind": "iteration"}) as run):
            run.metrics({"train/loss": 0.7}, step=1)
        old, child, new = runs_of(sqlite_uri)
        assert [old.info.status, child.info.status, new.info.status] == ["KILLED", "FINISHED", "FINISHED"]
        assert child.data.tags["mlflow.parentRunId"] == new.info.run_id == parent.run_id
        assert old.data.tags["cryossl.superseded_by"] == new.info.run_id
        assert child.data.tags["cryossl.pid"] == str(os.getpid())
        assert [value for _, value, _ in points(sqlite_uri, run.run_id, "train/loss")] == [0.5]

    def test_the_run_of_a_living_process_is_not_ended(self, sqlite_uri, tmp_path):
        Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("alive", name="n", parent=None, tags=TAGS)
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j2").invocation(name="e", tags={}):
            pass
        assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING", "FINISHED"]


class TestEnvironment:
    def test_the_run_that_mlflow_run_made_is_adopted_with_its_experiment(self, sqlite_uri, tmp_path, monkeypatch):
        made = MlflowClient(sqlite_uri).create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
        tracker = Tracker("sqlite:///nowhere.db", "cryossl", tmp_path / "j")
        with tracker.invocation(name="e", tags={"cryossl.kind": "experiment"}) as parent:
            assert parent.run_id == made.info.run_id
            with tracker.run("fp", name="n", parent=parent, tags=TAGS) as run:
                run.metrics({"test/f1": 0.5}, step=0)
        stored = runs_of(sqlite_uri)
        assert {one.info.experiment_id for one in stored} == {"0"}
        assert {one.info.status for one in stored} == {"FINISHED"}
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            monkeypatch.delenv(name)
        assert read_iteration_runs("sqlite:///nowhere.db", "cryossl", tags={})["test/f1"].tolist() == [0.5]

    def test_an_invocation_without_mlflow_run_adopts_nothing(self, sqlite_uri, tmp_path):
        assert Tracker(sqlite_uri, "cryossl", tmp_path / "j").adopt() is None

    def test_a_run_id_of_another_store_is_one_clear_line(self, sqlite_uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        with pytest.raises(TrackingError, match="unset MLFLOW_RUN_ID"):
            Tracker(sqlite_uri, "cryossl", tmp_path / "j")

    def test_the_experiment_name_of_the_environment_comes_first(self, sqlite_uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
        Tracker(sqlite_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS).finish()
        client = MlflowClient(sqlite_uri)
        assert client.get_experiment_by_name("cryossl") is None
        assert client.get_experiment_by_name("from the environment") is not None

    def test_a_deleted_experiment_and_an_impossible_store_are_one_clear_line(self, sqlite_uri, tmp_path):
        client = MlflowClient(sqlite_uri)
        client.delete_experiment(client.create_experiment("cryossl"))
        with pytest.raises(TrackingError, match="is deleted"):
            Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with pytest.raises(TrackingError, match="cannot be opened"):
            Tracker("sqlite:////proc/no/such/folder/mlflow.db", "cryossl", tmp_path / "j")

    def test_reading_a_store_that_is_not_there_finds_nothing_and_makes_nothing(self, tmp_path):
        frame = read_iteration_runs(f"sqlite:///{tmp_path}/none.db", "cryossl", tags={})
        assert frame.empty
        assert list(frame.columns) == ["run_id", "parent_id", "status", "start_time"]
        assert list(tmp_path.iterdir()) == []

    def test_importing_the_module_does_not_import_mlflow(self):
        code = "import cryossl.tracking, sys; sys.exit('mlflow' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0

    def test_system_metrics_of_a_resumed_parent_are_never_doubled(self, sqlite_uri, tmp_path, monkeypatch):
        made = MlflowClient(sqlite_uri).create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
        for _ in range(2):
            with Tracker(sqlite_uri, "cryossl", tmp_path / "j").invocation(name="e", tags={}):
                time.sleep(1.5)
        steps = [step for step, _, _ in points(sqlite_uri, made.info.run_id, "system/cpu_utilization_percentage")]
        assert len(steps) > 2
        assert sorted(steps) == list(range(len(steps)))


class TestServer:
    def test_a_server_killed_and_restarted_in_the_middle_has_each_point_once(self, server, tmp_path):
        server.start()
        tracker = Tracker(server.uri, "cryossl", tmp_path / "j")
        run = tracker.run("fp", name="n", parent=None, tags=TAGS)
        for step in range(300):
            if step == 100:
                server.kill()
            if step == 200:
                server.start()
            run.metrics({f"train/{name}": step / 8 for name in "abcd"}, step=step)
        run.json({"ok": True}, "result.json")
        run.finish()
        assert tracker.sync() == 0
        for name in "abcd":
            history = points(server.uri, run.run_id, f"train/{name}")
            assert [(step, value) for step, value, _ in history] == [(step, step / 8) for step in range(300)]
        (stored,) = runs_of(server.uri)
        assert stored.info.status == "FINISHED"
        assert files(MlflowClient(server.uri), run.run_id) == ["result.json"]

    def test_a_server_that_is_away_from_start_to_end_costs_little_and_is_filled_by_a_later_sync(
            self, server, tmp_path, caplog):
        begun = time.monotonic()
        tracker = Tracker(server.uri, "cryossl", tmp_path / "j")
        with (tracker.invocation(name="e", tags={"cryossl.kind": "experiment"}) as parent,
              tracker.run("fp", name="n", parent=parent, tags=TAGS) as run):
            record(run, epochs=range(50))
        assert time.monotonic() - begun < 30
        assert run.run_id is None
        assert tracker.away
        assert sum("is away" in line.message for line in caplog.records) == 1
        server.start()
        later = Tracker(server.uri, "cryossl", tmp_path / "j")
        assert later.sync(everything=True) == 0
        by_name = {stored.info.run_name: stored for stored in runs_of(server.uri)}
        assert {stored.info.status for stored in by_name.values()} == {"FINISHED"}
        assert by_name["n"].data.tags["mlflow.parentRunId"] == by_name["e"].info.run_id
        assert [step for step, _, _ in points(server.uri, by_name["n"].info.run_id, "train/loss")] == list(range(50))
        assert len(files(MlflowClient(server.uri), by_name["n"].info.run_id)) == 5


def _open_fresh(uri: str, journals: Path, name: str) -> None:
    with Tracker(uri, "cryossl", journals).run("shared", name="n", parent=None, tags=TAGS) as run:
        for step in range(5):
            run.metrics({name: 1.0, "same": 2.0}, step=step)


def test_four_processes_open_a_fresh_sqlite_store_and_make_one_run_between_them(tmp_path):
    uri = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_open_fresh, args=(uri, tmp_path / "j", f"own{index}")) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    (run,) = runs_of(uri)
    assert run.info.status == "FINISHED"
    for name in ("same", "own0", "own1", "own2", "own3"):
        assert [step for step, _, _ in points(uri, run.info.run_id, name)] == list(range(5))


@pytest.fixture
def postgres_uri(tmp_path):
    """A Postgres of this test's own, on a socket-less free port; skipped where no server is installed."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (binaries[-1] if binaries else None)
    if initdb is None:
        pytest.skip("no Postgres server is installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    import getpass
    import socket
    folder = Path(initdb).resolve().parent
    data = tmp_path / "pg"
    data.mkdir()
    as_user = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        if getpass.getuser() != "postgres" and shutil.which("runuser") is None:
            pytest.skip("Postgres cannot run as root here")
        for path in (tmp_path, *tmp_path.parents):
            if path.stat().st_uid == 0 and str(path).startswith(str(Path("/tmp/"))) and path != Path("/tmp"):
                path.chmod(0o755)
        shutil.chown(data, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run([*as_user, str(folder / "initdb"), "-D", str(data), "-U", "cryossl", "--auth=trust", "--no-sync"],
                   check=True, capture_output=True, cwd="/")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run([*as_user, str(folder / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(data / "log"), "-w",
                    "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    yield f"postgresql://cryossl:secret@127.0.0.1:{port}/postgres"
    subprocess.run([*as_user, str(folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], check=True,
                   capture_output=True, cwd="/")


def test_postgres_is_resumed_like_sqlite_and_its_password_is_told_to_nobody(postgres_uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for epochs in (range(3), range(5)):
        run = Tracker(postgres_uri, "cryossl", tmp_path / "j").run("fp", name="n", parent=None, tags=TAGS)
        run.metrics({"test/f1": 0.5}, step=1)
        for epoch in epochs:
            run.metrics({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
    run.finish()
    uri = postgres_uri.replace("postgresql://", "postgresql+psycopg://")
    (stored,) = runs_of(uri)
    assert stored.info.status == "FINISHED"
    assert [step for step, _, _ in points(uri, run.run_id, "train/loss")] == list(range(5))
    assert read_iteration_runs(postgres_uri, "cryossl", tags={})["test/f1"].tolist() == [0.5]
    recorded = "".join(path.read_text() for path in (tmp_path / "j").rglob("*.json*"))
    assert "secret" not in recorded
    assert json.dumps(stored.data.tags).count("secret") == 0


def test_a_database_that_is_away_is_found_out_at_once(tmp_path):
    begun = time.monotonic()
    tracker = Tracker("postgresql://nobody:secret@127.0.0.1:1/none", "cryossl", tmp_path / "j")
    assert "no database at 127.0.0.1:1" in tracker.away
    assert "secret" not in tracker.away
    assert time.monotonic() - begun < 5
