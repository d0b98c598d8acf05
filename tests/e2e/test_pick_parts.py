"""`pick` in several processes or jobs: the files of an undisturbed single process, also after kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from picked_micrographs import collection
from slurm_cluster import slurm
from typed_commands import call
from untrained_models import write_model

from cryossl.picking.finding import KEPT

PROJECT = Path(__file__).resolve().parents[2]
NAMES = tuple(f"m{number:02d}" for number in range(24))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with micrographs, a model that takes its time, and the picks of an undisturbed call."""
    folder = tmp_path_factory.mktemp("parts")
    collection(folder / "mics", names=NAMES)
    write_model(folder / "model.safetensors", views=8)
    done = call(*words(folder, "calm"))
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    return folder


def words(place: Path, to: str, *options: str) -> list[str]:
    return [
        *("pick", str(place / "mics"), "--to", str(place / to), "--format", "csv,star,mask"),
        *("--model", str(place / "model.safetensors"), "--threads", "1", "--no-track", *options),
    ]


def start(place: Path, to: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "cli.py", *words(place, to, *options)],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kept(folder: Path) -> list[Path]:
    return list((folder / KEPT).rglob("*.npz"))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def parts_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child for child in psutil.Process(process.pid).children() if "pick-part" in child.cmdline()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """The written files, but for pages and lists that name the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".csv", ".star", ".png", ".json") and path.name != "autopick.star"
    }


def test_two_processes_write_the_files_of_one_and_leave_nothing_behind(place):
    done = call(*words(place, "two", "--jobs", "2"))
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert contents(place / "two") == contents(place / "calm")
    assert len(contents(place / "calm")) == 2 * len(NAMES) + 2
    assert not (place / "two" / ".parts").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_parent_costs_nothing_but_time(place, jobs):
    to = f"parent{jobs}"
    first = start(place, to, "--jobs", jobs)
    wait_for(lambda: kept(place / to), first)
    orphans = parts_of(first)
    assert len(orphans) == (2 if jobs == "2" else 0)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert len(kept(place / to)) < len(NAMES)
    # At once: parts of the killed start may still be at work.
    second = start(place, to, "--jobs", jobs)
    _, said = second.communicate()
    assert second.returncode == 0, said
    assert contents(place / to) == contents(place / "calm")
    assert not any(orphan.is_running() for orphan in orphans)


def test_a_killed_part_is_started_again(place):
    process = start(place, "part", "--jobs", "2")
    wait_for(lambda: kept(place / "part"), process)
    parts_of(process)[0].kill()
    out, said = process.communicate()
    assert process.returncode == 0, said
    assert "was ended (signal 9); it is started again" in out
    assert contents(place / "part") == contents(place / "calm")


def test_a_second_start_beside_the_first_is_refused_and_disturbs_nothing(place):
    process = start(place, "beside", "--jobs", "2")
    wait_for(lambda: kept(place / "beside"), process)
    busy = call(*words(place, "beside", "--jobs", "2"))
    assert (busy.code, busy.err.strip().count("\n")) == (6, 0)
    assert f"in use by process {process.pid}" in busy.err
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert contents(place / "beside") == contents(place / "calm")


def test_an_interrupted_parent_ends_its_parts(place):
    process = start(place, "interrupted", "--jobs", "2")
    wait_for(lambda: kept(place / "interrupted"), process)
    parts = parts_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert len(parts) == 2
    assert not any(part.is_running() for part in parts)


def test_a_damaged_micrograph_in_a_part_is_reported_and_the_rest_go_on(place, tmp_path):
    (tmp_path / "torn.mrc").write_bytes(b"no picture")
    done = call(*words(place, "torn", str(tmp_path / "torn.mrc"), "--jobs", "2"))
    assert (done.code, done.err.count("torn.mrc: neither JPEG")) == (4, 1)
    assert contents(place / "torn").keys() == contents(place / "calm").keys()


def test_a_part_that_fails_by_itself_says_why(place):
    done = call(*words(place, "fails", "--jobs", "2", "--device", "mps"))
    assert (done.code, done.err.count("error: "), done.err.count("Traceback")) == (2, 1, 0)
    last = done.err.strip().splitlines()[-1]
    assert "part 0001 failed (exit code 2): device mps is not usable here" in last


def test_jobs_of_a_real_slurm_find_what_one_process_finds(place, tmp_path, monkeypatch):
    with slurm() as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        options = ("--jobs", "2", "--executor", "slurm", "--slurm", "cpus-per-task=1,mem=1500")
        done = call(*words(place, "jobs", *options))
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert contents(place / "jobs") == contents(place / "calm")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slurm", "a=1"), "add --executor slurm"),
        (("--executor", "slurm", "--slurm", "nonsense"), "NAME=VALUE"),
    ],
)
def test_options_of_jobs_that_cannot_be_are_one_line(place, tmp_path, options, said):
    done = call(*words(place, "refused", *options))
    assert (done.code, done.err.strip().count("\n")) == (2, 0)
    assert said in done.err


def test_a_file_that_describes_no_part_is_one_line(tmp_path):
    (tmp_path / "part.json").write_text(json.dumps({"model": "x"}))
    done = call("pick-part", str(tmp_path / "part.json"))
    assert (done.code, done.err.strip().count("\n")) == (2, 0)
    assert "describes no part" in done.err
