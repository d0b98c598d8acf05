"""The simulated micrograph: where its particles lie."""

from __future__ import annotations

import numpy as np

from cryossl.data.synthetic.phantoms import SPECIES
from cryossl.data.synthetic.simulator import CONDITION_DRAWS, conditions, simulate


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
