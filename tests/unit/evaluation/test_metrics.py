"""Counts, scores, thresholds and caps by hand on small arrays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.evaluation.metrics import (
    HALF,
    Counts,
    Scores,
    audit,
    best_threshold,
    counts_at,
    f1_cap,
    histogram,
    pooled,
)

PROBABILITIES = np.array([[0, 127, 128], [200, 255, 255]], dtype=np.uint8)
TRUTH = np.array([[BACKGROUND, PARTICLE, PARTICLE], [BACKGROUND, PARTICLE, IGNORE]], dtype=np.uint8)


def test_scores_are_ratios_of_counts() -> None:
    scores = Counts(tp=6, fp=2, fn=4).scores()
    assert scores == Scores(precision=0.75, recall=0.6, f1=12 / 18)


def test_a_ratio_without_a_denominator_is_undefined_and_not_zero() -> None:
    assert Counts(0, 0, 0).scores() == Scores(None, None, None)
    assert Counts(0, 0, 5).scores() == Scores(precision=None, recall=0.0, f1=0.0)
    assert Counts(0, 5, 0).scores() == Scores(precision=0.0, recall=None, f1=0.0)
    assert Counts(0, 0, 0).exact_f1() is None


def test_counts_add_and_scores_come_last() -> None:
    dense, sparse = Counts(90, 10, 10), Counts(0, 1, 1)
    assert dense + sparse == pooled([dense, sparse]) == Counts(90, 11, 11)
    assert pooled([dense, sparse]).exact_f1() == Fraction(180, 202)


def test_nothing_pooled_is_zero_counts() -> None:
    assert pooled([]) == Counts(0, 0, 0)


def test_a_histogram_counts_valid_pixels_by_class_and_probability() -> None:
    found = histogram(PROBABILITIES, TRUTH)
    assert found.shape == (2, 256)
    assert {(int(row), int(p8)): int(found[row, p8]) for row, p8 in np.argwhere(found)} == {
        (0, 0): 1,
        (0, 200): 1,
        (1, 127): 1,
        (1, 128): 1,
        (1, 255): 1,
    }


def test_histograms_of_parts_add_up_to_the_histogram_of_the_whole() -> None:
    parts = histogram(PROBABILITIES[:1], TRUTH[:1]) + histogram(PROBABILITIES[1:], TRUTH[1:])
    assert np.array_equal(parts, histogram(PROBABILITIES, TRUTH))


def test_a_histogram_refuses_a_value_that_is_no_label() -> None:
    with pytest.raises(ValueError, match="BACKGROUND, PARTICLE and IGNORE"):
        histogram(PROBABILITIES, np.full_like(TRUTH, 2))


def test_a_pixel_at_the_threshold_is_a_particle() -> None:
    found = histogram(PROBABILITIES, TRUTH)
    assert counts_at(found, 128) == Counts(tp=2, fp=1, fn=1)
    assert counts_at(found, 129) == Counts(tp=1, fp=1, fn=2)
    assert counts_at(found, 0) == Counts(tp=3, fp=2, fn=0)
    assert counts_at(found, 255) == Counts(tp=1, fp=0, fn=2)


@pytest.mark.parametrize("threshold8", [-1, 256])
def test_a_threshold_outside_the_stored_range_is_refused(threshold8: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.255"):
        counts_at(histogram(PROBABILITIES, TRUTH), threshold8)


def test_half_is_the_least_stored_probability_of_one_half() -> None:
    assert min(p8 for p8 in range(256) if Fraction(p8, 255) >= Fraction(1, 2)) == HALF


def test_the_best_threshold_separates_what_can_be_separated() -> None:
    found = np.zeros((2, 256), dtype=np.int64)
    found[0, 40], found[1, 41] = 100, 3
    assert best_threshold(found) == 41


def test_of_equal_thresholds_the_nearest_to_one_half_wins_then_the_lower() -> None:
    found = np.zeros((2, 256), dtype=np.int64)
    found[0, 10], found[1, 240] = 5, 5
    assert best_threshold(found) == 128
    uneven = np.zeros((2, 256), dtype=np.int64)
    uneven[1, 126] = uneven[1, 129] = 1
    uneven[0, 126] = uneven[0, 128] = 1
    # Equal F1 of 2/3 at 1..126 (2, 2, 0) and at 129 (1, 0, 1): 129 is one away, 126 two.
    assert counts_at(uneven, 126).exact_f1() == counts_at(uneven, 129).exact_f1() == Fraction(2, 3)
    assert best_threshold(uneven) == 129
    level = np.zeros((2, 256), dtype=np.int64)
    level[1, 127] = level[1, 129] = 1
    level[0, 127] = level[0, 128] = 1
    assert counts_at(level, 127).exact_f1() == counts_at(level, 129).exact_f1() == Fraction(2, 3)
    assert best_threshold(level) == 127


def test_f1_is_compared_exactly_where_floating_point_sees_a_tie() -> None:
    many = 3 * 10**17
    found = np.zeros((2, 256), dtype=np.int64)
    found[1, 200], found[0, 128], found[1, 100] = many, many, 1
    at_128, at_100 = counts_at(found, 128), counts_at(found, 100)
    assert at_128.scores().f1 == at_100.scores().f1
    assert (at_128.exact_f1() or 0) < (at_100.exact_f1() or 0)
    found[0, 129] = 1
    assert best_threshold(found) == 130


def test_without_a_particle_the_threshold_is_one_half() -> None:
    found = np.zeros((2, 256), dtype=np.int64)
    found[0, :] = 7
    assert best_threshold(found) == 128


def test_half_the_true_ratio_caps_f1_at_two_thirds() -> None:
    assert f1_cap(0.02, 0.04) == pytest.approx(2 / 3)
    assert f1_cap(0.04, 0.02) == pytest.approx(2 / 3)
    assert f1_cap(0.04, 0.04) == 1.0
    assert f1_cap(0.0, 0.04) == 0.0


@pytest.mark.parametrize(
    ("pseudo_ratio", "true_ratio"), [(0.1, 0.0), (-0.1, 0.1), (1.1, 0.1), (0.1, 1.5)]
)
def test_a_cap_of_what_is_no_ratio_is_refused(pseudo_ratio: float, true_ratio: float) -> None:
    with pytest.raises(ValueError, match="particle ratios"):
        f1_cap(pseudo_ratio, true_ratio)


def test_an_audit_counts_pixels_valid_in_both() -> None:
    pseudo = np.array(
        [[PARTICLE, PARTICLE, BACKGROUND, BACKGROUND, IGNORE, PARTICLE]], dtype=np.uint8
    )
    truth = np.array(
        [[PARTICLE, BACKGROUND, PARTICLE, BACKGROUND, PARTICLE, IGNORE]], dtype=np.uint8
    )
    assert audit(pseudo, truth) == Counts(tp=1, fp=1, fn=1)
