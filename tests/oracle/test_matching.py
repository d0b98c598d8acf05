"""The matching of picks and particles against scipy's exact solvers and against trying everything;

AP against scikit-learn.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score, precision_recall_curve

from cryossl.evaluation.matching import Ranked, average_precision, best_threshold, rank
from cryossl.evaluation.picking import Picks


def crowd(seed: int, *, most: int, side_px: float) -> tuple[Picks, np.ndarray]:
    """Picks and particles in a small field, so that many of them compete."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, most))
    scores = np.sort(rng.integers(1, 60_000, number))[::-1].astype(np.uint16)
    return (
        Picks(rng.uniform(0, side_px, (number, 2)).astype(np.float32), scores),
        rng.uniform(0, side_px, (int(rng.integers(1, most)), 2)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_hits_are_as_many_as_scipy_s_matchings_have_pairs_at_every_threshold(seed):
    picks, truths = crowd(seed, most=60, side_px=40)
    near = cdist(picks.centres, truths) <= 4.2
    hits = rank(picks, truths, limit_px=4.2).hits
    for number in range(1, len(hits) + 1):
        cardinality = np.count_nonzero(
            maximum_bipartite_matching(csr_array(near[:number]), perm_type="column") >= 0
        )
        rows, columns = linear_sum_assignment(near[:number], maximize=True)
        assert (
            np.count_nonzero(hits[:number]) == cardinality == np.count_nonzero(near[rows, columns])
        )


@pytest.mark.parametrize("seed", range(60))
def test_no_way_to_pair_them_up_has_more_pairs(seed):
    picks, truths = crowd(seed, most=6, side_px=8)
    near = cdist(picks.centres, truths) <= 3.0
    if near.shape[0] > near.shape[1]:
        near = near.T
    most = max(
        sum(near[row, column] for row, column in enumerate(chosen))
        for chosen in permutations(range(near.shape[1]), near.shape[0])
    )
    assert np.count_nonzero(rank(picks, truths, limit_px=3.0).hits) == most


def test_a_nearer_pick_gives_way_so_that_both_are_hits():
    """Greedy by score takes the particle that the second pick needs."""
    picks = Picks(np.array([(0, 2), (0, 0)], np.float32), np.array([9, 5], np.uint16))
    truths = np.array([(0.0, 1.0), (0.0, 4.0)])
    assert rank(picks, truths, limit_px=2.0).hits.tolist() == [True, True]


def detections(seed: int, *, ties: bool) -> list[Ranked]:
    rng = np.random.default_rng(seed)
    found = []
    for number in rng.integers(1, 80, 3):
        scores = np.sort(rng.integers(1, 9 if ties else 60_000, number))[::-1].astype(np.uint16)
        hits = rng.random(number) < scores / scores.max()
        found.append(Ranked(scores, hits, int(hits.sum() + rng.integers(0, 30))))
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_scikit_learn_s_with_the_particles_never_found_as_misses(seed, ties):
    ranked = detections(seed, ties=ties)
    labels, scores = (
        np.concatenate([getattr(one, name) for one in ranked]) for name in ("hits", "scores")
    )
    truths = sum(one.truths for one in ranked)
    if not labels.any():
        assert average_precision(ranked) == 0
        return
    # scikit-learn knows only what was picked: its recall ends at 1, ours at the share that was
    # found.
    expected = average_precision_score(labels, scores) * labels.sum() / truths
    assert average_precision(ranked) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_has_the_highest_f1_of_scikit_learn_s_curve(seed):
    ranked = detections(seed, ties=True)
    labels, scores = (
        np.concatenate([getattr(one, name) for one in ranked]) for name in ("hits", "scores")
    )
    if not labels.any():
        pytest.skip("nothing was found")
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    recall = recall[:-1] * labels.sum() / sum(one.truths for one in ranked)
    precision = precision[:-1]
    f1 = np.divide(
        2 * precision * recall,
        precision + recall,
        out=np.zeros_like(recall),
        where=precision + recall > 0,
    )
    best = best_threshold(ranked)
    assert f1[thresholds == best] == pytest.approx(f1.max(), abs=1e-12)


def test_five_picks_on_one_particle_are_one_hit_and_four_false_alarms():
    picks = Picks(
        np.array([(5, 5 + 0.1 * one) for one in range(5)], np.float32),
        np.arange(5, 0, -1).astype(np.uint16),
    )
    counts = rank(picks, np.array([(5.0, 5.0)]), limit_px=1.0).counts_at(1)
    assert (counts.tp, counts.fp, counts.fn) == (1, 4, 0)
