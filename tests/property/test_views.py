"""A map by eight views turns with its picture; a map by one view does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryossl.config_file import build
from cryossl.data.tiling import Tile, tile_grid
from cryossl.network import architecture as networks
from cryossl.network.calibration import Views
from cryossl.network.prediction import predict
from cryossl.progress.events import silent

TILE_PX = 16
NETWORK = networks.build(build({"decoder_width": 4}).network, seed=3).eval()


class Shown:
    """One picture as prediction needs it."""

    tile_px = TILE_PX

    def __init__(self, picture: np.ndarray) -> None:
        self._picture = picture

    def picture(self, micrograph: str) -> np.ndarray:
        assert micrograph == "m"
        return self._picture

    def tiles(self, item: str) -> tuple[Tile, ...]:
        height, width = self._picture.shape
        return tile_grid(micrograph=item, height_px=height, width_px=width, tile_px=TILE_PX)


def predicted(network: torch.nn.Module, picture: np.ndarray) -> np.ndarray:
    ((_, p8),) = predict(
        network,
        Shown(np.ascontiguousarray(picture)),
        ["m"],
        batch_size=2,
        device=torch.device("cpu"),
        precision="fp32",
        report=silent,
    )
    return p8


def turned(picture: np.ndarray, turns: int, *, mirrored: bool) -> np.ndarray:
    return np.rot90(np.fliplr(picture) if mirrored else picture, turns)


@given(
    seed=st.integers(0, 2**20),
    sides=st.tuples(*[st.sampled_from([TILE_PX, 2 * TILE_PX])] * 2),
    turns=st.integers(0, 3),
    mirrored=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_map_by_eight_views_turns_with_the_picture(seed, sides, turns, mirrored):
    """To a level of 255: sums in another order may round otherwise."""
    picture = np.random.default_rng(seed).integers(0, 256, sides, dtype=np.uint8)
    eight = Views(NETWORK, 8)
    straight = turned(predicted(eight, picture), turns, mirrored=mirrored)
    found = predicted(eight, turned(picture, turns, mirrored=mirrored))
    assert np.abs(found.astype(int) - straight.astype(int)).max() <= 1


@pytest.mark.parametrize(("turns", "mirrored"), [(1, False), (2, False), (0, True)])
def test_the_map_by_one_view_does_not_so_that_the_check_above_can_fail(turns, mirrored):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    straight = turned(predicted(NETWORK, picture), turns, mirrored=mirrored)
    found = predicted(NETWORK, turned(picture, turns, mirrored=mirrored))
    assert np.abs(found.astype(int) - straight.astype(int)).max() > 1
