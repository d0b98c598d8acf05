"""Label maps against pycocotools and against a disc drawn pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from cryossl.data.coco.dataset import rasterise, read_dataset
from cryossl.data.coco.geometry import NoAreaError, read_shape
from cryossl.data.coco.records import Particles

# pycocotools 2.0.11 has not learnt numpy 2's __array__(copy=...).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NONE = np.zeros((0, 4))


def slow_disc(box, height, width, scale, fraction):
    y, x, h, w = (side * scale for side in box)
    radius = fraction * (h + w) / 4
    return np.array(
        [
            [
                (i + 0.5 - y - h / 2) ** 2 + (j + 0.5 - x - w / 2) ** 2 <= radius**2
                for j in range(width)
            ]
            for i in range(height)
        ],
        dtype=np.uint8,
    )


@given(
    st.tuples(st.integers(-20, 50), st.integers(-20, 50), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.25, 0.5, 1.0, 0.37]),
    st.sampled_from([0.33, 1.0, 1.5]),
)
def test_a_disc_equals_the_one_drawn_pixel_by_pixel(box, scale, fraction):
    drawn = rasterise(
        Particles(np.array([box], dtype=np.float64)),
        height_px=31,
        width_px=37,
        scale=scale,
        particle_radius_fraction=fraction,
    )
    np.testing.assert_array_equal(drawn, slow_disc(box, 31, 37, scale, fraction))


def test_a_disc_is_about_pycocotools_polygon_with_many_corners():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    polygon = np.stack([60 + 30 * np.cos(angle), 50 + 30 * np.sin(angle)], axis=1).ravel().tolist()
    drawn = coco_mask.decode(coco_mask.frPyObjects([polygon], 100, 120))[..., 0]
    disc = rasterise(
        Particles(np.array([[20.0, 30.0, 60.0, 60.0]])),
        height_px=100,
        width_px=120,
        scale=1.0,
        particle_radius_fraction=1.0,
    )
    # Only pixels on the rim may differ; a shift of one pixel would change about 120.
    assert np.count_nonzero(disc != drawn) < 60
    assert abs(int(disc.sum()) - np.pi * 900) < 30


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [[3.0, 4.0, 30.0, 6.0, 17.0, 28.0], [40.0, 10.0, 60.0, 10.0, 60.0, 35.5, 40.0, 35.5]]
    outline = read_shape({"segmentation": polygons}, height_px=50, width_px=70)
    drawn = rasterise(
        Particles(NONE, (outline,)),
        height_px=50,
        width_px=70,
        scale=1.0,
        particle_radius_fraction=1.0,
    )
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 50, 70)))
    np.testing.assert_array_equal(drawn, expected)


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.booleans(),
)
def test_run_lengths_are_decoded_as_pycocotools_encoded_them(
    height, width, seed, share, compressed
):
    mask = np.asfortranarray(np.random.default_rng(seed).random((height, width)) < share).astype(
        np.uint8, order="F"
    )
    encoded = coco_mask.encode(mask)
    runs = np.flatnonzero(np.diff(np.concatenate([[2], mask.ravel(order="F"), [2]])))
    plain = ([0] if mask[0, 0] else []) + np.diff(runs).tolist()
    counts = encoded["counts"].decode() if compressed else plain
    segmentation = {"size": [height, width], "counts": counts}
    if not mask.any():
        with pytest.raises(NoAreaError):
            read_shape({"segmentation": segmentation}, height_px=height, width_px=width)
        return
    outline = read_shape({"segmentation": segmentation}, height_px=height, width_px=width)
    drawn = rasterise(
        Particles(NONE, (outline,)),
        height_px=height,
        width_px=width,
        scale=1.0,
        particle_radius_fraction=1.0,
    )
    np.testing.assert_array_equal(drawn, mask)


def test_a_reduced_outline_covers_what_half_of_its_block_covers():
    mask = np.zeros((8, 8), dtype=np.uint8, order="F")
    mask[:4, :2] = 1
    mask[4, 4] = 1
    outline = coco_mask.encode(mask)
    drawn = rasterise(
        Particles(NONE, (outline,)),
        height_px=2,
        width_px=2,
        scale=0.25,
        particle_radius_fraction=1.0,
    )
    np.testing.assert_array_equal(drawn, [[1, 0], [0, 0]])


@pytest.mark.parametrize(("source", "share"), [("10017", 0.336), ("10028", 0.202)])
def test_the_foreground_of_real_micrographs_is_the_documented_one(coco_public, source, share):
    dataset = read_dataset(coco_public, border=0, max_megapixels=256)
    maps = [
        rasterise(
            part.particles[micrograph.id],
            height_px=micrograph.height_px // 2,
            width_px=micrograph.width_px // 2,
            scale=0.5,
            particle_radius_fraction=1.0,
        )
        for part in dataset.parts.values()
        for micrograph in part.micrographs
        if micrograph.source == source
    ]
    assert np.mean([label_map.mean() for label_map in maps]) == pytest.approx(share, abs=0.01)
