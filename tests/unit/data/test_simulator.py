"""The simulated micrograph: where its particles lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryossl.data.synthetic.phantoms import SPECIES
from cryossl.data.synthetic.simulator import (
    CONDITION_DRAWS,
    _places,
    _smoothed,
    conditions,
    simulate,
)


def test_no_two_particles_are_closer_than_nearly_one_diameter() -> None:
    crowded = conditions(np.array([0.999] + [0.5] * (CONDITION_DRAWS - 1)))
    made = simulate(SPECIES[0], crowded, size_px=128, border_px=5, rng=np.random.default_rng(0))
    apart = np.hypot(*(made.centres[:, None] - made.centres[None]).transpose(2, 0, 1))
    assert len(made.centres) > 30
    assert apart[np.triu_indices(len(apart), 1)].min() >= 0.95 * 9


def test_an_empty_corner_of_every_condition_still_has_a_particle_inside_the_border() -> None:
    rng = np.random.default_rng(4)
    for corner in rng.integers(0, 2, (40, CONDITION_DRAWS)) * 0.999:
        made = simulate(
            SPECIES[int(rng.integers(3))], conditions(corner), size_px=64, border_px=3, rng=rng
        )
        assert ((made.centres >= 3) & (made.centres <= 61)).all(axis=1).any()


def test_labels_are_the_exact_centres() -> None:
    given = conditions(np.full(CONDITION_DRAWS, 0.5))
    for species in SPECIES:
        made = simulate(species, given, size_px=96, border_px=4, rng=np.random.default_rng(1))
        corners = made.centres - species.diameter_px / 2
        np.testing.assert_array_equal(corners, np.round(corners))


def placed_by_comparing_all(species, given, blocked, *, border_px, rng):
    """The definition: a candidate is taken if it is not blocked and no centre is near."""
    size, half, centres = len(blocked), species.diameter_px / 2, []
    wanted = max(1, round(given.coverage * size**2 / (np.pi * half**2)))
    for _ in range(1_000 + wanted * 60):
        place = np.floor(rng.uniform(0, size, 2) - half) + half
        inside = ((place >= border_px) & (place <= size - border_px)).all()
        if (place < 0).any() or blocked[int(place[0]), int(place[1])] or not (centres or inside):
            continue
        if all(np.hypot(*(place - other)) >= 0.95 * species.diameter_px for other in centres):
            centres.append(place)
        if len(centres) == wanted:
            break
    return np.array(centres).reshape(-1, 2)


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("coverage", [0.1, 0.6, 0.97, 0.9999])
@pytest.mark.parametrize("blocked_fraction", [0.0, 0.5, 0.97, 1.0])
def test_places_are_those_of_comparing_all_pairs_and_as_many_draws_are_used(
    species, coverage, blocked_fraction
):
    given = conditions(np.array([coverage] + [0.5] * (CONDITION_DRAWS - 1)))
    blocked = np.zeros((150, 150), dtype=bool)
    blocked[: round(150 * blocked_fraction)] = True
    ours, theirs = np.random.default_rng(7), np.random.default_rng(7)
    np.testing.assert_array_equal(
        _places(species, given, blocked, border_px=10, rng=ours),
        placed_by_comparing_all(species, given, blocked, border_px=10, rng=theirs),
    )
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("size", [97, 160])
def test_the_hills_of_the_ice_are_smoothed_as_scipy_does_it(size):
    plane = np.random.default_rng(2).standard_normal((size, size))
    np.testing.assert_allclose(
        _smoothed(plane, sigma_px=18),
        gaussian_filter(plane, 18, mode="wrap"),
        rtol=0,
        atol=1e-13,
    )
