"""Statistics over seeds, and the bootstrap from counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.stats.bootstrap import mean_score, paired_bootstrap
from analysis.stats.statistics import (
    effect_size,
    grade,
    holm,
    seed_interval,
    seeds_needed,
    sign_flip_test,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seeds", [0, 1, 5])
def test_no_p_is_given_below_six_seeds(seeds: int) -> None:
    result = sign_flip_test(np.ones(seeds), rng=rng())
    assert result.p is None
    assert "6 are needed" in result.reason


def test_six_seeds_that_all_improve_reach_the_smallest_p() -> None:
    assert sign_flip_test(np.arange(1.0, 7.0), rng=rng()).p == 2 / 2**6


def test_no_difference_at_all_has_p_of_one() -> None:
    assert sign_flip_test(np.zeros(6), rng=rng()).p == 1.0


def test_ties_in_rounded_sums_are_counted() -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit; of the 64 patterns the extreme two and two more tie
    # or exceed.
    values = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    assert sign_flip_test(values, rng=rng()).p == sign_flip_test(np.round(10 * values), rng=rng()).p


def test_above_twenty_seeds_the_test_says_that_it_draws_and_obeys_its_seed() -> None:
    values = rng(1).normal(0.3, 1, 24)
    first, again, other = (sign_flip_test(values, rng=rng(seed)) for seed in (2, 2, 3))
    assert "Monte Carlo" in first.reason
    assert not first.exact
    assert first == again
    assert first.p is not None
    assert other.p == pytest.approx(first.p, abs=0.005)
    assert other.p != first.p


def test_a_difference_that_is_not_finite_is_refused() -> None:
    for function in (
        lambda values: sign_flip_test(values, rng=rng()),
        effect_size,
        seed_interval,
    ):
        with pytest.raises(ValueError, match="finite"):
            function(np.array([0.1, math.nan]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


def test_holm_counts_only_tests_that_were_made() -> None:
    assert holm([None, 0.02, None, 0.04]) == (None, 0.04, None, 0.04)
    with pytest.raises(ValueError, match="p-value"):
        holm([1.5])


def test_effect_size_by_hand() -> None:
    effect = effect_size(np.array([1.0, 2.0, 3.0, 0.0]))
    assert effect.d_z == pytest.approx(1.5 / math.sqrt(5 / 3))
    assert effect.improvement == (3 + 0.5) / 4


def test_the_effect_size_of_one_seed_has_no_d_z() -> None:
    assert effect_size(np.array([1.0])).d_z is None
    with pytest.raises(ValueError, match="no seed"):
        effect_size(np.array([]))


@pytest.mark.parametrize(
    ("seeds", "name"),
    [
        (0, "no result"),
        (1, "single run"),
        (2, "two runs"),
        (3, "smoke test"),
        (5, "smoke test"),
        (6, "claim"),
        (9, "claim"),
        (10, "paper"),
    ],
)
def test_the_grade_grows_with_the_seeds(seeds: int, name: str) -> None:
    assert grade(seeds) == name


def test_one_seed_has_no_interval() -> None:
    assert seed_interval(np.array([0.1])) is None


def test_a_smaller_effect_needs_more_seeds() -> None:
    needed = [seeds_needed(effect, 2.0) for effect in (4.0, 2.0, 1.0, 0.5)]
    assert needed == sorted(needed)
    assert needed[0] == 6
    with pytest.raises(ValueError, match="above 0"):
        seeds_needed(0.0, 1.0)


# ---------------------------------------------------------------- bootstrap


def counts(
    seeds: int = 4, micrographs: int = 12, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two arms of random counts and the sources of three equal groups of micrographs."""
    first, second = rng(seed).integers(50, 500, size=(2, seeds, micrographs, 3), dtype=np.int64)
    return first, second, np.arange(micrographs, dtype=np.int64) % 3


def test_the_estimate_is_the_difference_of_mean_scores() -> None:
    first, second, sources = counts()
    result = paired_bootstrap(first, second, sources, draws=50, rng=rng())
    each = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in second.sum(axis=1)]
    assert mean_score(second, score="f1") == pytest.approx(sum(each) / 4, abs=1e-15)
    assert result.interval.estimate == mean_score(second, score="f1") - mean_score(
        first, score="f1"
    )
    assert result.interval.lower < result.interval.estimate < result.interval.upper


def test_equal_arms_differ_by_nothing() -> None:
    first, _, sources = counts()
    result = paired_bootstrap(first, first, sources, draws=50, rng=rng())
    assert (result.interval.lower, result.interval.upper, result.improvement) == (0.0, 0.0, 0.5)


def test_swapping_the_arms_mirrors_the_interval() -> None:
    first, second, sources = counts()
    one = paired_bootstrap(first, second, sources, draws=200, rng=rng())
    other = paired_bootstrap(second, first, sources, draws=200, rng=rng())
    assert one.interval.lower == pytest.approx(-other.interval.upper)
    assert one.improvement == pytest.approx(1 - other.improvement)


def test_the_same_generator_gives_the_same_interval_and_another_one_does_not() -> None:
    first, second, sources = counts()
    results = [
        paired_bootstrap(first, second, sources, draws=200, rng=rng(seed)) for seed in (1, 1, 2)
    ]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_a_wider_level_is_a_wider_interval() -> None:
    first, second, sources = counts()
    narrow, wide = (
        paired_bootstrap(first, second, sources, draws=200, level=level, rng=rng())
        for level in (0.8, 0.99)
    )
    assert narrow.interval.lower > wide.interval.lower


def test_the_interval_names_the_levels_that_it_speaks_of() -> None:
    first, second, sources = counts()
    assert paired_bootstrap(first, second, sources, draws=50, rng=rng()).levels == (
        "seeds",
        "sources",
    )
    one_source = np.zeros_like(sources)
    assert paired_bootstrap(first, second, one_source, draws=50, rng=rng()).levels == (
        "seeds",
        "micrographs",
    )
    assert paired_bootstrap(first[:1], second[:1], sources, draws=50, rng=rng()).levels == (
        "sources",
    )
    single = paired_bootstrap(first[:1, :1], second[:1, :1], one_source[:1], draws=50, rng=rng())
    assert (single.levels, single.interval.lower) == ((), -math.inf)


@pytest.mark.parametrize("fault", ["negative", "empty", "undefined"])
def test_counts_that_cannot_be_compared_are_refused(fault: str) -> None:
    first, second, sources = counts()
    broken = {"negative": -second, "empty": second, "undefined": np.zeros_like(second)}[fault]
    if fault == "empty":
        first, broken = first[:0], second[:0]
    with pytest.raises(ValueError, match=r"negative|no seed|undefined"):
        paired_bootstrap(first, broken, sources, draws=10, rng=rng())


# ---------------------------------------------------------------- calibration: what the intervals
# promise


def world(
    generator: np.random.Generator,
    *,
    seeds: int,
    sources: int,
    micrographs: int,
    gain: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of two arms whose difference in recall (a logit) varies by seed, source, micrograph and their pairs."""
    source = np.repeat(np.arange(sources), micrographs)
    total = sources * micrographs
    positives = generator.poisson(800 * np.exp(generator.normal(0, 0.3, total))) + 50
    base = (
        0.8
        + generator.normal(0, 0.2, seeds)[:, None]
        + generator.normal(0, 0.3, sources)[source]
        + generator.normal(0, 0.3, total)
    )
    shift = (
        gain
        + generator.normal(0, 0.06, seeds)[:, None]
        + generator.normal(0, 0.06, sources)[source]
        + generator.normal(0, 0.1, total)
        + generator.normal(0, 0.03, (seeds, sources))[:, source]
        + generator.normal(0, 0.1, (seeds, total))
    )
    arms = []
    for logit in (base, base + shift):
        share = 1 / (1 + np.exp(-logit))
        found = generator.binomial(positives, share)
        arms.append(
            np.stack(
                [found, generator.poisson(positives * (1 - share)), positives - found], axis=-1
            )
        )
    return arms[0], arms[1], source


@pytest.mark.parametrize(("seeds", "sources"), [(6, 8), (10, 10)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, sources: int) -> None:
    # With 500 worlds the standard error of the coverage is 1%: 93-97% is what a right interval must
    # meet.
    first, second, _ = world(rng(1), seeds=400, sources=400, micrographs=5, gain=0.12)
    truth = mean_score(second, score="f1") - mean_score(first, score="f1")
    generator, covered, worlds = rng(2), 0, 500
    for _ in range(worlds):
        arms = world(generator, seeds=seeds, sources=sources, micrographs=10, gain=0.12)
        interval = paired_bootstrap(*arms, draws=300, rng=generator).interval
        covered += interval.lower <= truth <= interval.upper
    assert 0.93 <= covered / worlds <= 0.97


def test_under_no_effect_the_sign_flip_test_rejects_at_most_as_often_as_it_says() -> None:
    generator, worlds = rng(3), 4000
    # Skewed differences, symmetric about 0 only through their signs, as two equal arms have them.
    values = generator.exponential(size=(worlds, 8)) * generator.choice(
        [-1.0, 1.0], size=(worlds, 8)
    )
    p = np.array([sign_flip_test(row, rng=generator).p for row in values], dtype=np.float64)
    assert 0.035 <= np.mean(p <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)
