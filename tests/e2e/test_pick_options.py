"""What options of `pick` change in its files: the count of rows, spacing, masks, names of options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from picked_micrographs import collection
from PIL import Image
from scipy.spatial.distance import pdist
from typed_commands import Done, call
from untrained_models import write_model

from cryossl.network.picking_model import LabelReading, read

PLAIN = LabelReading(flip_y=False, flip_x=False, swap_xy=False, scale=1.0, corner=False)
FLIPPED = PLAIN.model_copy(update={"flip_y": True})
HEIGHT = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    collection(folder / "mics", names=("a", "b"), height=HEIGHT)
    for name, reading in {
        "none": None,
        "plain": PLAIN,
        "flipped": FLIPPED,
        "scaled": PLAIN.model_copy(update={"scale": 2.0, "swap_xy": True}),
    }.items():
        write_model(folder / f"{name}.safetensors", reading=reading)
    return folder


def picked(place: Path, to: Path, *options: str, model: str = "none") -> tuple[Done, pd.DataFrame]:
    done = call(
        *("pick", str(place / "mics"), "--to", str(to), "--no-track", "--format", "csv,mask"),
        *("--model", str(place / f"{model}.safetensors"), *options),
    )
    assert done.code == 0, done.err
    return done, pd.read_csv(to / "picks.csv")


def y_of(table: pd.DataFrame) -> np.ndarray:
    return table.iloc[:, 2].to_numpy()


@pytest.fixture(scope="module")
def from_the_first(place, tmp_path_factory) -> np.ndarray:
    """Rows of the picks as the file has them."""
    return y_of(picked(place, tmp_path_factory.mktemp("picks"))[1])


@pytest.mark.parametrize(
    ("model", "options", "flips", "said"),
    [
        ("none", (), False, ""),
        ("none", ("--flip-y",), True, ""),
        ("plain", (), False, ""),
        ("plain", ("--flip-y",), True, "rows are counted from the last one, as asked;"),
        ("flipped", (), True, "as in the labels that the model learned from; --no-flip-y"),
        ("flipped", ("--no-flip-y",), False, "rows are counted from the first one, as asked;"),
        ("flipped", ("--flip-y",), True, ""),
    ],
)
def test_rows_are_counted_as_in_the_labels_unless_asked(
    place, tmp_path, from_the_first, model, options, flips, said
):
    done, table = picked(place, tmp_path / "p", *options, model=model)
    expected = HEIGHT - 1 - from_the_first if flips else from_the_first
    np.testing.assert_allclose(y_of(table), expected, atol=0.01)
    assert said in done.out
    assert ("rows are counted" in done.out) == bool(said)


def test_what_else_was_done_to_the_labels_is_said(place, tmp_path, from_the_first):
    done, table = picked(place, tmp_path / "p", model="scaled")
    assert "were read with x and y exchanged, scaled by 2; picks are centres in px" in done.out
    np.testing.assert_allclose(y_of(table), from_the_first, atol=0.01)


def test_a_spacing_keeps_picks_apart(place, tmp_path):
    _, table = picked(place, tmp_path / "p", "--min-spacing", "1.5")
    for _, rows in table.groupby(table.columns[0]):
        assert pdist(rows.iloc[:, [1, 2]].to_numpy()).min() >= 1.5 * 12 - 0.02
    counts = json.loads((tmp_path / "p" / "counts.json").read_text())
    assert sum(row["picks"] for row in counts) == len(table)


def test_masks_are_made_only_where_they_are_asked_for_and_then_at_any_time(place, tmp_path):
    to = tmp_path / "p"
    picked(place, to, "--format", "csv")
    assert not list(to.rglob("*.png"))
    assert not list(to.rglob("*.mask"))
    picked(place, to)
    masks = sorted(to.rglob("*_mask.png"))
    assert len(masks) == 2
    for path in masks:
        with Image.open(path) as mask:
            assert (mask.mode, mask.size) == ("L", (256, HEIGHT))
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
    before = [path.read_bytes() for path in masks]
    for path in [*masks, *to.rglob("*.mask")]:
        path.unlink()
    picked(place, to)
    assert [path.read_bytes() for path in masks] == before


def test_files_of_a_micrograph_with_an_absolute_name_lie_below_the_folder_of_the_picks(
    place, tmp_path
):
    beside = set((place / "mics").iterdir())
    absolute = place / "mics" / "a.mrc"
    listing = tmp_path / "listed.star"
    listing.write_text(f"data_\n\nloop_\n_rlnMicrographName #1\n{absolute}\n")
    done = call(
        *("pick", str(listing), "--to", str(tmp_path / "p"), "--no-track"),
        *("--format", "star,box,cbox,csv,mask", "--model", str(place / "none.safetensors")),
    )
    assert done.code == 0, done.err
    assert set((place / "mics").iterdir()) == beside
    below = tmp_path / "p" / absolute.relative_to("/").parent
    endings = ("_autopick.star", ".box", ".cbox", "_mask.png")
    assert sorted(below.iterdir()) == sorted(below / f"a{ending}" for ending in endings)
    # In the tables the name stays as the list has it: RELION compares names as text.
    assert set(pd.read_csv(tmp_path / "p" / "picks.csv").iloc[:, 0]) == {str(absolute)}


def test_the_diameter_may_be_given_by_both_names(place, tmp_path):
    size = ("--pixel-size", "2")
    _, first = picked(place, tmp_path / "a", "--diameter-angstrom", "30", *size)
    _, second = picked(place, tmp_path / "b", "--particle-diameter-angstrom", "30", *size)
    assert len(first) > 0
    pd.testing.assert_frame_equal(first, second)
    absent = str(tmp_path / "absent.star")
    imported = call(
        *(
            "data",
            "import",
            absent,
            "--micrographs",
            str(place / "mics"),
            "--to",
            str(tmp_path / "d"),
        ),
        *("--particle-diameter-angstrom", "30"),
    )
    assert "absent.star" in imported.err
    for command in ("pick", "data import"):
        assert "--particle-diameter" not in call(*command.split(), "--help").out


def test_a_file_without_a_reading_is_that_of_older_versions_and_one_with_it_is_read_back(place):
    assert read(place / "none.safetensors").description.reading is None
    assert b"reading" not in (place / "none.safetensors").read_bytes()
    assert read(place / "flipped.safetensors").description.reading == FLIPPED


def test_where_nothing_can_be_picked_the_files_of_an_earlier_pick_stay(place, tmp_path):
    to = tmp_path / "p"
    picked(place, to)
    before = {path: path.read_bytes() for path in to.rglob("*") if path.is_file()}
    (tmp_path / "torn.mrc").write_bytes(b"no picture")
    done = call(
        *("pick", str(tmp_path / "torn.mrc"), "--to", str(to), "--no-track"),
        *("--format", "csv,mask", "--model", str(place / "none.safetensors")),
        *("--diameter-px", "20"),
    )
    assert done.code == 4
    assert "none of 1 micrographs could be picked" in done.err
    assert {path: path.read_bytes() for path in before} == before
