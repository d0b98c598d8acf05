"""One store: what is written is read back, once, also by a run that is resumed; and how a run ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mlflow import MlflowClient
from recorded_runs import PROJECT, TAGS, files, points, record, runs_of

from cryossl.tracking.reader import read_runs
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")


class TestOneStore:
    def test_what_is_written_is_read_back_by_mlflow_and_by_us(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
        with (
            tracker.invocation(name="experiment", tags={"cryossl.kind": "experiment"}) as parent,
            tracker.run(
                "fp-1", name="naive 5% seed 0 iteration 1", parent=parent, tags=TAGS
            ) as run,
        ):
            record(run, epochs=range(4))
            run.metrics({"test/f1": 0.625, "test/f1/100_17:x": 0.5}, step=1)
            run.metrics({"gone": float("nan"), "far": float("inf"), "none": None}, step=1)
        assert tracker.sync() == 0
        stored_parent, stored = runs_of(sqlite_uri)
        assert [stored_parent.info.status, stored.info.status] == ["FINISHED", "FINISHED"]
        assert stored.info.run_id == run.run_id
        assert stored.info.run_name == "naive 5% seed 0 iteration 1"
        assert stored.data.params == {
            "split.ratio": "5.0",
            "loop.audit": "false",
            "selection.strategies": "naive,class_balanced",
        }
        assert set(stored.data.metrics) == {
            "train/loss",
            "validation/f1",
            "test/f1",
            "test/f1/100_17_x",
        }
        assert [step for step, _, _ in points(sqlite_uri, run.run_id, "validation/f1")] == [0, 2]
        for tag in (
            "process.host",
            "process.pid",
            "process.heartbeat",
            "cryossl.git_dirty",
            "mlflow.user",
        ):
            assert stored.data.tags[tag]
        assert stored.data.tags["mlflow.parentRunId"] == stored_parent.info.run_id
        assert stored.data.tags["mlflow.note.content"] == "The student **won**."
        assert [
            (entry.dataset.name, entry.tags[0].value) for entry in stored.inputs.dataset_inputs
        ] == [("labelled", "training")]
        frame = read_runs(
            sqlite_uri, "cryossl", kind="iteration", tags={"cryossl.strategy": "naive"}
        )
        assert frame["test/f1"].tolist() == [0.625]
        assert frame["split.ratio"].tolist() == ["5.0"]
        assert frame["parent_id"].tolist() == [stored_parent.info.run_id]
        assert read_runs(
            sqlite_uri, "cryossl", kind="iteration", tags={"cryossl.strategy": "no"}
        ).empty
        assert read_runs(sqlite_uri, "cryossl", kind="experiment", tags={})["run_id"].tolist() == [
            parent.run_id
        ]

    def test_artifacts_lie_beside_the_database_and_mlflow_reads_tables_and_pictures(
        self, sqlite_uri, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)  # load_table reads the global store
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(b"weights")
        with tracker.run("fp", name="n", parent=None, tags=TAGS) as run:
            record(run, epochs=range(1))
            run.file(weights, folder="model")
        client = MlflowClient(sqlite_uri)
        assert client.get_run(run.run_id).info.artifact_uri.startswith(
            (tmp_path / "store" / "mlruns").as_uri()
        )
        listed = files(client, run.run_id)
        assert [name for name in listed if not name.startswith("images/")] == [
            "datasets/labelled.json",
            "model/model.safetensors",
            "result.json",
            "selection/iteration_1.json",
        ]
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
        self, sqlite_uri, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
        for attempt in range(3):
            tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
            run = tracker.run("fp", name="n", parent=None, tags=TAGS)
            record(run, epochs=range(4 + attempt))
        run.finish()
        assert len(runs_of(sqlite_uri)) == 1
        assert [
            (step, value) for step, value, _ in points(sqlite_uri, run.run_id, "train/loss")
        ] == [(step, 1.0 / (step + 1)) for step in range(6)]
        names = files(MlflowClient(sqlite_uri), run.run_id)
        assert sum(name.startswith("images/") for name in names) == 2
        table = MlflowClient(sqlite_uri).load_table("1", "selection/iteration_1.json", [run.run_id])
        assert len(table) == 2

    def test_without_its_journal_a_run_is_still_found_and_no_point_is_doubled(
        self, sqlite_uri, tmp_path
    ):
        first = Tracker(sqlite_uri, "cryossl", tmp_path / "a").run(
            "fp", name="n", parent=None, tags=TAGS
        )
        record(first, epochs=range(3))
        (old,) = runs_of(sqlite_uri)
        kept = points(sqlite_uri, old.info.run_id, "train/loss")
        with Tracker(sqlite_uri, "cryossl", tmp_path / "b").run(
            "fp", name="n", parent=None, tags=TAGS
        ) as run:
            record(run, epochs=range(5))
        assert run.run_id == old.info.run_id
        assert points(sqlite_uri, run.run_id, "train/loss")[:3] == kept
        assert [step for step, _, _ in points(sqlite_uri, run.run_id, "train/loss")] == list(
            range(5)
        )
        assert [stored.info.status for stored in runs_of(sqlite_uri)] == ["FINISHED"]

    def test_the_same_journal_fills_another_store_completely(
        self, sqlite_uri, store_template, tmp_path
    ):
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ) as run:
            record(run, epochs=range(3))
        other = tmp_path / "other.db"
        shutil.copyfile(store_template, other)
        again = Tracker(f"sqlite:///{other}", "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        )
        assert again.finished
        again.finish()
        (first,), (second,) = runs_of(sqlite_uri), runs_of(f"sqlite:///{other}")
        assert points(sqlite_uri, first.info.run_id, "train/loss") == points(
            f"sqlite:///{other}", second.info.run_id, "train/loss"
        )
        assert second.info.status == "FINISHED"
        assert len(files(MlflowClient(f"sqlite:///{other}"), second.info.run_id)) == 5

    def test_a_run_deleted_while_it_is_written_comes_back_with_all_its_history(
        self, sqlite_uri, tmp_path
    ):
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
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (ValueError("x"), "FAILED"),
            (KeyboardInterrupt(), "KILLED"),
            (SystemExit(0), "FINISHED"),
            (SystemExit(2), "FAILED"),
            (SystemExit(143), "KILLED"),
            (GeneratorExit(), "KILLED"),
        ],
    )
    def test_leaving_by_an_exception_ends_the_run_as_what_it_means(
        self, sqlite_uri, tmp_path, error, status
    ):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with pytest.raises(type(error)), tracker.run("fp", name="n", parent=None, tags=TAGS):
            raise error
        assert [run.info.status for run in runs_of(sqlite_uri)] == [status]

    def test_a_failed_run_that_is_resumed_runs_and_then_finishes(self, sqlite_uri, tmp_path):
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with (
            pytest.raises(ValueError, match="x"),
            tracker.run("fp", name="n", parent=None, tags=TAGS),
        ):
            raise ValueError("x")
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ):
            assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING"]
        assert [run.info.status for run in runs_of(sqlite_uri)] == ["FINISHED"]

    def test_a_finished_run_opened_again_is_left_alone_until_something_new_is_recorded(
        self, sqlite_uri, tmp_path
    ):
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ) as run:
            record(run, epochs=range(2))
        (before,) = runs_of(sqlite_uri)
        time.sleep(0.01)
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ) as run:
            record(run, epochs=range(2))
            assert run.finished
        (after,) = runs_of(sqlite_uri)
        assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
        assert after.data.tags == before.data.tags
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ) as run:
            run.metrics({"test/f1": 0.5}, step=1)
            assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING"]
        (last,) = runs_of(sqlite_uri)
        assert last.info.status == "FINISHED"
        assert last.info.end_time > before.info.end_time

    def test_resumed_runs_move_below_the_newest_invocation_and_the_killed_one_is_ended(
        self, sqlite_uri, tmp_path
    ):
        code = (
            "import sys, os, signal\nfrom pathlib import Path\nfrom cryossl.tracking.tracker "
            "import Tracker\n"
            "t = Tracker(sys.argv[1], 'cryossl', Path(sys.argv[2]))\n"
            "p = t.invocation(name='experiment', tags={'cryossl.kind': 'experiment'})\n"
            "r = t.run('fp', name='n', parent=p, tags={'cryossl.kind': 'iteration'})\n"
            "r.metrics({'train/loss': 0.5}, step=1)\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )
        killed = subprocess.run(
            [sys.executable, "-c", code, sqlite_uri, str(tmp_path / "j")], cwd=PROJECT, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        old, child = runs_of(sqlite_uri)
        assert [old.info.status, child.info.status] == ["RUNNING", "RUNNING"]
        tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with (
            tracker.invocation(name="experiment", tags={"cryossl.kind": "experiment"}) as parent,
            tracker.run("fp", name="n", parent=parent, tags={"cryossl.kind": "iteration"}) as run,
        ):
            run.metrics({"train/loss": 0.7}, step=1)
        old, child, new = runs_of(sqlite_uri)
        assert [old.info.status, child.info.status, new.info.status] == [
            "KILLED",
            "FINISHED",
            "FINISHED",
        ]
        assert child.data.tags["mlflow.parentRunId"] == new.info.run_id == parent.run_id
        assert old.data.tags["cryossl.superseded_by"] == new.info.run_id
        assert child.data.tags["process.pid"] == str(os.getpid())
        assert [value for _, value, _ in points(sqlite_uri, run.run_id, "train/loss")] == [0.5]

    def test_the_run_of_a_living_process_is_not_ended(self, sqlite_uri, tmp_path):
        Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "alive", name="n", parent=None, tags=TAGS
        )
        with Tracker(sqlite_uri, "cryossl", tmp_path / "j2").invocation(name="e", tags={}):
            pass
        assert [run.info.status for run in runs_of(sqlite_uri)] == ["RUNNING", "FINISHED"]
