"""Each of several processes gets one of the GPUs that their parent sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cryossl.sweep.executors import LocalExecutor
from cryossl.sweep.gpus import one_gpu, visible_gpus

PLAIN = "GPU 0: NVIDIA H200 (UUID: GPU-aa-1)\nGPU 1: NVIDIA H200 (UUID: GPU-bb-2)\n"
PARTED = (
    f"{PLAIN}  MIG 1g.18gb Device 0: (UUID: MIG-cc-3)\n  MIG 1g.18gb Device 1: (UUID: MIG-dd-4)\n"
)


@pytest.fixture
def listing(tmp_path, monkeypatch):
    """Puts a program `nvidia-smi` first on the path."""

    def place(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return place


@pytest.mark.parametrize(
    ("value", "names"),
    [("0,2", ["0", "2"]), (" GPU-aa-1 ", ["GPU-aa-1"]), ("", []), ("-1", []), ("0,-1", ["0"])],
)
def test_the_variable_of_cuda_says_what_is_visible(value, names):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}) == names


@pytest.mark.parametrize(
    ("listed", "names"), [(PLAIN, ["GPU-aa-1", "GPU-bb-2"]), (PARTED, ["MIG-cc-3", "MIG-dd-4"])]
)
def test_without_it_all_that_the_driver_lists_are(listing, tmp_path, listed, names):
    (tmp_path / "list").write_text(listed)
    listing(f"cat '{tmp_path / 'list'}'")
    assert visible_gpus({}) == names


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found"])
def test_a_driver_that_does_not_work_is_no_gpu(listing, script):
    listing(script)
    assert visible_gpus({}) == []


def test_processes_take_the_gpus_in_turn():
    assert [one_gpu(["0", "2"], number) for number in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "2"},
        {"CUDA_VISIBLE_DEVICES": "0"},
    ]
    assert one_gpu([], 5) == {}


def test_a_started_process_has_the_variables_of_its_executor(tmp_path: Path):
    executor = LocalExecutor(("--version",), variables={"PYTHONPROFILEIMPORTTIME": "1"})
    job = executor.start(tmp_path / "x", tmp_path / "log")
    job.wait()
    assert "import time:" in (tmp_path / "log").read_text()
