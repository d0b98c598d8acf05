"""Many simulated pictures: in one process or several the same, in each format readable, and never half a data set."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from typed_commands import call

from cryossl.data.images import read_picture
from cryossl.data.synthetic.phantoms import SPECIES
from cryossl.data.synthetic.pictures import Order, make, make_all, processes_for
from cryossl.data.synthetic.simulator import CONDITION_DRAWS, conditions

PROJECT = Path(__file__).resolve().parents[3]


def orders(folder: Path, *, count: int, size_px: int, suffix: str = ".png") -> list[Order]:
    folder.mkdir()
    given = conditions(np.full(CONDITION_DRAWS, 0.4))
    return [
        Order(
            path=folder / f"{index}{suffix}",
            species=SPECIES[index % 3],
            given=given,
            size_px=size_px,
            border_px=20,
            seed=(1, 0, index),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("pixels", "cores", "free_bytes", "count"),
    [
        ([128**2] * 160, 16, 10**12, 1),
        ([512**2] * 5700, 16, 10**12, 16),
        ([4096**2] * 3, 16, 10**12, 3),
        ([4096**2] * 100, 16, 5 * 10**9, 2),
        ([4096**2] * 100, 16, 10**6, 1),
        ([], 4, 10**9, 1),
    ],
)
def test_processes_are_as_many_as_cores_pictures_and_memory_allow(pixels, cores, free_bytes, count):
    assert processes_for(pixels, cores=cores, free_bytes=free_bytes) == count


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: no second process")
def test_several_processes_write_the_bytes_of_one(tmp_path):
    many = orders(tmp_path / "many", count=5, size_px=1024)
    assert processes_for([1024**2] * 5, cores=2, free_bytes=10**12) == 2
    centres = list(make_all(many))
    for index in (0, 4):
        (alone,) = orders(tmp_path / f"alone_{index}", count=5, size_px=1024)[index : index + 1]
        np.testing.assert_array_equal(make(alone), centres[index])
        assert alone.path.read_bytes() == many[index].path.read_bytes()


def test_the_electrons_of_an_mrc_are_those_of_the_picture(tmp_path):
    found = {}
    for suffix in (".png", ".jpg", ".mrc"):
        (order,) = orders(tmp_path / suffix[1:], count=1, size_px=96, suffix=suffix)
        make(order)
        found[suffix] = read_picture(order.path, max_megapixels=1.0)
    electrons, grey = found[".mrc"], found[".png"]
    assert electrons.min() > 255
    inside = (grey > 0) & (grey < 255)
    assert np.corrcoef(electrons[inside], grey[inside])[0, 1] > 0.999
    assert np.abs(found[".jpg"] - grey).mean() < 4
    with Image.open(tmp_path / "jpg" / "0.jpg") as picture:
        assert picture.format == "JPEG"


def test_an_mrc_of_the_same_seed_is_the_same_file_at_any_time(tmp_path):
    (first,) = orders(tmp_path / "first", count=1, size_px=64, suffix=".mrc")
    make(first)
    time.sleep(1.1)  # a label with the time would differ
    (second,) = orders(tmp_path / "second", count=1, size_px=64, suffix=".mrc")
    make(second)
    assert first.path.read_bytes() == second.path.read_bytes()


# --- the command


def synth(folder: Path, *options: str) -> list[str]:
    sizes = ("--train", "20", "--validation", "2", "--test", "1", "--size-px", "512")
    words = ("data", "synth", "--to", str(folder), *sizes, *options)
    return [sys.executable, str(PROJECT / "cli.py"), *words]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--sources", "0"), "--sources"),
        (("--sources", "9", "--train", "8"), "9 sources needs at least 10 train"),
        (("--format", "bmp"), "'bmp' is not one of"),
        (("--size-px", "5000"), "--size-px"),
    ],
)
def test_sizes_that_cannot_be_are_one_line_and_nothing_is_written(tmp_path, typed, said):
    done = call("data", "synth", "--to", str(tmp_path / "data"), *typed)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("cryossl: error: ")
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_data_set_and_no_process(tmp_path):
    folder, partial = tmp_path / "data", tmp_path / ".data.partial"
    process = subprocess.Popen(
        synth(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    deadline = time.monotonic() + 240
    while not any(partial.glob("train/*.png")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert not folder.exists()


def test_a_full_disk_is_one_line_and_leaves_no_data_set(tmp_path):
    folder = tmp_path / "data"
    done = subprocess.run(
        synth(folder),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 6, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cryossl: error: ")]
    assert "cannot write the synthetic data set" in line
    assert "Traceback" not in done.stderr
    assert not folder.exists()
