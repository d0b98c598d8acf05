"""The store: what it holds, at which scale, in which tiles."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from small_stores import BOX, make_store

from cryossl.data.coco.dataset import DataSet, Part, Particles, rasterise
from cryossl.data.images import normalise, read_picture, resize
from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.data.store.store import PixelFile
from cryossl.errors import DataError

# What it holds


def test_a_picture_is_decoded_reduced_and_normalised(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    decoded = read_picture(dataset.train.micrographs[0].path, max_megapixels=1)
    expected = normalise(resize(decoded, height_px=36, width_px=48))
    np.testing.assert_array_equal(store.picture("train/a_1.png"), expected)


def test_truth_is_the_particles_at_the_store_s_scale(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work", particle_radius_fraction=0.8)
    expected = rasterise(
        dataset.train.particles["train/a_1.png"],
        height_px=36,
        width_px=48,
        scale=0.5,
        particle_radius_fraction=0.8,
    )
    assert expected.any()
    np.testing.assert_array_equal(store.truth("train/a_1.png", border=False), expected)


def test_centres_are_where_the_discs_are_at_the_store_s_scale(
    dataset: DataSet, tmp_path: Path
) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert store.centres("train/a_1.png").tolist() == [[7.0, 12.0], [27.0, 32.0]]
    assert (
        store.centres("train/b_2.png").tolist()
        == store.centres("test/b_3.png").tolist()
        == [[7.0, 12.0]]
    )
    assert store.centres("train/b_1.png").shape == (0, 2)
    with pytest.raises(DataError, match="unlabelled"):
        store.centres("train/a_2.png")


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools with NumPy 2
def test_an_outline_s_centre_is_that_of_the_box_round_it(dataset: DataSet, tmp_path: Path) -> None:
    drawn = np.zeros((72, 96), np.uint8, order="F")
    drawn[30:40, 50:70] = 1
    outlined = Particles(boxes=np.array([BOX]), outlines=(coco_mask.encode(drawn),))
    train = dataclasses.replace(
        dataset.train, particles={**dataset.train.particles, "train/b_1.png": outlined}
    )
    store = make_store(dataclasses.replace(dataset, train=train), tmp_path / "work")
    assert store.centres("train/b_1.png").tolist() == [[7.0, 12.0], [17.5, 30.0]]
    assert store.centres("train/b_2.png").tolist() == [[7.0, 12.0]]


def test_the_diameter_is_that_of_the_source_at_the_store_s_scale(
    dataset: DataSet, tmp_path: Path
) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert [store.diameter_px(name) for name in ("train/a_1.png", "train/b_2.png")] == [4.0, 8.0]
    one = make_store(dataclasses.replace(dataset, diameter_px={"a": 8.0}), tmp_path / "work")
    assert one.diameter_px("train/b_2.png") == 4.0
    assert one.key == store.key
    with pytest.raises(DataError, match="no labelled particle"):
        make_store(dataclasses.replace(dataset, diameter_px={}), tmp_path / "work").diameter_px(
            "train/b_2.png"
        )


def test_a_store_from_before_centres_were_kept_is_completed(
    dataset: DataSet, tmp_path: Path
) -> None:
    first = make_store(dataset, tmp_path / "work")
    (first.folder / "centres.f8").unlink()
    again = make_store(dataset, tmp_path / "work")
    assert (again.key, again.centres("train/a_1.png").tolist()) == (
        first.key,
        first.centres("train/a_1.png").tolist(),
    )


def test_the_unlabelled_border_is_ignored_on_request(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    without, bordered = (store.truth("train/a_1.png", border=border) for border in (False, True))
    assert store.micrographs["train/a_1.png"].border_px == 3
    np.testing.assert_array_equal(bordered[3:-3, 3:-3], without[3:-3, 3:-3])
    assert np.count_nonzero(bordered == IGNORE) == 36 * 48 - 30 * 42
    assert not (without == IGNORE).any()


def test_a_source_without_a_border_has_no_pixel_ignored(dataset: DataSet, tmp_path: Path) -> None:
    assert not (
        make_store(dataset, tmp_path / "work").truth("train/b_2.png", border=True) == IGNORE
    ).any()


def test_an_unlabelled_micrograph_has_no_truth(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert not store.micrographs["train/a_2.png"].annotated
    with pytest.raises(DataError, match="unlabelled"):
        store.truth("train/a_2.png", border=False)
    with pytest.raises(DataError, match="unlabelled"):
        store.particle_ratio(["train/a_2.png"])


def test_an_empty_micrograph_is_annotated_background(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert store.micrographs["train/b_1.png"].annotated
    assert store.micrographs["train/b_1.png"].particle_count == 0
    assert not store.truth("train/b_1.png", border=False).any()


def test_micrographs_are_ordered_by_part_and_id(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    assert [(name, stored.part) for name, stored in store.micrographs.items()] == [
        ("train/a_1.png", "train"),
        ("train/a_2.png", "train"),
        ("train/b_1.png", "train"),
        ("train/b_2.png", "train"),
        ("val/a_3.png", "validation"),
        ("test/b_3.png", "test"),
    ]
    assert store.micrographs["train/a_1.png"].particle_count == 2


def test_a_picture_cannot_be_written_to(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_store(dataset, tmp_path / "work").picture("train/a_1.png")[0, 0] = 1


def test_a_data_set_without_any_annotation_can_be_stored(dataset: DataSet, tmp_path: Path) -> None:
    bare = DataSet(
        root=dataset.root,
        train=Part(micrographs=dataset.train.micrographs, particles={}),
        validation=Part(micrographs=(), particles={}),
        test=None,
        border_px={},
        diameter_px={},
        notes=(),
    )
    store = make_store(bare, tmp_path / "work")
    assert store.picture("train/b_2.png").shape == (36, 48)
    assert not any(stored.annotated for stored in store.micrographs.values())


# Scale and tile


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"image_px": 48}, 0.5),
        ({"image_px": 1000}, 1.0),
        ({"image_px": 0}, 1.0),
        ({"particle_diameter_px": 4.0}, 0.5),
        ({"particle_diameter_px": 12.0}, 1.5),
        ({"particle_diameter_px": 12.0, "tile_px": 0}, 0.5),
    ],
)
def test_the_scale_follows_the_settings(
    dataset: DataSet, tmp_path: Path, changes: dict[str, object], scale: float
) -> None:
    stored = make_store(dataset, tmp_path / "work", **changes).micrographs["train/a_1.png"]
    assert (stored.scale, stored.height_px, stored.width_px) == (scale, 72 * scale, 96 * scale)


def test_a_source_without_particles_is_scaled_as_the_others_and_it_is_said(
    dataset: DataSet, tmp_path: Path
) -> None:
    unmeasured = dataclasses.replace(dataset, diameter_px={"a": 8.0})
    store = make_store(unmeasured, tmp_path / "work", particle_diameter_px=4.0)
    assert store.micrographs["train/b_1.png"].scale == 0.5
    assert len(store.notes) == 1
    assert "source b" in store.notes[0]


def test_no_particle_at_all_leaves_nothing_to_scale_by(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled particle"):
        make_store(
            dataclasses.replace(dataset, diameter_px={}),
            tmp_path / "work",
            particle_diameter_px=4.0,
        )


@pytest.mark.parametrize(
    ("changes", "multiple", "tile_px"),
    [
        ({"tile_px": 32}, 8, 32),
        ({"tile_px": 30}, 8, 32),
        ({"tile_px": 500}, 8, 48),
        ({"tile_px": 500}, 32, 64),
        ({"tile_px": 0}, 8, 48),
        ({"tile_px": 0, "image_px": 0}, 8, 96),
    ],
)
def test_the_tile_fits_the_pictures_and_the_network(
    dataset: DataSet, tmp_path: Path, changes: dict[str, object], multiple: int, tile_px: int
) -> None:
    assert (
        make_store(dataset, tmp_path / "work", network_multiple=multiple, **changes).tile_px
        == tile_px
    )


def test_tiles_are_found_by_micrograph_and_by_name(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    tiles = store.tiles("train/a_1.png")
    assert [(tile.y, tile.x) for tile in tiles] == [(0, 0), (0, 16), (4, 0), (4, 16)]
    assert store.tiles(tiles[2].id) == (tiles[2],)
    with pytest.raises(KeyError):
        store.tiles("train/a_1.png@1,1")


# Particle ratio


def test_the_particle_ratio_is_pooled_over_micrographs(dataset: DataSet, tmp_path: Path) -> None:
    store = make_store(dataset, tmp_path / "work")
    maps = [store.truth(name, border=True) for name in ("train/a_1.png", "train/b_1.png")]
    expected = sum(int((one == PARTICLE).sum()) for one in maps) / sum(
        int((one != IGNORE).sum()) for one in maps
    )
    assert 0 < expected < 1
    assert store.particle_ratio(["train/a_1.png", "train/b_1.png"]) == expected


def test_the_particle_ratio_of_all_tiles_is_that_of_the_micrograph(
    dataset: DataSet, tmp_path: Path
) -> None:
    store = make_store(dataset, tmp_path / "work")
    tiles = [tile.id for tile in store.tiles("train/a_1.png")]
    for border in (True, False):
        assert store.particle_ratio(tiles, border=border) == store.particle_ratio(
            ["train/a_1.png"], border=border
        )
    assert store.particle_ratio(tiles[:1]) != store.particle_ratio(tiles[1:])
    assert store.particle_ratio(tiles, border=True) != store.particle_ratio(tiles, border=False)


def test_the_particle_ratio_of_nothing_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotated pixel"):
        make_store(dataset, tmp_path / "work").particle_ratio([])


# Memory


def test_walking_through_a_large_file_keeps_memory_flat(tmp_path: Path) -> None:
    path = tmp_path / "pictures.u8"
    side, count = 1024, 400
    with path.open("wb") as stream:
        stream.truncate(count * side * side)
    pixels = PixelFile(path, count * side * side)
    before = resident_bytes()
    for index in range(count):
        assert not pixels.view(index * side * side, side, side).any()
    assert resident_bytes() - before < 100 * 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
