"""The store's key: what it depends on, and that a store is found again by it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_stores import BOX, make_store, tree

from cryossl.data.coco.dataset import DataSet, Part, Particles
from cryossl.data.store.store import open_store
from cryossl.progress.events import Progress


def test_a_second_start_decodes_nothing(dataset: DataSet, tmp_path: Path) -> None:
    first = make_store(dataset, tmp_path / "work")
    events: list[Progress] = []
    second = make_store(dataset, tmp_path / "work", report=events.append)
    assert [event.phase for event in events] == ["hash"]
    assert (second.key, second.micrographs, second.folder) == (
        first.key,
        first.micrographs,
        first.folder,
    )


def test_opening_a_store_gives_what_building_it_gave(dataset: DataSet, tmp_path: Path) -> None:
    built = make_store(dataset, tmp_path / "work")
    opened = open_store(built.folder, border_px=dataset.border_px)
    assert (opened.key, opened.tile_px, opened.micrographs) == (
        built.key,
        built.tile_px,
        built.micrographs,
    )
    np.testing.assert_array_equal(opened.picture("test/b_3.png"), built.picture("test/b_3.png"))


def flip_one_byte(dataset: DataSet) -> DataSet:
    path = dataset.root / "val/a_3.png"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return dataset


def replaced_box(dataset: DataSet, name: str, boxes: list[tuple[float, ...]]) -> DataSet:
    particles = {**dataset.train.particles, name: Particles(boxes=np.array(boxes), outlines=())}
    return dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, particles=particles)
    )


@pytest.mark.parametrize(
    "change",
    [
        flip_one_byte,
        lambda dataset: replaced_box(dataset, "train/b_2.png", [(10.0, 20.0, 8.0, 8.5)]),
        lambda dataset: replaced_box(dataset, "train/b_2.png", [BOX, BOX]),
        lambda dataset: replaced_box(dataset, "train/a_2.png", [BOX]),
        lambda dataset: dataclasses.replace(dataset, border_px={"a": 8, "b": 0}),
        lambda dataset: dataclasses.replace(dataset, test=None),
    ],
    ids=["a byte of a file", "a box", "another box", "a label", "the border", "a part"],
)
def test_the_key_changes_with_the_data(
    dataset: DataSet, tmp_path: Path, change: Callable[[DataSet], DataSet]
) -> None:
    before = make_store(dataset, tmp_path / "work")
    after = make_store(change(dataset), tmp_path / "work")
    assert after.key != before.key
    # The border is measured on the labels: it shapes the store, but the data are the same.
    assert (after.data_digest == before.data_digest) == (after.folder == before.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"particle_radius_fraction": 0.5},
        {"image_px": 40},
        {"tile_px": 16},
        {"particle_diameter_px": 6.0},
        {"network_multiple": 64},
    ],
    ids=str,
)
def test_the_key_changes_with_a_setting_that_matters(
    dataset: DataSet, tmp_path: Path, changes: dict[str, object]
) -> None:
    other, same = (
        make_store(dataset, tmp_path / "work", **changes),
        make_store(dataset, tmp_path / "work"),
    )
    assert other.key != same.key
    assert other.data_digest == same.data_digest


@pytest.mark.parametrize("changes", [{"max_megapixels": 99.0}, {"tile_px": 30}], ids=str)
def test_the_key_stays_with_a_setting_that_changes_nothing(
    dataset: DataSet, tmp_path: Path, changes: dict[str, object]
) -> None:
    assert (
        make_store(dataset, tmp_path / "work", **changes).key
        == make_store(dataset, tmp_path / "work").key
    )


def touch_all(dataset: DataSet) -> DataSet:
    for path in dataset.root.rglob("*.png"):
        os.utime(path, ns=(0, 0))
    return dataset


def reorder(dataset: DataSet) -> DataSet:
    boxes = {
        name: Particles(boxes=one.boxes[::-1], outlines=one.outlines[::-1])
        for name, one in sorted(dataset.train.particles.items(), reverse=True)
    }
    return dataclasses.replace(
        dataset, train=Part(micrographs=dataset.train.micrographs[::-1], particles=boxes)
    )


def move(dataset: DataSet) -> DataSet:
    root = dataset.root.with_name("elsewhere")
    dataset.root.rename(root)

    def moved(part: Part) -> Part:
        return dataclasses.replace(
            part,
            micrographs=tuple(
                dataclasses.replace(one, path=root / one.id) for one in part.micrographs
            ),
        )

    assert dataset.test is not None
    return dataclasses.replace(
        dataset,
        root=root,
        train=moved(dataset.train),
        validation=moved(dataset.validation),
        test=moved(dataset.test),
    )


@pytest.mark.parametrize("change", [touch_all, reorder, move])
def test_the_key_is_free_of_time_order_and_place(
    dataset: DataSet, tmp_path: Path, change: Callable[[DataSet], DataSet]
) -> None:
    before = make_store(dataset, tmp_path / "work")
    after = make_store(change(dataset), tmp_path / "other")
    assert after.key == before.key
    assert tree(after.folder) == tree(before.folder)


def test_another_border_is_another_key_but_decodes_nothing(
    dataset: DataSet, tmp_path: Path
) -> None:
    first = make_store(dataset, tmp_path / "work")
    events: list[Progress] = []
    second = make_store(
        dataclasses.replace(dataset, border_px={"a": 8}), tmp_path / "work", report=events.append
    )
    assert [event.phase for event in events] == ["hash"]
    assert (second.folder, second.micrographs["val/a_3.png"].border_px) == (first.folder, 4)
    assert second.key != first.key
