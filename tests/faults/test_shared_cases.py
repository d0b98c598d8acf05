"""The generators of faulty inputs beside the checkout (`shared/cases`), where they are there: each is read or refused.

Small versions of the same faults, which need no other folder, stand beside the modules that meet them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed_commands import call

from cryossl.data.images import read_picture

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not beside the checkout"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]


@pytest.fixture
def made(tmp_path):
    """Runs a generator; returns the folder that it wrote."""

    def make(name: str, *variant: str) -> Path:
        folder = tmp_path / "data"
        subprocess.run([sys.executable, CASES / f"{name}.py", folder, *variant], check=True)
        return folder

    return make


def planned(folder: Path, *options: str) -> str:
    done = call("run", "--dry-run", "--data", str(folder), "--tile-px", "64", *options)
    assert done.code == 0, done.err
    return done.out


def contrast(folder: Path) -> float:
    """Mean grey of the first micrograph's discs minus that of the rest; they were drawn dark."""
    document = json.loads((folder / "annotations" / "instances_train.json").read_text())
    image = document["images"][0]
    picture = read_picture(folder / "train" / image["file_name"], max_megapixels=1)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    discs = np.zeros(picture.shape, bool)
    for annotation in document["annotations"]:
        if annotation["image_id"] == image["id"]:
            x, y, width, height = annotation["bbox"]
            discs |= np.hypot(rows - y - height / 2, columns - x - width / 2) <= width / 2
    return float(picture[discs].mean() - picture[~discs].mean())


@pytest.mark.parametrize(
    "case",
    [
        "backslash_names",
        "flat_segmentation",
        "flat_segmentation empty",
        "roboflow_root_category",
    ],
)
def test_annotation_programs_spellings_are_read(made, case):
    done = call("data", "check", str(made(*case.split())))
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("case", ["truncated_stack", "truncated_stack tifffile"])
def test_a_stack_with_one_directory_is_refused(made, case):
    done = call("data", "check", str(made(*case.split())))
    assert done.code == 2
    assert "5 frames in one file" in done.out


@pytest.mark.parametrize("orientation", ["2", "3", "4"])
def test_rows_stand_in_the_order_of_the_file(made, orientation):
    assert contrast(made("lzw_tiff_orientation", orientation)) < -40


def test_a_turned_orientation_tag_turns_nothing(made):
    assert call("data", "check", str(made("lzw_tiff_orientation", "6"))).code == 0


def test_unsigned_bytes_of_an_mrc_are_not_wrapped(made):
    folder = made("mrc_unsigned_bytes")
    assert contrast(folder) < -40
    assert read_picture(folder / "train" / "prot_train000.mrc", max_megapixels=1).min() >= 0


def test_a_colour_table_is_applied_as_pillow_applies_it(made):
    path = made("palette_tiff") / "train" / "prot_train000.tif"
    expected = np.asarray(Image.open(path).convert("L"), np.float32)
    np.testing.assert_allclose(read_picture(path, max_megapixels=1), expected, atol=0.51)


def test_numbers_of_a_program_before_each_name_make_no_sources(made):
    assert "40 training micrographs: 2 labelled (5%), 38 unlabelled" in planned(
        made("cryosparc_uid_names"), "--ratio", "5"
    )


def test_the_pool_is_told_by_content(made):
    assert "11 training micrographs" in planned(made("pool_by_suffix"), "--ratio", "50")


def test_notes_are_told_before_a_run(made):
    folder = made("hidden_notes")
    checked = call("data", "check", str(folder))
    for text in (checked.out + checked.err, planned(folder, "--ratio", "50")):
        assert "ribosome" in text
        assert "ice" in text


def test_a_data_set_without_a_pool_is_refused_before_training(made):
    done = call("run", "--data", str(made("empty_pool")), "--ratio", "5", "--tile-px", "64")
    assert done.code == 2
    assert done.err.count("\n") == 1
