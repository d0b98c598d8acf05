"""What holds of picks and of their matching for any picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryossl.data.coco.rasterise import rasterise
from cryossl.data.coco.records import Particles
from cryossl.evaluation.matching import Ranked, average_precision, best_threshold, rank
from cryossl.evaluation.metrics import pooled
from cryossl.evaluation.picking import Picks, pick

SEEDS = st.integers(0, 2**32 - 1)


def apart(
    rng: np.random.Generator, *, spacing_px: float, side_px: int, tries: int = 300
) -> np.ndarray:
    """Random centres, none nearer to another than the spacing, all discs whole."""
    found: list[np.ndarray] = []
    for one in rng.uniform(10, side_px - 10, size=(tries, 2)):
        if all(np.hypot(*(one - other)) >= spacing_px for other in found):
            found.append(one)
    return np.array(found)


def perfect_map(centres: np.ndarray, *, radius: float, side_px: int) -> np.ndarray:
    boxes = np.column_stack([centres - radius, np.full((len(centres), 2), 2 * radius)])
    return 255 * rasterise(
        Particles(boxes=boxes),
        height_px=side_px,
        width_px=side_px,
        scale=1.0,
        particle_radius_fraction=1.0,
    )


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, radius=st.floats(4, 9), gap=st.floats(2.0, 3.0))
def test_a_perfect_map_of_discs_that_do_not_overlap_has_f1_of_one(seed, radius, gap):
    centres = apart(np.random.default_rng(seed), spacing_px=gap * radius, side_px=120)
    ranked = rank(
        pick(perfect_map(centres, radius=radius, side_px=120), radius_px=radius),
        centres,
        limit_px=0.6 * radius,
    )
    assert ranked.counts_at(best_threshold([ranked])).scores().f1 == 1.0
    assert average_precision([ranked]) == 1.0


def test_a_perfect_map_of_discs_that_overlap_is_read_too():
    """As dense as real labels, about a third of the picture: connected components find little more than half."""
    ranked, components = [], 0
    for seed in range(8):
        centres = apart(np.random.default_rng(seed), spacing_px=9.8, side_px=160, tries=90)
        p8 = perfect_map(centres, radius=7.0, side_px=160)
        ranked.append(rank(pick(p8, radius_px=7.0), centres, limit_px=4.2))
        components += ndimage.label(p8)[1]
    threshold = best_threshold(ranked)
    found = pooled(one.counts_at(threshold) for one in ranked).scores()
    assert found.f1 is not None
    assert found.f1 > 0.97
    assert components < 0.6 * sum(one.truths for one in ranked)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 30), columns=st.integers(0, 30))
def test_picks_move_with_the_picture(seed, rows, columns):
    rng = np.random.default_rng(seed)
    patch = ndimage.gaussian_filter(rng.random((50, 50)) * 255, 2).astype(np.uint8)
    placed, moved = np.zeros((130, 130), np.uint8), np.zeros((130, 130), np.uint8)
    placed[20:70, 20:70] = patch
    moved[20 + rows : 70 + rows, 20 + columns : 70 + columns] = patch
    here, there = pick(placed, radius_px=5.0), pick(moved, radius_px=5.0)
    assert len(here.scores) > 3
    assert here.scores.tolist() == there.scores.tolist()
    assert (there.centres - here.centres == (rows, columns)).all()


def problem(seed: int) -> tuple[Picks, np.ndarray, float]:
    """Picks and particles so dense that many pairs compete; scores with ties."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(0, 12, rng.integers(0, 25)))[::-1].astype(np.uint16)
    return (
        Picks(rng.uniform(0, 20, (len(scores), 2)).astype(np.float32), scores),
        rng.uniform(0, 20, (rng.integers(0, 25), 2)),
        float(rng.uniform(0.5, 6)),
    )


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, shuffle=SEEDS)
def test_counts_do_not_depend_on_the_order_of_particles_or_of_picks_that_score_the_same(
    seed, shuffle
):
    picks, truths, limit_px = problem(seed)
    rng = np.random.default_rng(shuffle)
    order = np.lexsort((rng.random(len(picks.scores)), -picks.scores.astype(int)))
    first = rank(picks, truths, limit_px=limit_px)
    other = rank(
        Picks(picks.centres[order], picks.scores[order]), rng.permutation(truths), limit_px=limit_px
    )
    assert [first.counts_at(cut) for cut in range(13)] == [
        other.counts_at(cut) for cut in range(13)
    ]
    assert average_precision([first]) == average_precision([other])


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_every_particle_is_found_or_missed_and_every_pick_right_or_wrong(seed):
    picks, truths, limit_px = problem(seed)
    ranked = rank(picks, truths, limit_px=limit_px)
    for cut in range(13):
        counts = ranked.counts_at(cut)
        assert counts.tp + counts.fn == len(truths)
        assert counts.tp + counts.fp == np.count_nonzero(picks.scores >= cut)
        assert min(counts.tp, counts.fp, counts.fn) >= 0


@settings(max_examples=100, deadline=None)
@given(seeds=st.lists(SEEDS, max_size=4))
def test_no_threshold_beats_the_one_chosen(seeds):
    ranked = [
        rank(picks, truths, limit_px=limit_px) for picks, truths, limit_px in map(problem, seeds)
    ]

    def f1(cut: int) -> float:
        return float(pooled(one.counts_at(cut) for one in ranked).exact_f1() or 0)

    best = best_threshold(ranked)
    assert f1(best) == pytest.approx(max(map(f1, range(14)), default=0), abs=0) or not any(
        one.hits.any() for one in ranked
    )


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, further=st.floats(1, 3))
def test_a_wider_limit_finds_no_less(seed, further):
    picks, truths, limit_px = problem(seed)
    near, far = (rank(picks, truths, limit_px=limit) for limit in (limit_px, further * limit_px))
    assert (np.cumsum(far.hits) >= np.cumsum(near.hits)).all()


def test_without_picks_or_particles_nothing_is_found():
    empty = Picks(np.zeros((0, 2), np.float32), np.zeros(0, np.uint16))
    nothing = rank(empty, np.zeros((0, 2)), limit_px=1.0)
    assert average_precision([nothing]) is None
    assert average_precision([rank(empty, np.ones((3, 2)), limit_px=1.0)]) == 0
    assert (
        best_threshold([])
        == best_threshold([Ranked(np.array([9], np.uint16), np.array([False]), 2)])
        == 32768
    )
