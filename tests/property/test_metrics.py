"""What holds for every histogram."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.evaluation.metrics import Counts, best_threshold, counts_at, f1_cap, histogram

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
counts = st.builds(Counts, *[st.integers(0, 10**9)] * 3)
histograms = hnp.arrays(np.int64, (2, 256), elements=st.integers(0, 5), fill=st.just(0))


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    probabilities = draw(hnp.arrays(np.uint8, shape))
    return probabilities, draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])))


@given(maps(), st.integers(0, 255))
def test_counts_from_a_histogram_equal_counts_from_the_pixels(
    both: tuple[np.ndarray, np.ndarray], t: int
) -> None:
    probabilities, truth = both
    said, there, valid = probabilities >= t, truth == PARTICLE, truth != IGNORE
    expected = Counts(
        int((said & there).sum()), int((said & ~there & valid).sum()), int((~said & there).sum())
    )
    assert counts_at(histogram(probabilities, truth), t) == expected


@given(histograms)
def test_no_threshold_beats_the_best_one(found: np.ndarray) -> None:
    best = counts_at(found, best_threshold(found)).exact_f1() or Fraction(0)
    assert all((counts_at(found, t).exact_f1() or Fraction(0)) <= best for t in range(1, 256))


@given(counts, counts, counts)
def test_adding_counts_is_free_of_order(a: Counts, b: Counts, c: Counts) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a


@given(counts)
def test_f1_lies_between_precision_and_recall_and_up_to_one(count: Counts) -> None:
    scores = count.scores()
    if scores.precision is None or scores.recall is None or scores.f1 is None:
        return
    low, high = sorted((scores.precision, scores.recall))
    assert low - 1e-12 <= scores.f1 <= high + 1e-12
    assert 0 <= scores.f1 <= 1


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_no_mask_scores_above_the_cap_of_its_ratio(tp: int, fp: int, fn: int, tn: int) -> None:
    pixels = tp + fp + fn + tn
    f1 = Counts(tp, fp, fn).exact_f1()
    if f1 is not None and tp + fn > 0:
        assert float(f1) <= f1_cap((tp + fp) / pixels, (tp + fn) / pixels) + 1e-12
