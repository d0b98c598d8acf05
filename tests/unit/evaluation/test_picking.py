"""Picks of a probability map: where they lie, what they score, and which band they are left out of."""

from __future__ import annotations

import numpy as np
import pytest

from cryossl.data.coco.rasterise import rasterise
from cryossl.data.coco.records import Particles
from cryossl.evaluation.picking import FULL_SCORE, Picks, inside, pick

RADIUS = 7.0


def disc_map(
    centres: list[tuple[float, float]], shape: tuple[int, int] = (100, 120), p8: int = 255
) -> np.ndarray:
    """p8 of a network that is right everywhere, about discs of RADIUS."""
    boxes = np.array(
        [(y - RADIUS, x - RADIUS, 2 * RADIUS, 2 * RADIUS) for y, x in centres]
    ).reshape(-1, 4)
    return p8 * rasterise(
        Particles(boxes=boxes),
        height_px=shape[0],
        width_px=shape[1],
        scale=1.0,
        particle_radius_fraction=1.0,
    )


def test_a_lone_disc_is_one_pick_at_its_centre_with_full_score():
    picks = pick(disc_map([(40.5, 60.5)]), radius_px=RADIUS)
    assert picks.centres.tolist() == [[40.5, 60.5]]
    assert picks.scores.tolist() == [FULL_SCORE]


def test_the_score_is_the_mean_probability():
    picks = pick(disc_map([(40.5, 60.5)], p8=102), radius_px=RADIUS)
    assert picks.scores.tolist() == [round(0.4 * FULL_SCORE)]


def test_discs_that_overlap_by_half_are_two_picks():
    centres = [(50.5, 50.5), (50.5, 50.5 + 1.2 * RADIUS)]
    picks = pick(disc_map(centres), radius_px=RADIUS)
    assert len(picks.scores) == 2
    assert (
        np.abs(picks.centres[np.argsort(picks.centres[:, 1])] - np.array(centres)).max()
        < 0.3 * RADIUS
    )


def test_a_disc_cut_by_the_edge_is_picked_where_it_is():
    picks = pick(disc_map([(2.5, 60.5)]), radius_px=RADIUS)
    assert len(picks.scores) == 1
    assert np.hypot(*(picks.centres[0] - (2.5, 60.5))) < 0.3 * RADIUS


def test_a_map_of_zeros_has_no_pick():
    picks = pick(np.zeros((30, 40), np.uint8), radius_px=RADIUS)
    assert (picks.centres.shape, picks.scores.shape) == ((0, 2), (0,))


def test_a_map_that_says_particle_everywhere_is_picked_at_the_spacing():
    picks = pick(np.full((60, 60), 255, np.uint8), radius_px=RADIUS)
    away = np.hypot(*(picks.centres[:, None] - picks.centres[None]).transpose(2, 0, 1))
    assert away[~np.eye(len(away), dtype=bool)].min() >= 0.6 * RADIUS
    assert (
        0.3 < len(picks.scores) * np.pi * (0.3 * RADIUS) ** 2 / 60**2 < 0.91
    )  # no denser than circles can be packed


def test_the_best_pick_comes_first():
    dim, bright = disc_map([(30.5, 30.5)], p8=100), disc_map([(60.5, 90.5)], p8=200)
    picks = pick(dim + bright, radius_px=RADIUS)
    assert picks.centres.tolist() == [[60.5, 90.5], [30.5, 30.5]]
    assert (np.diff(picks.scores.astype(int)) <= 0).all()


@pytest.mark.parametrize("radius_px", [0.3, 1.0, 200.0])
def test_a_particle_may_be_smaller_than_a_pixel_or_larger_than_the_picture(radius_px):
    p8 = np.zeros((20, 30), np.uint8)
    p8[8, 9] = 255
    picks = pick(p8 if radius_px < 2 else np.full_like(p8, 255), radius_px=radius_px)
    assert len(picks.scores) == 1
    if radius_px < 2:
        assert picks.centres.tolist() == [[8.5, 9.5]]


def test_a_radius_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        pick(np.zeros((5, 5), np.uint8), radius_px=0.0)


def test_the_border_band_is_left_out_as_it_is_of_pixels():
    corners = np.array(
        [
            (3.0, 3.0),
            (2.99, 50.0),
            (50.0, 2.99),
            (97.0, 50.0),
            (50.0, 117.0),
            (96.99, 116.99),
            (-1.0, 5.0),
        ]
    )
    assert inside(corners, height_px=100, width_px=120, border_px=3).tolist() == [
        True,
        *[False] * 4,
        True,
        False,
    ]
    assert inside(corners, height_px=100, width_px=120, border_px=0).tolist() == [
        *[True] * 6,
        False,
    ]
    picks = Picks(corners.astype(np.float32), np.arange(7, 0, -1).astype(np.uint16))
    assert picks.within(height_px=100, width_px=120, border_px=3).scores.tolist() == [7, 2]
