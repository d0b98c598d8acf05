"""What MLflow's variables say: the store, the experiment, the run that `mlflow run` made; and stores that cannot be."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from recorded_runs import PROJECT, TAGS, points, runs_of

from cryossl.errors import NoExperimentError, TrackingError
from cryossl.tracking.reader import read_runs
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")


class TestEnvironment:
    def test_the_run_that_mlflow_run_made_is_adopted_with_its_experiment(
        self, sqlite_uri, tmp_path, monkeypatch
    ):
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
        assert read_runs("sqlite:///nowhere.db", "cryossl", kind="iteration", tags={})[
            "test/f1"
        ].tolist() == [0.5]

    def test_an_invocation_without_mlflow_run_adopts_nothing(self, sqlite_uri, tmp_path):
        assert Tracker(sqlite_uri, "cryossl", tmp_path / "j").adopt() is None

    def test_a_run_id_of_another_store_is_one_clear_line(self, sqlite_uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        with pytest.raises(TrackingError, match="unset MLFLOW_RUN_ID"):
            Tracker(sqlite_uri, "cryossl", tmp_path / "j")

    def test_the_experiment_name_of_the_environment_comes_first(
        self, sqlite_uri, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
        Tracker(sqlite_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        ).finish()
        client = MlflowClient(sqlite_uri)
        assert client.get_experiment_by_name("cryossl") is None
        assert client.get_experiment_by_name("from the environment") is not None

    def test_a_deleted_experiment_and_an_impossible_store_are_one_clear_line(
        self, sqlite_uri, tmp_path
    ):
        client = MlflowClient(sqlite_uri)
        client.delete_experiment(client.create_experiment("cryossl"))
        with pytest.raises(TrackingError, match="is deleted"):
            Tracker(sqlite_uri, "cryossl", tmp_path / "j")
        with pytest.raises(TrackingError, match="cannot be opened"):
            Tracker("sqlite:////proc/no/such/folder/mlflow.db", "cryossl", tmp_path / "j")

    def test_reading_a_store_that_is_not_there_says_so_and_makes_nothing(self, tmp_path):
        with pytest.raises(NoExperimentError, match="there is no tracking store"):
            read_runs(f"sqlite:///{tmp_path}/none.db", "cryossl", kind="iteration", tags={})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("module", ["tracker", "reader"])
    def test_importing_the_module_does_not_import_mlflow(self, module):
        code = f"import cryossl.tracking.{module}, sys; sys.exit('mlflow' in sys.modules)"
        assert (
            subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0
        )

    def test_system_metrics_of_a_resumed_parent_are_never_doubled(
        self, sqlite_uri, tmp_path, monkeypatch
    ):
        made = MlflowClient(sqlite_uri).create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
        for _ in range(2):
            with Tracker(sqlite_uri, "cryossl", tmp_path / "j").invocation(name="e", tags={}):
                time.sleep(1.5)
        steps = [
            step
            for step, _, _ in points(
                sqlite_uri, made.info.run_id, "system/cpu_utilization_percentage"
            )
        ]
        assert len(steps) > 2
        assert sorted(steps) == list(range(len(steps)))
