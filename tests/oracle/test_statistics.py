"""The statistics against scipy and against counting everything by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.stats.bootstrap import mean_score, paired_bootstrap
from analysis.stats.statistics import (
    effect_size,
    seed_interval,
    seeds_needed,
    sign_flip_test,
    t_quantile,
)


@pytest.mark.parametrize("seeds", [6, 7, 9, 12])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_sign_flip_p_equals_the_count_over_all_patterns(seeds: int, shift: float) -> None:
    values = np.random.default_rng(seeds).normal(shift, 1, seeds)
    seen = abs(values.sum())
    hits = sum(
        abs(np.dot(signs, values)) >= seen - 1e-12 for signs in product((-1, 1), repeat=seeds)
    )
    assert sign_flip_test(values, rng=np.random.default_rng(0)).p == pytest.approx(
        hits / 2**seeds, abs=1e-12
    )


@pytest.mark.parametrize("seeds", [6, 8, 10])
def test_sign_flip_p_equals_scipys_permutation_test(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(0.4, 1, seeds)
    # `samples` flips the sign of a single sample, which is the paired test; all patterns, so it is
    # exact.
    expected = stats.permutation_test(
        (values, np.zeros(seeds)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip_test(values, rng=np.random.default_rng(0)).p == pytest.approx(
        expected.pvalue, abs=1e-12
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_over_seeds_is_scipys(level: float) -> None:
    values = np.random.default_rng(1).normal(1.0, 2.0, 7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    interval = seed_interval(values, level=level)
    assert interval is not None
    assert (interval.lower, interval.upper) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_d_z_is_scipys_t_over_the_root_of_n() -> None:
    values = np.random.default_rng(2).normal(1.0, 2.0, 9)
    assert effect_size(values).d_z == pytest.approx(
        stats.ttest_1samp(values, 0).statistic / 3, abs=1e-12
    )


@pytest.mark.parametrize(("effect", "spread"), [(1.0, 1.0), (1.0, 2.0), (2.0, 1.5)])
def test_the_seeds_needed_give_the_power_in_a_simulation(effect: float, spread: float) -> None:
    needed = seeds_needed(effect, spread)
    draws = np.random.default_rng(3).normal(effect, spread, size=(20_000, needed))
    power = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    fewer = np.mean(stats.ttest_1samp(draws[:, :-1], 0, axis=1).pvalue < 0.05)
    assert power >= 0.79
    assert fewer <= 0.81 or needed == 6


@pytest.mark.parametrize("score", ["f1", "precision", "recall"])
def test_mean_scores_are_scikit_learns(score: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(4)
    truth, predicted = generator.integers(0, 2, size=(2, 3, 5, 200))
    pairs = (truth & predicted, (1 - truth) & predicted, truth & (1 - predicted))
    counts = np.stack([pair.sum(axis=-1) for pair in pairs], axis=-1)
    scorer = getattr(metrics, f"{score}_score")
    expected = np.mean(
        [scorer(*one) for one in zip(truth.reshape(3, -1), predicted.reshape(3, -1), strict=True)]
    )
    assert mean_score(counts, score=score) == pytest.approx(expected, abs=1e-12)


def test_the_bootstrap_of_seeds_alone_agrees_with_scipys_standard_error() -> None:
    # One micrograph and one source: only seeds can be drawn, which scipy's bootstrap does too.
    generator = np.random.default_rng(5)
    first, second = generator.integers(100, 900, size=(2, 9, 1, 3))

    def gain(index: np.ndarray) -> float:
        return mean_score(second[index], score="f1") - mean_score(first[index], score="f1")

    expected = stats.bootstrap(
        (np.arange(9),),
        gain,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=generator,
    ).standard_error
    found = paired_bootstrap(
        first, second, np.zeros(1, dtype=np.int64), draws=20_000, rng=generator
    )
    half = (found.interval.upper - found.interval.lower) / 2
    assert found.degrees_of_freedom == pytest.approx(8)
    assert half / stats.t.ppf(0.975, 8) == pytest.approx(expected * np.sqrt(9 / 8), rel=0.05)


@pytest.mark.parametrize("freedom", [1.0, 5.0, 7.3, 40.0, np.inf])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975, 0.9995])
def test_the_quantiles_of_t_are_scipys(freedom: float, probability: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=1e-10, abs=1e-12
    )
