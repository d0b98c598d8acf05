"""The store: data that cannot be stored, damaged files, a full disk."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_stores import make_store, tree

from cryossl.data.coco.dataset import DataSet, Part
from cryossl.data.store.store import open_store
from cryossl.errors import ChangedDataError, DataError, StorageError
from cryossl.progress.events import Progress


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"particle_diameter_px": 400.0}, "once rescaled"),
        ({"image_px": 8}, "leaves nothing"),
    ],
)
def test_a_micrograph_that_cannot_be_used_is_named(
    dataset: DataSet, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    wide = dataclasses.replace(dataset, border_px={"a": 40})
    with pytest.raises(DataError, match=f"train/a_1.png: .*{message}"):
        make_store(wide, tmp_path / "work", max_megapixels=1.0, **changes)


def test_a_data_set_without_micrographs_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    empty = Part(micrographs=(), particles={})
    with pytest.raises(DataError, match="no micrograph"):
        make_store(
            dataclasses.replace(dataset, train=empty, validation=empty, test=None),
            tmp_path / "work",
        )


def test_a_picture_in_two_parts_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    shutil.copy(dataset.root / "train/a_1.png", dataset.root / "test/b_3.png")
    with pytest.raises(DataError, match="are the same picture, in train and in test"):
        make_store(dataset, tmp_path / "work")


def test_a_picture_of_another_size_than_announced_is_refused(
    dataset: DataSet, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(dataset.root / "val/a_3.png")
    with pytest.raises(DataError, match=r"a_3\.png: 10 x 10 px instead of 72 x 96"):
        make_store(dataset, tmp_path / "work")


def test_a_missing_picture_is_named(dataset: DataSet, tmp_path: Path) -> None:
    (dataset.root / "val/a_3.png").unlink()
    with pytest.raises(DataError, match=r"a_3\.png: No such file"):
        make_store(dataset, tmp_path / "work")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: Image.fromarray(np.zeros((72, 96), dtype=np.uint8)).save(path),
        lambda path: Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(path),
        lambda path: os.truncate(path, 200),
        lambda path: path.write_text("no picture"),
        lambda path: path.unlink(),
    ],
    ids=["another", "smaller", "cut", "text", "gone"],
)
def test_a_picture_that_changes_between_hashing_and_decoding_is_refused_with_code_4(
    dataset: DataSet, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = dataset.root / "train/b_2.png"

    def disturb(event: Progress) -> None:
        if event.phase == "hash":
            change(path)

    with pytest.raises(ChangedDataError, match=r"b_2\.png.*(changed|No such file)") as caught:
        make_store(dataset, tmp_path / "work", report=disturb)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / "pictures.u8", 100),
        lambda folder: (folder / "truth.u8").unlink(),
        lambda folder: os.truncate(folder / "centres.f8", 8),
        lambda folder: (folder / "index.json").unlink(),
        lambda folder: (folder / "index.json").write_text("{"),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: (folder / "index.json").write_text('{"micrographs": [{"id": 1}]}'),
    ],
    ids=[
        "short pictures",
        "no truth",
        "short centres",
        "no index",
        "torn index",
        "list index",
        "foreign index",
    ],
)
def test_a_damaged_store_is_refused(
    dataset: DataSet, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = make_store(dataset, tmp_path / "work").folder
    damage(folder)
    with pytest.raises(StorageError, match="remove"):
        open_store(folder, border_px={})


@pytest.mark.parametrize("name", ["pictures.u8", "truth.u8", "centres.f8", "index.json"])
def test_a_store_with_one_changed_byte_is_made_again_and_says_so(
    dataset: DataSet, tmp_path: Path, name: str
) -> None:
    whole = make_store(dataset, tmp_path / "work")
    before = tree(whole.folder)
    path = whole.folder / name
    content = bytearray(path.read_bytes())
    # In the index a digit is changed, so that it can still be read.
    place = content.rindex(b'"scale": 0.5') + 10 if name == "index.json" else len(content) // 2
    content[place] ^= 1
    path.write_bytes(content)
    again = make_store(dataset, tmp_path / "work")
    assert tree(again.folder) == before
    assert [note for note in again.notes if "damaged" in note] != []
    assert make_store(dataset, tmp_path / "work").notes == whole.notes


def test_random_damage_never_reaches_a_training(
    dataset: DataSet, tmp_path: Path, note: Callable[..., None], size: Callable[..., int]
) -> None:
    whole = make_store(dataset, tmp_path / "work")
    before, ways = tree(whole.folder), size(bounded=24, long=1000)
    names = ("pictures.u8", "truth.u8", "centres.f8", "index.json")
    for number in range(ways):
        rng = np.random.default_rng(number)
        path = whole.folder / names[number % len(names)]
        content = bytearray(path.read_bytes())
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        assert any("damaged" in line for line in make_store(dataset, tmp_path / "work").notes)
        assert tree(whole.folder) == before
    note(
        "decoded store damaged",
        ran=f"{ways} times one bit of pictures, labels, centres or index flipped",
        found=f"{ways} found and made again, byte for byte; 0 used",
        bar="0 used",
    )


def test_a_store_that_does_not_fit_says_so_and_can_be_made_later(
    dataset: DataSet, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write the store"):
            make_store(dataset, tmp_path / "work")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(make_store(dataset, tmp_path / "work").folder) == tree(
        make_store(dataset, tmp_path / "other").folder
    )
