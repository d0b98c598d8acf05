"""`pick` with the model of a real run: what it writes, how it goes on after a kill, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from PIL import Image
from typed_commands import Done, call

from scripts.score_picks import f1, read_picks, read_truths, total

PROJECT = Path(__file__).resolve().parents[2]
FORMATS = "star,particles,box,cbox,csv,topaz,coco"


@pytest.fixture(scope="module")
def trained(lab):
    """A run whose baseline finds particles."""
    done = lab.run("--strategies", "naive", "--least-steps", "150", "--views", "4")
    assert done.code == 0, done.err
    return lab


def picked(lab, to: Path, *options: str, given: str = "test") -> Done:
    return call(
        "pick",
        *([str(lab.data / given)] if given else []),
        "--to",
        str(to),
        "--tracking-uri",
        f"sqlite:///{lab.database}",
        "--work",
        str(lab.work),
        *options,
    )


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory) -> Path:
    """The picks of the test part in every format, those of the supervised model."""
    folder = tmp_path_factory.mktemp("picked")
    done = picked(trained, folder, "--format", FORMATS, "--model", f"runs:/{baseline(trained)}")
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    return folder


def baseline(lab) -> str:
    """The id of the run of the supervised model."""
    return lab.asked(
        "SELECT run_uuid FROM tags WHERE key = 'cryossl.strategy' AND value = 'supervised' AND "
        "run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'cryossl.kind' AND value = 'iteration')"
    )[0][0]


def test_every_format_holds_the_same_picks(written):
    table = pd.read_csv(written / "picks.csv")
    assert len(table) > 8
    particles = starfile.read(written / "particles.star")["particles"]
    np.testing.assert_allclose(
        particles[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(),
        table.iloc[:, [1, 2]].to_numpy(),
        atol=0.01,
    )
    index = starfile.read(written / "autopick.star")
    each = [starfile.read(path) for path in index["rlnMicrographCoordinates"]]
    assert sum(len(one) for one in each if isinstance(one, pd.DataFrame)) == len(table)
    document = json.loads((written / "picks.json").read_text())
    boxes = [one["bbox"] for one in document["annotations"] if one["category_id"] == 1]
    assert len(boxes) == len(table)
    assert sum(row["picks"] for row in json.loads((written / "counts.json").read_text())) == len(
        table
    )


@pytest.mark.parametrize("file", ["picks.csv", "picks.txt", "particles.star"])
def test_particle_f1_of_the_written_picks_is_the_logged_one_by_eight_views(trained, written, file):
    """The run is scored by four views and by eight, and its models pick by eight.

    Scored by scipy's matching, from the file and the annotations alone.
    """
    truths = read_truths(trained.data / "annotations" / "instances_test.json")
    counts = total(read_picks(written / file), truths, border_px=border(trained))
    ((logged,),) = trained.asked(
        "SELECT value FROM latest_metrics WHERE key = 'test/particle_f1_views8' AND run_uuid = "
        f"'{baseline(trained)}'"
    )
    assert logged > 0.3
    assert f1(counts) == pytest.approx(logged, abs=1e-9)


def border(lab) -> int:
    """Width of the unlabelled band, as `data check` measures it."""
    done = call("data", "check", str(lab.data))
    return max(int(width) for width in re.findall(r"unlabelled band (\d+) px", done.out))


def test_without_a_model_the_best_accepted_one_of_the_newest_experiment_is_named(trained, tmp_path):
    done = picked(trained, tmp_path / "p")
    assert done.code == 0, done.err
    assert re.match(r"model: (naive|supervised), iteration [01], 30% labelled, seed 0", done.out)
    assert re.search(r", particle F1 \d+\.\d\d by eight views on validation \(", done.out)


def test_another_threshold_needs_no_network_and_a_limit_holds(trained, written, tmp_path):
    shutil.copytree(written, tmp_path / "p")
    model = str(written / "model.safetensors")
    before = stamps(tmp_path / "p" / ".results")
    done = picked(trained, tmp_path / "p", "--model", model, "--expected", "4")
    counts = [row["picks"] for row in json.loads((tmp_path / "p" / "counts.json").read_text())]
    assert done.code == 0, done.err
    assert 2 <= np.mean(counts) <= 4
    picked(trained, tmp_path / "p", "--model", model, "--max-per-micrograph", "2")
    counts = [row["picks"] for row in json.loads((tmp_path / "p" / "counts.json").read_text())]
    assert max(counts) == 2
    assert stamps(tmp_path / "p" / ".results") == before


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_rows_are_counted_from_the_last_one_on_request(trained, written, tmp_path):
    model = str(written / "model.safetensors")
    picked(trained, tmp_path / "p", "--model", model, "--format", "csv", "--flip-y")
    plain, flipped = (pd.read_csv(each / "picks.csv") for each in (written, tmp_path / "p"))
    with Image.open(next((trained.data / "test").glob("*.png"))) as picture:
        height = picture.height
    np.testing.assert_allclose(flipped.iloc[:, 2], height - 1 - plain.iloc[:, 2], atol=0.01)
    np.testing.assert_allclose(flipped.iloc[:, 1], plain.iloc[:, 1], atol=0.01)


def test_one_bad_file_is_reported_and_the_rest_go_on(trained, written, tmp_path):
    folder = tmp_path / "micrographs"
    shutil.copytree(trained.data / "test", folder)
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    model = str(written / "model.safetensors")
    done = picked(
        trained, tmp_path / "p", str(folder), "--model", model, "--format", "csv", given=""
    )
    assert (done.code, done.err.count("torn.png")) == (4, 1)
    found, expected = (pd.read_csv(each / "picks.csv") for each in (tmp_path / "p", written))
    assert len(found) == len(expected)
    assert "torn.png" in (tmp_path / "p" / "picks.html").read_text()


def test_a_killed_call_ends_with_the_files_of_an_undisturbed_one(trained, written, tmp_path):
    command = [
        sys.executable, "cli.py", "pick", str(trained.data / "test"), str(trained.data / "train"),
        "--to", str(tmp_path / "killed"), "--model", str(written / "model.safetensors"),
        "--format", "csv,star", "--threads", "1", "--work", str(trained.work),
        "--tracking-uri", f"sqlite:///{trained.database}",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not stamps(tmp_path / "killed") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stamps(tmp_path / "killed")
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True)
    calm = [
        str(tmp_path / "calm") if word == str(tmp_path / "killed") else word for word in command
    ]
    subprocess.run(calm, cwd=PROJECT, env=environment, check=True, capture_output=True)
    first, second = tmp_path / "killed", tmp_path / "calm"
    assert (first / "picks.csv").read_bytes() == (second / "picks.csv").read_bytes()
    names = sorted(path.relative_to(first) for path in first.rglob("*_autopick.star"))
    assert names == sorted(path.relative_to(second) for path in second.rglob("*_autopick.star"))
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "nothere"), "neither a file nor a run"),
        (("--model", f"runs:/{'0' * 32}"), "has no model/model.safetensors"),
        (("--format", "star,xyz"), "unknown format 'xyz'; known: star"),
        (("--threshold", "0.5", "--expected", "3"), "both set the threshold"),
        (("--source", "other"), "knows no source 'other'"),
        (("--diameter-angstrom", "100"), "its pixel size is not known"),
    ],
)
def test_what_cannot_be_picked_is_one_line(trained, written, tmp_path, options, message):
    model = () if "--model" in options else ("--model", str(written / "model.safetensors"))
    done = picked(trained, tmp_path / "p", *model, *options)
    assert done.code == 2
    assert message in done.err
    assert done.err.strip().count("\n") == 0


def test_a_place_without_micrographs_is_one_line(trained, written, tmp_path):
    model = str(written / "model.safetensors")
    done = picked(trained, tmp_path / "p", str(tmp_path), "--model", model, given="")
    assert (done.code, done.err.strip().count("\n")) == (2, 0)
    assert "no micrograph in" in done.err
