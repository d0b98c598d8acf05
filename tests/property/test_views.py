"""A map by eight views turns with its picture; a map by one view does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted_maps import TILE_PX, predicted

from cryossl.config_file import build
from cryossl.network import architecture as networks
from cryossl.network.calibration import Views

NETWORK = networks.build(build({"decoder_width": 4}).network, seed=3).eval()


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
