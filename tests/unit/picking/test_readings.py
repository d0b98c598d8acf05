"""The pictures say in which reading labels sit on particles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picked_micrographs import DIAMETER_PX, picture, places

from cryossl.picking.importing.readings import FEWEST, Fit, Found, Labelled, Reading, measure

SIZE = (200, 256)
AS_IS = Reading()
MISTAKES = [
    Reading(flip_y=True),
    Reading(flip_x=True),
    Reading(flip_y=True, flip_x=True),
    Reading(swap_xy=True),
    Reading(scale=0.5),
    Reading(scale=2.0),
    Reading(scale=8.0),
    Reading(scale=0.125, flip_y=True),
    Reading(corner=True),
]


def labelled(
    seed: int,
    mistake: Reading = AS_IS,
    *,
    contrast: float = -1.0,
    count: int = 40,
    scales: bool = False,
) -> Labelled:
    true = places(seed, height=SIZE[0], width=SIZE[1], count=count)
    drawn = picture(true, height=SIZE[0], width=SIZE[1], contrast=contrast)
    moved = true - (DIAMETER_PX / 2 if mistake.corner else 0.0)
    plain = dataclasses.replace(mistake, scale=1.0, corner=False)
    mirrored = plain.places(moved, size_px=SIZE, diameter_px=float(DIAMETER_PX))
    wrong = mirrored * mistake.scale  # a picker sees the mirrored picture, reduced
    diameter = DIAMETER_PX * (mistake.scale if scales else 1.0)
    return Labelled(str(seed), drawn, wrong, diameter, scales)


def found(
    *micrographs: Labelled, reading: Reading = AS_IS, scales: tuple[float, ...] = ()
) -> Found:
    return measure(micrographs, reading, scales=scales, rng=np.random.default_rng(0))


@pytest.mark.parametrize("contrast", [-1.0, 1.0])
def test_labels_on_particles_raise_no_alarm_whatever_their_contrast(contrast: float) -> None:
    seen = found(*(labelled(seed, contrast=contrast) for seed in range(3)))
    assert seen.fitting
    assert seen.better is None
    assert not seen.odd
    assert np.sign(seen.fits[AS_IS]) == np.sign(contrast)
    assert abs(seen.random_errors) < 4


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.words)
def test_a_planted_mistake_is_named(mistake: Reading, scales: bool) -> None:
    micrograph = labelled(1, mistake, scales=scales)
    better = found(micrograph).better
    assert better is not None
    true = places(1, height=SIZE[0], width=SIZE[1])
    right = better.places(micrograph.centres, size_px=SIZE, diameter_px=float(DIAMETER_PX))
    np.testing.assert_allclose(right, true, atol=1e-6)


def test_a_ratio_of_pixel_sizes_is_tried_as_a_scale() -> None:
    micrograph = labelled(1, Reading(scale=1.37))
    assert found(micrograph).better is None
    better = found(micrograph, scales=(1 / 1.37,)).better
    assert better is not None
    assert better.scale == pytest.approx(1 / 1.37)


def test_what_the_user_chose_is_what_others_are_compared_with() -> None:
    micrograph = labelled(1, Reading(flip_y=True))
    assert found(micrograph, reading=Reading(flip_y=True)).better is None
    assert found(micrograph, reading=Reading(flip_x=True)).better == Reading(flip_y=True)
    assert found(labelled(1), reading=Reading(flip_x=True)).better == AS_IS


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0, 2.8])
def test_a_mistake_is_found_with_the_diameter_of_a_mask_or_a_radius(factor: float) -> None:
    one = labelled(1, Reading(flip_x=True))
    given_one = dataclasses.replace(one, diameter_px=one.diameter_px * factor)
    assert found(given_one).better == Reading(flip_x=True)


def test_labels_that_fit_nothing_raise_no_alarm() -> None:
    for seed in range(3):
        one = labelled(seed)
        elsewhere = places(100 + seed, height=SIZE[0], width=SIZE[1])
        seen = found(Labelled("a", one.picture, elsewhere, one.diameter_px, scales=True))
        assert not seen.fitting
        assert seen.better is None


def test_labels_repeated_at_one_place_are_one_observation() -> None:
    one = labelled(1)
    repeated = np.repeat(one.centres[:3], 50, axis=0)
    seen = found(Labelled("a", one.picture, repeated, one.diameter_px, scales=False))
    assert seen.count < FEWEST
    assert seen.fits[AS_IS] == 0


def test_a_micrograph_that_differs_from_the_others_is_named() -> None:
    seen = found(labelled(1), labelled(2), labelled(3, Reading(flip_y=True)))
    assert seen.better is None
    assert seen.odd == {"3": Reading(flip_y=True)}


def test_measuring_stops_when_it_is_decided() -> None:
    read: list[int] = []

    def micrographs():
        for seed in range(100):
            read.append(seed)
            yield labelled(seed % 5)

    measure(micrographs(), AS_IS, rng=np.random.default_rng(0))
    assert len(read) == 8


@given(
    flip_y=st.booleans(),
    flip_x=st.booleans(),
    swap_xy=st.booleans(),
    centre=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_a_reading_of_a_square_twice_or_four_times_is_none(
    flip_y: bool, flip_x: bool, swap_xy: bool, centre: tuple[float, float]
) -> None:
    reading, place = Reading(flip_y, flip_x, swap_xy), np.array([centre])
    for _ in range(4):
        place = reading.places(place, size_px=(100, 100), diameter_px=9.0)
    np.testing.assert_allclose(place, [centre], atol=1e-9)


def test_the_options_of_a_reading_are_the_commands() -> None:
    assert Reading(flip_y=True, scale=0.125).options == "--flip-y --scale 0.125"
    assert Reading(swap_xy=True, flip_x=True).options == "--flip-x --swap-xy"


def test_places_that_are_alike_beside_rare_particles_are_no_proof() -> None:
    """Most places of a picture with rare dark particles are a little bright, and differ little."""
    beside, on = Fit(), Fit()
    beside.add(0.3 + 0.1 * np.sin(np.arange(60.0)))
    on.add(-2.5 + 0.1 * np.sin(np.arange(60.0)))
    assert abs(beside.errors) < 3
    assert abs(on.errors) > 15
