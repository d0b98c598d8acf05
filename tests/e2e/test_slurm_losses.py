"""A real Slurm that kills jobs over their memory, and a node that loses its power: what the sweep says, and that it goes on."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import slurm

PROJECT = Path(__file__).resolve().parents[2]
ON_SLURM = ("--executor", "slurm", "--seeds", "1")
ONE = ("--strategies", "class_balanced")
CONFIGURATION = """
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=20
"""
PROLOGUE = """#!/bin/sh
test ! -e {mark}
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def unfit(tmp_path_factory) -> Path:
    """While this file exists, the node fails to start jobs."""
    return tmp_path_factory.mktemp("prologue") / "unfit"


@pytest.fixture(scope="module", autouse=True)
def cluster(unfit):
    prologue = unfit.with_name("prologue.sh")
    prologue.write_text(PROLOGUE.format(mark=unfit))
    prologue.chmod(0o755)
    more = f"{CONFIGURATION}Prolog={prologue}\n"
    with slurm(more=more) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def test_a_job_over_its_memory_fails_with_what_to_ask_for_and_more_memory_finishes_it(new_lab):
    lab = new_lab()
    sweep = ("sweep", *lab.places(), *lab.tiny, *ONE, *ON_SLURM)
    small = lab.call(*sweep, "--slurm", "cpus-per-task=1,mem=150")
    assert small.code != 0, small.out
    assert "Next: " not in small.out  # there is no table to write up
    assert re.search(
        r"job \d+ ended as (OUT_OF_MEMORY; |FAILED, killed; if its memory was too small, )"
        r"ask for more, e\.g\. --slurm mem=32G",
        small.out + small.err,
    ), small.out
    enough = lab.call(*sweep, "--slurm", "cpus-per-task=1,mem=3500")
    assert enough.code == 0, enough.out + enough.err
    assert "1 of 1 cells" in enough.out


def test_a_job_that_the_cluster_cannot_start_fails_at_once_and_the_same_command_finishes_it(
    cluster, unfit, new_lab
):
    """Such a job would wait for an administrator for ever, and another would cost another node."""
    lab = new_lab()
    sweep = (
        "sweep",
        *lab.places(),
        *lab.tiny,
        *ONE,
        *ON_SLURM,
        "--slurm",
        "cpus-per-task=1,mem=3500",
    )
    unfit.touch()
    try:
        held = lab.call(*sweep)
    finally:
        unfit.unlink()
    assert held.code == 1, held.out
    assert held.out.count("the cluster could not start job") == 2  # when it ends, and at the end
    assert "launch failed requeued held" in held.out.replace("_", " ")
    assert "Next: " not in held.out
    assert cluster.ask("squeue", "--noheader") == ""
    cluster.node("resume")
    again = lab.call(*sweep)
    assert again.code == 0, again.out + again.err
    assert "1 of 1 cells" in again.out


@pytest.mark.slow
def test_a_node_that_loses_its_power_costs_a_start_and_no_number(cluster, new_lab):
    lab, quiet = new_lab(), new_lab()
    training = ("--baseline-epochs", "60", "--checkpoint-seconds", "0.05")
    words = ("sweep", *lab.places(), *lab.tiny, *ONE, *training, *ON_SLURM)
    log = lab.results / "pseudolabel_balanced" / "ratio_30_seed_0" / "output.log"
    process = subprocess.Popen(
        [sys.executable, PROJECT / "cli.py", *words, "--slurm", "cpus-per-task=1,mem=3500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (log.exists() and "baseline" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    cluster.cut_power_of_node(until_down=120)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    assert "1 of 1 cells" in out
    done = quiet.run(*ONE, *training)
    assert done.code == 0
    assert lab.numbers(of="pseudolabel_balanced/ratio_30_seed_0") == quiet.numbers()
