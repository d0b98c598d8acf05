"""A real Slurm that kills jobs over their memory: the cell has failed, says what to do, and goes on with more."""

from __future__ import annotations

import re

import pytest
from slurm_cluster import slurm

ON_SLURM = ("--executor", "slurm")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with slurm(bounds_memory=True) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def test_a_job_over_its_memory_fails_with_what_to_ask_for_and_more_memory_finishes_it(new_lab):
    lab = new_lab()
    short = ("--strategies", "class_balanced", "--max-iterations", "1")
    sweep = ("sweep", *lab.places(), *short, "--ratios", "30", "--seeds", "1", *ON_SLURM)
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
