"""The options of jobs, and a machine without Slurm; tests/e2e/test_slurm.py has a real cluster."""

from __future__ import annotations

import pytest

from cryossl.errors import ConfigError
from cryossl.sweep.slurm import SlurmExecutor, _Seen, slurm_options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("partition=gpu, time=60,", {"partition": "gpu", "time": "60"}),
        ("gpus_per_node=1,--mem=16G", {"gpus-per-node": "1", "mem": "16G"}),
        # as submitit named them
        (
            "slurm_partition=gpu,timeout_min=60,mem_gb=16",
            {"partition": "gpu", "time": "60", "mem": "16G"},
        ),
        ("cpus_per_task=8,gres=gpu:a100:1", {"cpus-per-task": "8", "gres": "gpu:a100:1"}),
        (None, {}),
    ],
)
def test_options_are_those_of_sbatch(text, options):
    assert slurm_options(text) == options


@pytest.mark.parametrize("wrong", ["gpu", "=3", "a=", "a b=3", "x;y=1", "$(touch x)=1"])
def test_what_is_no_option_is_one_line(wrong):
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        slurm_options(wrong)


def test_without_slurm_one_line_says_which_program_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs the programs of Slurm: sbatch: No such file"):
        SlurmExecutor(threads=0, options={})


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "launch_failed_requeued_held", True),
        ("REQUEUE_HOLD", "user env retrieval failed requeued held", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "JobHeldUser", False),  # somebody did it on purpose
        ("PENDING", "job requeued in held state", False),
        ("PENDING", "Priority", False),
        ("RUNNING", "launch failed requeued held", False),
        ("FAILED", "launch failed requeued held", False),
    ],
)
def test_a_job_that_the_cluster_could_not_start_is_known_by_its_reason(state, reason, held):
    assert _Seen(state, reason).held is held
