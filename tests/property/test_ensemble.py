"""The map of several networks is the mean of their maps; that of one network is its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted_maps import TILE_PX, predicted

from cryossl.config_file import build
from cryossl.network import architecture as networks
from cryossl.network.calibration import Views

SETTINGS = build({"decoder_width": 4}).network
MEMBERS = [networks.build(SETTINGS, seed=seed).eval() for seed in range(4)]

pictures = st.integers(0, 2**20).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (TILE_PX, 2 * TILE_PX), np.uint8)
)


@given(picture=pictures, chosen=st.permutations(range(4)), count=st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_the_map_of_several_networks_is_the_mean_of_their_maps_in_any_order(picture, chosen, count):
    """To a level of 255: the members' own maps are rounded, and sums in another order too."""
    members = [MEMBERS[place] for place in chosen[:count]]
    found = predicted(networks.together(members), picture).astype(float)
    single = np.stack([predicted(member, picture) for member in members])
    assert np.abs(found - single.mean(axis=0)).max() <= 1
    backwards = predicted(networks.together(members[::-1]), picture).astype(float)
    assert np.abs(found - backwards).max() <= 1


@given(picture=pictures, place=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_one_network_is_itself_bit_for_bit(picture, place):
    member = MEMBERS[place]
    assert np.array_equal(
        predicted(networks.together([member]), picture), predicted(member, picture)
    )
    weights = member.state_dict()
    assert networks.weights_together([weights]) is weights


@given(picture=pictures)
@settings(max_examples=10, deadline=None)
def test_eight_views_of_several_networks_are_the_mean_of_their_eight_views(picture):
    found = predicted(Views(networks.together(MEMBERS[:2]), 8), picture).astype(float)
    single = np.stack([predicted(Views(member, 8), picture) for member in MEMBERS[:2]])
    assert np.abs(found - single.mean(axis=0)).max() <= 1


def test_networks_of_other_weights_have_other_maps_so_that_the_checks_above_can_fail():
    picture = np.random.default_rng(0).integers(0, 256, (TILE_PX, TILE_PX), np.uint8)
    maps = [predicted(member, picture).astype(float) for member in MEMBERS]
    assert min(np.abs(maps[0] - other).max() for other in maps[1:]) > 2


@pytest.mark.parametrize("count", [1, 2, 4])
def test_weights_go_through_one_dictionary_and_back(count):
    weights = networks.weights_together([member.state_dict() for member in MEMBERS[:count]])
    again = networks.together([networks.build(SETTINGS, seed=9) for _ in range(count)])
    again.load_state_dict(weights)
    picture = np.random.default_rng(1).integers(0, 256, (TILE_PX, TILE_PX), np.uint8)
    assert np.array_equal(
        predicted(again, picture), predicted(networks.together(MEMBERS[:count]), picture)
    )
