"""Windows over a micrograph."""

from __future__ import annotations

import pytest

from cryossl.data.tiling import Tile, micrograph_of, tile_grid


def test_a_picture_of_two_and_a_half_tiles_gets_three_evenly_spread_windows() -> None:
    tiles = tile_grid(micrograph="m", height_px=8, width_px=20, tile_px=8)
    assert [(tile.y, tile.x) for tile in tiles] == [(0, 0), (0, 6), (0, 12)]


def test_neighbours_share_their_overlap_half_and_half() -> None:
    tiles = tile_grid(micrograph="m", height_px=8, width_px=20, tile_px=8)
    assert [tile.own for tile in tiles] == [(0, 8, 0, 7), (0, 8, 7, 13), (0, 8, 13, 20)]


def test_a_picture_that_is_an_exact_multiple_is_cut_without_overlap() -> None:
    tiles = tile_grid(micrograph="m", height_px=16, width_px=16, tile_px=8)
    assert [(tile.y, tile.x) for tile in tiles] == [(0, 0), (0, 8), (8, 0), (8, 8)]
    assert tiles[3].own == (8, 16, 8, 16)


def test_a_small_picture_has_one_window_that_runs_over_the_edge() -> None:
    assert tile_grid(micrograph="m", height_px=3, width_px=5, tile_px=8) == (
        Tile("m", 0, 0, (0, 3, 0, 5)),
    )


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        tile_grid(micrograph="m", height_px=0, width_px=5, tile_px=8)


def test_a_tile_is_named_by_its_micrograph_and_origin() -> None:
    tile = Tile("train/a@b.jpg", 12, 7, (0, 1, 0, 1))
    assert tile.id == "train/a@b.jpg@12,7"
    assert micrograph_of(tile.id) == "train/a@b.jpg"


def test_a_micrograph_is_its_own_micrograph() -> None:
    assert micrograph_of("train/10017_x.jpg") == "train/10017_x.jpg"
