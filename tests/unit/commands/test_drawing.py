"""Micrographs with their labels drawn on them: what is outlined, what is framed, and which are shown."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image
from small_stores import dataset, make_data  # noqa: F401 (a fixture)

from cryossl.commands.drawing import SIDE_PX, particle_pictures
from cryossl.config import InputSettings
from cryossl.data.coco.dataset import rasterise
from cryossl.data.labels import PARTICLE
from cryossl.selftraining.records.pictures import BLUE, VERMILLION

SETTINGS = InputSettings()


def drawn(dataset, count=100):  # noqa: F811
    return {
        one.name: one.picture for one in particle_pictures(dataset, count=count, settings=SETTINGS)
    }


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, np.uint8)).all(axis=2)


def test_the_outline_is_the_rim_of_the_discs_and_leaves_their_inside_to_be_seen(dataset):  # noqa: F811
    picture = drawn(dataset)["train_b_2"]  # its source has no band
    disc = (
        rasterise(
            dataset.train.particles["train/b_2.png"],
            height_px=72,
            width_px=96,
            scale=1.0,
            particle_radius_fraction=1.0,
        )
        == PARTICLE
    )
    outline = has(picture, VERMILLION)
    assert outline.any()
    assert not (outline & ~disc).any()
    assert (disc & ~outline).any()
    inner = disc[1:-1, 1:-1] & disc[:-2, 1:-1] & disc[2:, 1:-1] & disc[1:-1, :-2] & disc[1:-1, 2:]
    assert (outline[1:-1, 1:-1] == (disc[1:-1, 1:-1] & ~inner)).all()


def test_the_unlabelled_band_is_framed(dataset):  # noqa: F811
    frame = has(drawn(dataset)["train_a_1"], BLUE)
    rows, columns = np.nonzero(frame)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 72 - 1 - 6, 6, 96 - 1 - 6)
    assert not has(drawn(dataset)["train_b_2"], BLUE).any()


def test_unlabelled_and_empty_micrographs_have_no_outline(dataset):  # noqa: F811
    pictures = drawn(dataset)
    assert not has(pictures["train_a_2"], VERMILLION).any()
    assert not has(pictures["train_b_1"], VERMILLION).any()


def test_labelled_ones_come_first_and_sources_take_turns(dataset):  # noqa: F811
    names = list(drawn(dataset))
    assert names[-1] == "train_a_2"  # the only unlabelled one
    assert [name.split("_")[1] for name in names[:4]] == ["a", "b", "a", "b"]
    assert list(drawn(dataset, count=2)) == names[:2]
    assert len(drawn(dataset)) == 6


def test_a_large_micrograph_is_reduced_with_its_labels(tmp_path):
    small = make_data(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (1500, 3 * SIDE_PX), dtype=np.uint8)
    Image.fromarray(picture).save(small.train.micrographs[0].path)
    wide = dataclasses.replace(small.train.micrographs[0], height_px=1500, width_px=3 * SIDE_PX)
    train = dataclasses.replace(small.train, micrographs=(wide,))
    shown = drawn(dataclasses.replace(small, train=train), count=1)["train_a_1"]
    assert shown.shape == (500, SIDE_PX, 3)
    rows, columns = np.nonzero(has(shown, VERMILLION))
    # Boxes at (10, 20) and (50, 60), 8 px wide: discs round (14, 24) and (54, 64), at a third of
    # the size.
    assert rows.min() >= 10 // 3 - 1
    assert rows.max() <= 58 // 3 + 1
    assert columns.max() <= 68 // 3 + 1


def test_a_picture_that_is_one_line_is_drawn(dataset):  # noqa: F811
    micrograph = dataset.train.micrographs[0]
    Image.fromarray(np.arange(3000, dtype=np.uint8)[None] % 251).save(micrograph.path)
    thin = dataclasses.replace(micrograph, height_px=1, width_px=3000)
    part = dataclasses.replace(dataset.train, micrographs=(thin,), particles={})
    alone = dataclasses.replace(dataset, train=part, validation=part, test=None)
    assert next(iter(drawn(alone, count=1).values())).shape == (1, SIDE_PX, 3)
