"""Sweeps on a real Slurm: jobs are cancelled and preempted, the node goes, the sweep is killed; each cell ends once, with the numbers of a quiet run."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from slurm_cluster import Cluster, slurm

from cryossl.sweep.slurm import SECONDS_BETWEEN_LOOKS

PROJECT = Path(__file__).resolve().parents[2]
NAME = "pseudolabel_balanced"
ONE_STRATEGY = ("--strategies", "class_balanced")
SOME_SECONDS = ("--baseline-epochs", "150", "--checkpoint-seconds", "0.05")
"""Options with which the baseline trains for some seconds and is never far from a checkpoint."""
OVER_A_MINUTE = ("--baseline-epochs", "8000", "--checkpoint-seconds", "0.5")
ONE_CPU = ("--slurm", "cpus-per-task=1,mem=1500,gpus-per-node=1")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with slurm() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module", autouse=True)
def no_sweep_left(cluster) -> Iterator[None]:
    """Where a test fails, its sweep ends before the cluster does."""
    yield
    for process in Sweep.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def quiet(new_lab) -> Callable[..., dict[str, dict]]:
    """The numbers of cells that ran undisturbed, cell by cell in this process; each is run once."""
    lab, known = new_lab(), {}

    def numbers(cells: list[tuple[int, int]], *options: str) -> dict[str, dict]:
        for ratio, seed in cells:
            key = (ratio, seed, options)
            if key not in known:
                name = f"quiet_{len(known)}"
                words = ("--ratio", str(ratio), "--seed", str(seed), "--name", name)
                done = lab.run(*ONE_STRATEGY, *options, *words)
                assert (done.code, done.err) == (0, "")
                known[key] = lab.numbers(of=name)
                assert known[key]
        return {
            f"ratio_{ratio}_seed_{seed}": known[(ratio, seed, options)] for ratio, seed in cells
        }

    return numbers


class Sweep:
    """The command in a process of its own."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, lab, *options: str) -> None:
        self.lab = lab
        tiny = list(lab.tiny)
        at = tiny.index("--ratio")
        tiny[at : at + 2] = []
        words = ["sweep", *lab.places(), *tiny, *ONE_STRATEGY, "--executor", "slurm", *options]
        self.process = subprocess.Popen(
            [sys.executable, str(PROJECT / "cli.py"), *words],
            cwd=lab.folder,
            text=True,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.started.append(self.process)

    def ended(self) -> tuple[int, str, str]:
        """Exit code, output and errors, once it has ended."""
        out, err = self.process.communicate(timeout=3600)
        return self.process.returncode, out, err

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait while the sweep is at work."""
        deadline = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)


def folder_of(lab, ratio: int, seed: int) -> Path:
    return lab.results / NAME / f"ratio_{ratio}_seed_{seed}"


def numbers(lab, cells: list[tuple[int, int]]) -> dict[str, dict]:
    return {
        f"ratio_{ratio}_seed_{seed}": lab.numbers(of=f"{NAME}/ratio_{ratio}_seed_{seed}")
        for ratio, seed in cells
    }


def in_training(lab, ratio: int, seed: int) -> bool:
    """Whether a process that lives is training in the cell's folder."""
    folder = folder_of(lab, ratio, seed)
    try:
        phase = json.loads((folder / "status.json").read_text())["phase"]
    except (OSError, ValueError):
        return False
    return phase.startswith("train") and environment_of(folder) is not None


def environment_of(folder: Path) -> dict[str, str] | None:
    """The environment of the process that works in a results folder; None without one."""
    try:
        number = re.match(r"process (\d+) on ", (folder / "running").read_text())[1]
        content = Path(f"/proc/{number}/environ").read_text()
    except (OSError, TypeError):
        return None
    return dict(line.split("=", 1) for line in content.split("\0") if "=" in line)


def arms_tracked_twice(lab) -> list:
    return lab.asked(
        "SELECT value, count(*) FROM tags WHERE key = 'cryossl.fingerprint' AND run_uuid IN "
        "(SELECT run_uuid FROM tags WHERE key = 'cryossl.kind' AND value IN ('iteration', 'arm')) "
        "GROUP BY value HAVING count(*) > 1"
    )


def jobs_of_cells(cluster: Cluster) -> list[str]:
    return [name for name in cluster.names() if name.startswith("cryossl-")]


# --- six cells, one of which a user cancels


@pytest.fixture(scope="module")
def six() -> list[tuple[int, int]]:
    return [(ratio, seed) for seed in (0, 1, 2) for ratio in (30, 50)]


@pytest.fixture(scope="module")
def cancelled(cluster, new_lab):
    """A sweep of six cells, of which one is cancelled while it trains; and what its process saw."""
    lab = new_lab()
    sweep = Sweep(lab, "--ratios", "30,50", "--seeds", "3", "--jobs", "6", *ONE_CPU)
    sweep.wait_for(lambda: environment_of(folder_of(lab, 30, 0)))
    seen = environment_of(folder_of(lab, 30, 0)) or {}
    cluster.ask("scancel", seen["SLURM_JOB_ID"])
    return lab, seen, sweep.ended()


def test_a_cell_that_is_cancelled_stops_no_other(cancelled):
    _, seen, (code, out, err) = cancelled
    assert (code, err) == (130, ""), out
    assert "5 of 6 cells have finished, 1 failed; the same command tries again:" in out
    assert f"❌ 30% seed 0 (exit code 130): job {seen['SLURM_JOB_ID']} ended as CANCELLED" in out


def test_a_job_gets_the_gpu_and_the_cpus_that_were_asked_for(cancelled):
    _, seen, _ = cancelled
    assert seen["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert seen["SLURM_CPUS_PER_TASK"] == "1"


def test_the_same_command_runs_the_cancelled_cell_alone_and_all_numbers_are_those_of_quiet_runs(
    cluster, cancelled, six, quiet, size
):
    lab, *_ = cancelled
    before = len(jobs_of_cells(cluster))
    assert before == len(set(jobs_of_cells(cluster))) == 6
    options = ("--ratios", "30,50", "--seeds", "3", "--jobs", "6", *ONE_CPU)
    code, out, err = Sweep(lab, *options).ended()
    assert (code, err) == (0, ""), out
    assert "6 cells, 5 of them finished" in out
    assert len(jobs_of_cells(cluster)) == before + 1
    compared = six[: size(bounded=2, long=6)]
    assert numbers(lab, compared) == quiet(compared)
    assert arms_tracked_twice(lab) == []


# --- preemption, a node that goes down, and the death of the sweep


def test_preempted_jobs_a_node_set_down_and_a_killed_sweep_cost_no_cell_and_double_none(
    cluster, new_lab, quiet, size
):
    lab, cells = new_lab(), [(30, 7), (50, 7)]
    before = jobs_of_cells(cluster)
    options = (*SOME_SECONDS, "--ratios", "30,50", "--seed", "7", "--seeds", "1", "--jobs", "2")
    sweep = Sweep(lab, *options, *ONE_CPU)
    sweep.wait_for(lambda: all(in_training(lab, *cell) for cell in cells))
    take_the_node(cluster)
    sweep.wait_for(lambda: all(in_training(lab, *cell) for cell in cells))

    sweep.process.kill()
    sweep.process.communicate()
    sweep = Sweep(lab, *options, *ONE_CPU)
    sweep.wait_for(lambda: any(in_training(lab, *cell) for cell in cells))
    cluster.node("down")
    time.sleep(1)
    cluster.node("resume")

    code, out, err = sweep.ended()
    assert (code, err) == (0, ""), out
    assert out.count("is a job of an earlier start; waiting for it") == 2
    new = jobs_of_cells(cluster)
    for name in before:
        new.remove(name)
    assert len(new) == len(set(new)) == 2
    compared = cells[: size(bounded=1, long=2)]
    assert numbers(lab, compared) == quiet(compared, *SOME_SECONDS)
    assert arms_tracked_twice(lab) == []
    for cell in cells:
        said = (folder_of(lab, *cell) / "output.log").read_text()
        assert said.count("DUE TO PREEMPTION") == 1


def take_the_node(cluster: Cluster) -> None:
    """Run a job that preempts all others."""
    subprocess.run(
        ["sbatch", "--partition=high", "--cpus-per-task=2", "--wait", "--output=/dev/null"],
        input="#!/bin/sh\nsleep 1\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )


# --- jobs that cannot start


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("mem=900G", "Requested node configuration is not available"),
        ("gpus-per-node=3", "Requested node configuration is not available"),
        ("partition=nowhere", "invalid partition"),
        ("partitoin=low", "unrecognized option"),
        ("cpus-per-task=many", "cpus-per-task"),
    ],
)
def test_jobs_that_no_node_could_run_are_refused_before_the_first(cluster, new_lab, asked, said):
    lab = new_lab()
    done = lab.call("sweep", *lab.places(), "--seeds", "1", "--executor", "slurm", "--slurm", asked)
    assert done.code == 2, done.out
    assert done.err.startswith("cryossl: error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not list(lab.results.glob("*/ratio_*"))


def test_a_job_that_waits_for_ever_says_why_and_an_interrupted_sweep_leaves_none(cluster, new_lab):
    lab = new_lab()
    sweep = Sweep(lab, "--ratios", "30", "--seeds", "1", "--slurm", "partition=brief,time=60")
    log = lab.results / NAME / f"{NAME}_training.log"
    sweep.wait_for(lambda: log.exists() and "PartitionTimeLimit" in log.read_text())
    time.sleep(2.5 * SECONDS_BETWEEN_LOOKS)
    sweep.process.send_signal(signal.SIGTERM)
    code, out, err = sweep.ended()
    assert code == 130
    assert err.strip().startswith("cryossl: error: interrupted; the same command continues")
    said = re.findall(r"⚠ 30% seed 0: job \d+ is queued, reason: PartitionTimeLimit", out)
    assert len(said) == 1
    assert cluster.ask("squeue", "--noheader") == ""


def test_a_sweep_that_starts_while_the_node_is_down_waits_for_it(cluster, new_lab):
    lab = new_lab()
    cluster.node("down")
    try:
        sweep = Sweep(lab, "--ratios", "30", "--seed", "8", "--seeds", "1", *ONE_CPU)
        log = lab.results / NAME / f"{NAME}_training.log"
        sweep.wait_for(lambda: log.exists() and "is queued, reason: " in log.read_text())
    finally:
        cluster.node("resume")
    code, out, err = sweep.ended()
    assert (code, err) == (0, ""), out
    assert lab.numbers(of=f"{NAME}/ratio_30_seed_8")
    assert cluster.ask("squeue", "--noheader") == ""


def test_a_job_that_is_suspended_is_told_of_once_and_waited_for(cluster, new_lab):
    lab = new_lab()
    cell = ("--ratios", "30", "--seed", "7", "--seeds", "1")
    sweep = Sweep(lab, *SOME_SECONDS, *cell, *ONE_CPU)
    sweep.wait_for(lambda: in_training(lab, 30, 7))
    job = environment_of(folder_of(lab, 30, 7))["SLURM_JOB_ID"]
    cluster.ask("scontrol", "suspend", job)
    log = lab.results / NAME / f"{NAME}_training.log"
    sweep.wait_for(lambda: "is SUSPENDED" in log.read_text())
    cluster.ask("scontrol", "resume", job)
    code, out, err = sweep.ended()
    assert (code, err) == (0, ""), out
    assert re.findall("⚠ .*", out) == [f"⚠ 30% seed 7: job {job} is SUSPENDED"]
    assert lab.numbers(of=f"{NAME}/ratio_30_seed_7")


# --- at length


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_for_a_while_costs_nothing(cluster, new_lab):
    lab, before = new_lab(), len(jobs_of_cells(cluster))
    options = ("--ratios", "30,50", "--seed", "9", "--seeds", "1", "--jobs", "1", *ONE_CPU)
    sweep = Sweep(lab, *options)
    sweep.wait_for(lambda: environment_of(folder_of(lab, 30, 9)))
    cluster.lose_controller(seconds=15)
    # A controller that did not save the start of a job starts it twice, and takes the node away.
    while sweep.process.poll() is None:
        with suppress(subprocess.CalledProcessError):
            if "drain" in cluster.ask("sinfo", "--noheader", "--format=%T"):
                cluster.node("resume")
        time.sleep(1)
    code, out, err = sweep.ended()
    assert (code, err) == (0, ""), out
    assert "⚠ 30% seed 9: the cluster does not answer: " in out
    assert "2 of 2 cells have finished" in out
    assert len(jobs_of_cells(cluster)) in (before + 2, before + 3)  # 3: started twice, see above


@pytest.mark.slow
def test_a_job_over_its_time_limit_is_continued_by_another(cluster, new_lab, quiet):
    lab, cells = new_lab(), [(30, 3)]
    options = ("--ratios", "30", "--seed", "3", "--seeds", "1")
    sweep = Sweep(
        lab, *OVER_A_MINUTE, *options, "--slurm", "partition=brief,time=1,cpus-per-task=1,mem=1500"
    )
    code, out, err = sweep.ended()
    assert (code, err) == (0, ""), out
    assert re.search(r"↻ 30% seed 3 will be started again: job \d+ ended as TIMEOUT", out)
    assert numbers(lab, cells) == quiet(cells, *OVER_A_MINUTE)
    assert arms_tracked_twice(lab) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_sweeps_among_random_faults_end_like_quiet_ones(cluster, new_lab, quiet, six, size, note):
    """Until a sweep has finished: preempt its jobs, take the node down, cancel a job, or kill the sweep."""
    rng = random.Random(5)
    counts = dict.fromkeys(("preempted", "node down", "cancelled", "sweep killed"), 0)
    rounds = size(bounded=1, long=5)
    lost = doubled = different = 0
    for _ in range(rounds):
        lab = new_lab()
        options = ("--ratios", "30,50", "--seeds", "3", "--jobs", "4", *ONE_CPU)
        for faults_left in range(8, -1, -1):
            sweep = Sweep(lab, *SOME_SECONDS, *options)
            while faults_left and sweep.process.poll() is None:
                time.sleep(rng.uniform(2, 12))
                fault = rng.choice(list(counts))
                counts[fault] += 1
                strike(fault, cluster, sweep)
                if fault in ("cancelled", "sweep killed"):
                    break
            code, out, err = sweep.ended()
            assert err == "", err
            if code == 0:
                break
        assert code == 0, out
        lost += sum(not found for found in numbers(lab, six).values())
        different += numbers(lab, six) != quiet(six, *SOME_SECONDS)
        doubled += len(arms_tracked_twice(lab))
    note(
        "Slurm: jobs preempted or cancelled, node down, sweep killed",
        ran=f"{rounds} sweeps of {len(six)} cells, {sum(counts.values())} faults",
        found=f"{lost} cells lost, {doubled} doubled, {different} sweeps with other numbers",
        bar="0",
    )
    assert (lost, doubled, different) == (0, 0, 0)


def strike(fault: str, cluster: Cluster, sweep: Sweep) -> None:
    if fault == "preempted":
        take_the_node(cluster)
    elif fault == "node down":
        cluster.node("down")
        time.sleep(1)
        cluster.node("resume")
    elif fault == "cancelled":
        at_work = [job for job, state in cluster.jobs().items() if state == "RUNNING"]
        if at_work:
            cluster.ask("scancel", at_work[0])
    else:
        sweep.process.kill()
