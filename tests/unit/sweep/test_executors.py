from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from cryossl.errors import ConfigError
from cryossl.sweep.executors import (
    LocalExecutor,
    SlurmExecutor,
    command,
    environment,
    last_line,
    slurm_options,
)


def ended(job, *, within_seconds: float = 120.0) -> int:
    deadline = time.monotonic() + within_seconds
    while (code := job.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(code)


def test_a_cell_of_this_machine_is_the_run_command_and_its_output_goes_to_the_log(tmp_path):
    job = LocalExecutor().start(tmp_path / "absent.yaml", tmp_path / "output.log")
    assert ended(job) == 2
    assert "absent.yaml" in last_line(tmp_path / "output.log")


def test_a_cell_that_is_terminated_ends(tmp_path):
    job = LocalExecutor().start(tmp_path / "absent.yaml", tmp_path / "output.log")
    job.terminate()
    job.wait()
    assert job.poll() in (-signal.SIGTERM, 130, 2)


def test_the_command_is_this_pythons(tmp_path):
    words = command(tmp_path / "s.yaml")
    assert words[0] == sys.executable
    assert Path(words[1]).is_file()
    assert words[2:] == ["run", "--config", str(tmp_path / "s.yaml")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"A": "1", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
            {"A": "1", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
        ),
        (
            {"MLFLOW_RUN_ID": "r", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
            {"MLFLOW_EXPERIMENT_ID": "4"},
        ),
        ({"MLFLOW_RUN_ID": "r", "MLFLOW_EXPERIMENT_NAME": "n"}, {"MLFLOW_EXPERIMENT_NAME": "n"}),
    ],
)
def test_no_cell_adopts_the_run_that_was_made_for_the_sweep(ours, theirs):
    assert environment(ours) == {**theirs, "PYTHONIOENCODING": "utf-8"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\ncryossl: error: no space; free some\n\n", "no space; free some"),
        ("", "it said nothing"),
        ("\n \n", "it said nothing"),
        ("x" * 9000 + "\nlast", "last"),
    ],
)
def test_the_last_line_is_the_one_that_says_something(tmp_path, text, line):
    (tmp_path / "log").write_text(text)
    assert last_line(tmp_path / "log") == line
    assert last_line(tmp_path / "absent") == "it left no log"


def test_slurm_parameters_are_names_and_values():
    assert slurm_options("slurm_partition=gpu, timeout_min=60,") == {
        "slurm_partition": "gpu",
        "timeout_min": 60,
    }
    assert slurm_options(None) == {}
    for wrong in ("gpu", "=3", "a="):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            slurm_options(wrong)


def test_without_submitit_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        ConfigError, match=r"needs the package submitit; .venv/bin/pip install -e '.\[slurm\]'"
    ):
        SlurmExecutor(tmp_path, threads=0, options={})


# --- with submitit, whose local executor stands where a cluster would


@pytest.fixture
def submitting(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.chdir(tmp_path)
    return SlurmExecutor(tmp_path / "jobs", threads=2, options={"timeout_min": 5}, cluster="local")


def test_a_job_returns_the_exit_code_of_its_cell_and_its_output(submitting, tmp_path):
    assert submitting.cpus == 2
    job = submitting.start(tmp_path / "absent.yaml", tmp_path / "output.log")
    assert ended(job) == 2
    assert "absent.yaml" in last_line(tmp_path / "output.log")


@pytest.mark.slow
def test_a_job_that_is_cancelled_has_failed(submitting, tmp_path):
    job = submitting.start(tmp_path / "absent.yaml", tmp_path / "output.log")
    job.terminate()
    job.wait()
    assert ended(job) != 0


def test_a_parameter_that_submitit_does_not_know_is_one_line(submitting, tmp_path):
    for options in ({"partitoin": "gpu"}, {"timeout_min": "long"}):
        with pytest.raises(ConfigError, match="submitit refuses"):
            SlurmExecutor(tmp_path, threads=0, options=options, cluster="local")
