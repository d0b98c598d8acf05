"""`mlflow run .` in a fresh copy of the checkout: the parent run is adopted, children lie below it, faults are told."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TINY = (
    "strategies=class_balanced",
    "max_iterations=1",
    "least_steps=0",
    "baseline_epochs=2",
    "student_epochs=1",
    "validations=1",
    "decoder_width=4",
    "threads=1",
)


class Checkout:
    """A copy of the project's files, and `mlflow run` in it with the environment's programs on PATH."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder = folder
        self.database = folder / "mlflow.db"
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        if listing.returncode != 0:
            pytest.skip("not a git checkout")
        for name in listing.stdout.split("\0"):
            if name and (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / name, folder / name)
        shutil.copyfile(template, self.database)

    def run(
        self, *parameters: str, entry: str = "main", manager: tuple[str, ...] = ("local",)
    ) -> subprocess.CompletedProcess[str]:
        """`mlflow run`; `manager`: of environments, none for MLflow's default."""
        words = [word for parameter in parameters for word in ("-P", parameter)]
        options = [word for one in manager for word in ("--env-manager", one)]
        return self.call("mlflow", "run", ".", *options, "-e", entry, *words)

    def call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in the checkout."""
        binaries = Path(sys.executable).parent
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
        } | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.database}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_EXPERIMENT_NAME": "cryossl",
        }
        return subprocess.run(
            [str(binaries / program), *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    def asked(self, query: str) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, store_template) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"), store_template)


def test_the_run_that_mlflow_made_is_the_parent_of_all_others(checkout, tiny_data):
    done = checkout.run("ratio=30", f"data={tiny_data}", *TINY)
    assert done.returncode == 0, done.stderr
    assert "Class-balanced F1" in done.stdout
    (made,) = checkout.asked(
        "SELECT run_uuid, status FROM runs WHERE entry_point_name = 'main' OR run_uuid IN "
        "(SELECT run_uuid FROM tags WHERE key = 'mlflow.project.entryPoint')"
    )
    assert made[1] == "FINISHED"
    wanted = "pseudolabel_balanced 30% s0"
    assert checkout.asked(f"SELECT name FROM runs WHERE run_uuid = '{made[0]}'") == [(wanted,)]
    assert checkout.asked(
        f"SELECT value FROM tags WHERE key = 'mlflow.runName' AND run_uuid = '{made[0]}'"
    ) == [(wanted,)]
    kinds = dict(checkout.asked("SELECT run_uuid, value FROM tags WHERE key = 'cryossl.kind'"))
    assert kinds.pop(made[0]) == "experiment"
    assert sorted(kinds.values()) == ["arm", "iteration", "iteration"]
    assert dict(
        checkout.asked("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'")
    ) == dict.fromkeys(kinds, made[0])
    assert checkout.asked(
        "SELECT value FROM params WHERE key = 'training.baseline_epochs' LIMIT 1"
    ) == [("2",)]
    assert (
        checkout.folder
        / "experiments"
        / "pseudolabel_balanced"
        / "balanced_pseudolabel_ratio_30.json"
    ).is_file()
    assert (checkout.folder / "work" / "stages").is_dir()


@pytest.mark.parametrize("parameter", ["ratio=abc", "strategies=clever; touch here"])
def test_a_wrong_parameter_is_one_line_of_ours_and_the_run_ends_failed(checkout, parameter):
    before = checkout.asked("SELECT count(*) FROM runs")[0][0]
    done = checkout.run(parameter)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("cryossl: error: ")]
    assert len(said) == 1
    assert parameter.partition("=")[0] in said[0]
    assert "Traceback" not in done.stderr + done.stdout
    assert not (checkout.folder / "here").exists()
    statuses = [
        status for (status,) in checkout.asked("SELECT status FROM runs ORDER BY start_time")
    ]
    assert statuses[before:] == ["FAILED"]


def test_a_command_that_tracks_nothing_tags_the_run_that_mlflow_made_for_it(checkout, tiny_data):
    before = {run for (run,) in checkout.asked("SELECT run_uuid FROM runs")}
    assert checkout.run(f"path={tiny_data}", entry="data").returncode == 0
    checkout.run(entry="compare")  # tagged also where there is nothing to compare
    new = [run for (run,) in checkout.asked("SELECT run_uuid FROM runs ORDER BY start_time")]
    kinds = dict(checkout.asked("SELECT run_uuid, value FROM tags WHERE key = 'cryossl.kind'"))
    assert [kinds.get(run) for run in new if run not in before] == ["data", "compare"]


def test_a_sweep_varies_several_settings_in_one_parameter(checkout, tiny_data):
    vary = "weight_decay=0.02;class_balanced.max_pseudo_per_labelled=1,2"
    done = checkout.run(
        *("ratios=30", "seeds=1", f"data={tiny_data}", f"vary={vary}", "name=varied", *TINY),
        entry="sweep",
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells have finished" in done.stdout
    refused = checkout.run("seeds=1", f"data={tiny_data}", "vary=loss=a;touch here", entry="sweep")
    (line,) = [one for one in refused.stderr.splitlines() if one.startswith("cryossl: error: ")]
    assert "--vary" in line
    assert not (checkout.folder / "here").exists()


@pytest.mark.skipif(shutil.which("conda") is not None, reason="conda is here")
def test_a_run_that_mlflow_left_because_there_is_no_conda_is_ended_by_reap(checkout):
    failed = checkout.run("ratio=30", manager=())
    assert failed.returncode != 0
    assert "conda" in failed.stderr
    running = "SELECT run_uuid FROM runs WHERE status = 'RUNNING'"
    ((left,),) = checkout.asked(running)
    done = checkout.call("python", "cli.py", "reap")
    assert done.returncode == 0, done.stderr
    assert left in done.stdout
    assert "`mlflow run` never started its command" in done.stdout
    assert checkout.asked(running) == []
    assert checkout.asked(f"SELECT status FROM runs WHERE run_uuid = '{left}'") == [("FAILED",)]
