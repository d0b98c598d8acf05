"""What holds for the windows of every picture size."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cryossl.data.tiling import tile_grid
from cryossl.network.batches import cut_into

SIDES = st.integers(1, 90)
TILES = st.integers(1, 40)


@given(SIDES, SIDES, TILES)
def test_owned_regions_are_disjoint_and_cover_the_picture(
    height_px: int, width_px: int, tile_px: int
) -> None:
    answered = np.zeros((height_px, width_px), dtype=np.int64)
    for tile in tile_grid(micrograph="m", height_px=height_px, width_px=width_px, tile_px=tile_px):
        y0, y1, x0, x1 = tile.own
        answered[y0:y1, x0:x1] += 1
    assert (answered == 1).all()


@given(SIDES, SIDES, TILES)
def test_a_tile_sees_every_pixel_it_owns(height_px: int, width_px: int, tile_px: int) -> None:
    for tile in tile_grid(micrograph="m", height_px=height_px, width_px=width_px, tile_px=tile_px):
        y0, y1, x0, x1 = tile.own
        assert 0 <= tile.y <= y0 < y1 <= tile.y + tile_px
        assert 0 <= tile.x <= x0 < x1 <= tile.x + tile_px


@given(SIDES, SIDES, TILES)
def test_windows_stay_inside_unless_the_picture_is_smaller(
    height_px: int, width_px: int, tile_px: int
) -> None:
    for tile in tile_grid(micrograph="m", height_px=height_px, width_px=width_px, tile_px=tile_px):
        assert tile.y + tile_px <= max(height_px, tile_px)
        assert tile.x + tile_px <= max(width_px, tile_px)


@given(SIDES, SIDES, TILES)
def test_there_are_no_more_windows_than_needed(height_px: int, width_px: int, tile_px: int) -> None:
    tiles = tile_grid(micrograph="m", height_px=height_px, width_px=width_px, tile_px=tile_px)
    assert len(tiles) == -(-height_px // tile_px) * -(-width_px // tile_px)
    assert len({tile.id for tile in tiles}) == len(tiles)


@given(SIDES, SIDES, TILES, st.integers(0, 2**31))
def test_a_picture_put_together_from_its_windows_is_the_picture(
    height_px: int, width_px: int, tile_px: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height_px, width_px), dtype=np.uint8)
    assembled = np.zeros_like(picture)
    for tile in tile_grid(micrograph="m", height_px=height_px, width_px=width_px, tile_px=tile_px):
        window = np.empty((tile_px, tile_px), np.uint8)
        cut_into(window, picture, (tile.y, tile.x), fill=128)
        y0, y1, x0, x1 = tile.own
        assembled[y0:y1, x0:x1] = window[y0 - tile.y : y1 - tile.y, x0 - tile.x : x1 - tile.x]
    np.testing.assert_array_equal(assembled, picture)
