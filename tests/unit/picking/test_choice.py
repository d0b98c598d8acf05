"""Candidates become picks by score, spacing and number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from cryossl.evaluation.picking import Picks
from cryossl.picking.choice import Choice, expecting, spaced


def candidates(seed: int, count: int = 60, side: float = 50.0) -> Picks:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(0, 1000, count))[::-1].astype(np.uint16)
    return Picks(rng.uniform(0, side, (count, 2)).astype(np.float32), scores)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spacing=st.floats(0.5, 20))
def test_no_two_picks_are_nearer_than_the_spacing_and_none_is_left_out_without_a_better_one_near(
    seed, spacing
):
    given_ones = candidates(seed)
    kept = spaced(given_ones, spacing)
    apart = cdist(kept.centres.astype(float), kept.centres.astype(float))
    np.fill_diagonal(apart, np.inf)
    assert apart.min(initial=np.inf) >= spacing * (1 - 1e-6)
    away = cdist(given_ones.centres.astype(float), kept.centres.astype(float))
    better = kept.scores[None, :] >= given_ones.scores[:, None]
    assert ((away <= spacing * (1 + 1e-6)) & better).any(axis=1).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.integers(0, 1000))
def test_what_remains_above_a_threshold_does_not_depend_on_what_is_below_it(seed, threshold):
    given_ones = candidates(seed)
    above = given_ones.scores >= threshold
    alone = spaced(Picks(given_ones.centres[above], given_ones.scores[above]), 6.0)
    together = Choice(threshold, spacing=3.0).of(given_ones, diameter_px=2.0)
    np.testing.assert_array_equal(alone.centres, together.centres)


def test_without_a_spacing_the_pickers_own_holds():
    given_ones = candidates(0)
    assert spaced(given_ones, 0.0) is given_ones
    assert len(Choice(0, spacing=0.0).of(given_ones, diameter_px=5.0).scores) == 60
    assert len(Choice(0, most=7).of(given_ones, diameter_px=5.0).scores) == 7


@pytest.mark.parametrize("wanted", [3.0, 10.0, 59.0])
def test_the_expected_number_is_that_of_spaced_picks(wanted):
    thinned = [spaced(candidates(seed), 4.0) for seed in range(5)]
    threshold = expecting(iter(thinned), wanted)
    count = sum(len(Choice(threshold).of(one, diameter_px=1.0).scores) for one in thinned)
    lower = sum(len(Choice(threshold - 1).of(one, diameter_px=1.0).scores) for one in thinned)
    assert count <= 5 * wanted
    assert threshold == 0 or lower > 5 * wanted
