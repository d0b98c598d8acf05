"""What is wrong in a command, a config file, the data or the tracking store: one line, an exit code, no run left open."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A copy of the tiny data set, to be spoiled."""
    return Path(shutil.copytree(tiny_data, tmp_path / "spoiled"))


def refused(done, *, code: int) -> str:
    """The one line of a refusal, which every fault must end as."""
    assert done.code == code, done.err
    assert done.err.startswith("cryossl: error: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.out
    return done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ratio", "abc"], "ratio"),
        (["--ratio", "0"], "ratio"),
        (["--ratio", "101"], "ratio"),
        (["--ratio", "nan"], "ratio"),
        (["--strategies", "clever"], "unknown strategy 'clever'"),
        (["--strategies", ""], "strategies"),
        (["--strategies", "naive-quota"], "naive takes +balance_quality, +calibrated"),
        (["--seed", "-1"], "seed"),
        (["--tile-px", "-8"], "tile_px"),
        (["--name", "../elsewhere"], "name"),
        (["--ratoi", "5"], "--ratoi"),
        (["--data", ""], "data"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--data", "absent"], "absent: no such folder"),
        (["--labelled", "absent.txt"], "absent.txt"),
        (["--encoder", "resnet1801"], "resnet1801"),
        (["--device", "gpu"], "device"),
        (["surplus"], "surplus"),
        (["--particle-threshold", "0.1", "--background-threshold", "0.2"], "threshold"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(lab, options, said):
    assert said in refused(lab.run(*options), code=2)


@pytest.mark.parametrize("text", ["ratio: [", "nonsense: 1", "a: &x 1\nratio: *x", "- 5"])
def test_a_wrong_config_file_is_one_line_that_names_it(lab, tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    line = refused(lab.call("run", "--config", str(file)), code=2)
    assert "settings.yaml" in line or "nonsense" in line or "aliases" in line


def no_annotations(folder: Path) -> None:
    shutil.rmtree(folder / "annotations")


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def half_a_json(folder: Path) -> None:
    file = folder / "annotations" / "instances_train.json"
    file.write_text(file.read_text()[:2000])


def half_a_picture(folder: Path) -> None:
    file = next(path for path in sorted((folder / "train").iterdir()))
    file.write_bytes(file.read_bytes()[:300])


def a_text_for_a_picture(folder: Path) -> None:
    next(path for path in sorted((folder / "val").iterdir())).write_text("no picture")


def no_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "train")


def dummies_for(part: str) -> Callable[[Path], None]:
    """Make every micrograph of a part one that was never annotated: a box of zeros, as CryoTransformer has it."""

    def spoil(folder: Path) -> None:
        file = folder / "annotations" / f"instances_{part}.json"
        content = json.loads(file.read_text())
        content["annotations"] = [
            {
                **content["annotations"][0],
                "id": number,
                "image_id": image["id"],
                "bbox": [0, 0, 0, 0],
                "area": 0,
            }
            for number, image in enumerate(content["images"], start=1)
        ]
        file.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_annotations, "no annotation file"),
        (nothing, "empty"),
        (half_a_json, "instances_train.json"),
        (half_a_picture, "train/"),
        (a_text_for_a_picture, "val/"),
        (no_pictures, "train"),
        (dummies_for("train"), "label"),
        (dummies_for("val"), "validation"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_fault_of_the_data_is_one_line_and_leaves_no_run(new_lab, data, spoil, said):
    spoil(data)
    lab = new_lab(data)
    assert said in refused(lab.run(), code=2)
    assert lab.statuses() == []
    failed = lab.call("status", "--results", str(lab.results))
    assert failed.out.startswith("❌ Failed")


def test_no_labelled_particle_is_refused_before_anything_is_trained(new_lab, data):
    """Micrographs that were looked at and hold no particle teach nothing: their target ratio is zero."""
    for part in ("train", "val", "test"):
        file = data / "annotations" / f"instances_{part}.json"
        content = json.loads(file.read_text())
        content["annotations"] = []
        file.write_text(json.dumps(content))
    lab = new_lab(data)
    assert "label" in refused(lab.run(), code=2)
    assert list(lab.work.glob("stages/train/*")) == []


def test_all_faults_of_a_data_set_are_listed_at_once(lab, data):
    half_a_picture(data)
    a_text_for_a_picture(data)
    done = lab.call("data", "check", str(data))
    assert "2 faults" in refused(done, code=2)
    assert len(done.out.splitlines()) == 2
    whole = lab.call("data", "check", str(lab.data))
    assert (whole.code, whole.err) == (0, "")


def test_pictures_and_labels_are_checked_and_drawn_as_a_run_would_read_them(lab, data, tmp_path):
    shown = tmp_path / "shown"
    limit = ("--max-megapixels", "0.004")  # a picture has 64 x 64 px
    assert "20 faults" in refused(lab.call("data", "check", str(data), *limit), code=2)
    assert "max_megapixels" in refused(
        lab.call("data", "show", str(data), "--to", str(shown), *limit), code=2
    )
    ratios = []
    for fraction in ("1.0", "0.4"):
        done = lab.call(
            "data", "check", str(data), "--particle-radius-fraction", fraction, "--json"
        )
        ratios.append([source["particle_ratio"] for source in json.loads(done.out)["sources"]])
    assert all(small < 0.5 * whole for whole, small in zip(*ratios, strict=True))
    assert "nine" in refused(lab.call("data", "check", str(data), "--border", "nine"), code=2)
    done = lab.call(
        "data",
        "show",
        str(data),
        "--to",
        str(shown),
        "--count",
        "2",
        "--particle-radius-fraction",
        "0.4",
    )
    assert (done.code, done.out.count("\n"), len(list(shown.iterdir()))) == (0, 2, 2)


def test_a_border_that_leaves_nothing_is_found_before_a_picture_is_decoded(new_lab):
    lab = new_lab()
    assert "leaves nothing" in refused(lab.run("--border", "32"), code=2)
    assert "leaves nothing" in refused(lab.run("--border", "32", "--dry-run"), code=2)
    assert list(lab.work.glob("store*")) == []


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////proc/no/such/folder/mlflow.db",
        "nonsense://somewhere",
        "sqlite:///{file}/mlflow.db",
    ],
)
def test_a_tracking_store_that_cannot_be_opened_is_found_before_training(new_lab, tmp_path, uri):
    lab = new_lab()
    file = tmp_path / "file"
    file.write_text("")
    done = lab.run("--tracking-uri", uri.format(file=file))
    assert done.code in (2, 3, 6)
    refused(done, code=done.code)
    assert list(lab.work.glob("stages/*/*")) == []


@pytest.mark.parametrize("place", ["results", "work"])
def test_a_folder_that_cannot_be_written_is_one_line(new_lab, place):
    lab = new_lab()
    (lab.folder / place).write_text("a file is in the way")
    assert place in refused(lab.run(), code=6)
    assert lab.statuses() == []


def test_a_fault_in_the_middle_leaves_runs_failed_and_the_next_start_mends_them(new_lab):
    lab = new_lab()
    obstacle = lab.work / "stages" / "select"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file is in the way")
    refused(lab.run(), code=6)
    assert sorted(lab.statuses()) == [
        "FAILED",
        "FAILED",
        "FINISHED",
    ]  # invocation, arm; the baseline is well
    obstacle.unlink()
    assert lab.run().code == 0
    assert sorted(lab.statuses()) == ["FAILED"] + 6 * [
        "FINISHED"
    ]  # the invocation that failed stays


def test_a_second_start_beside_the_first_is_told_who_holds_the_folder(lab):
    folder = lab.results / "held"
    folder.mkdir(parents=True)
    code = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        holder.stdout.readline()
        (folder / "running").write_text(f"process {holder.pid} on this machine")
        line = refused(lab.run("--name", "held"), code=6)
    assert f"process {holder.pid}" in line
