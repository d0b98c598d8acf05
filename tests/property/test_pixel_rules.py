"""What holds of every histogram and every map: portions, rings, soft weights, agreement, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.pseudolabels.keep_rules import AllAbove
from cryossl.pseudolabels.pixel_rules import (
    agreement,
    particle_cutoff,
    portion_cutoffs,
    prior_cutoff,
    probability_counts,
    soft_codes,
    soft_weights,
    to_labels,
    with_ring,
)
from cryossl.pseudolabels.selection import Quality, Selection, label_map

maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))
labels = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=14),
    elements=st.sampled_from([BACKGROUND, BACKGROUND, BACKGROUND, PARTICLE, IGNORE]),
)
priors = st.floats(0.001, 0.6)
portions = st.floats(0.05, 1.0)
# Often a bulk at p8 = 0, as a sure network has it, and empty bins between.
histograms = hnp.arrays(np.int64, 256, elements=st.sampled_from([0, 0, 1, 3, 50, 1000])).filter(
    lambda counts: counts.sum()
)


@given(histograms, priors, portions)
def test_no_particle_cutoff_comes_nearer_to_the_portion_that_background_reached_and_of_equals_it_is_the_highest(
    counts: np.ndarray, prior: float, portion: float
) -> None:
    particle, background = portion_cutoffs(counts, prior=prior, portion=portion)
    reached = counts[: background + 1].sum() / (counts.sum() * (1 - prior))
    wanted = min(1.0, max(portion, reached)) * prior
    distance = {
        cutoff: abs(counts[cutoff:].sum() / counts.sum() - wanted) for cutoff in range(1, 257)
    }
    assert distance[particle] <= min(distance.values()) + 1e-12
    assert (
        particle == 256 or counts[particle] > 0
    )  # else the next higher one would label the same pixels


@given(histograms, priors, portions)
def test_the_background_cutoff_is_the_lowest_that_reaches_its_portion(
    counts: np.ndarray, prior: float, portion: float
) -> None:
    wanted = portion * (1 - prior) * counts.sum()
    _, background = portion_cutoffs(counts, prior=prior, portion=portion)
    assert counts[: background + 1].sum() >= wanted - 1e-6
    assert background == 0 or counts[:background].sum() < wanted + 1e-6


@given(histograms, priors, portions, portions)
def test_a_larger_portion_labels_no_fewer_pixels_of_either_class(
    counts: np.ndarray, prior: float, one: float, other: float
) -> None:
    small, large = (
        portion_cutoffs(counts, prior=prior, portion=portion) for portion in sorted((one, other))
    )
    assert large[0] <= small[0]
    assert large[1] >= small[1]


def _quantile(portion: float, *, particle: float = 0.5, background: float = 0.7) -> Selection:
    return Selection(
        particle_threshold=particle,
        background_threshold=background,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.0),
        portion=portion,
        scope="per_source",
    )


@given(maps, priors, portions)
def test_with_a_portion_the_thresholds_stay_as_floors_and_no_pixel_is_both(
    probabilities: np.ndarray, prior: float, portion: float
) -> None:
    counts = probability_counts(probabilities)
    own = portion_cutoffs(counts, prior=prior, portion=portion)
    found = _quantile(portion).cutoffs(counts, prior)
    floors = _quantile(portion).cutoffs()
    assert floors == (128, 76)
    assert found == (max(own[0], 128), min(own[1], 76, max(own[0], 128) - 1))
    said = label_map(probabilities, _quantile(portion), found)
    assert not (said[probabilities < 128] == PARTICLE).any()
    assert not (said[probabilities > 76] == BACKGROUND).any()


@given(st.integers(0, 2**32 - 1), st.floats(0.08, 0.3), st.floats(0.5, 0.9), st.floats(0.5, 6.0))
def test_the_labelled_part_sets_the_ratio_of_the_classes_and_not_the_teacher(
    seed: int, prior: float, portion: float, skew: float
) -> None:
    # A teacher that finds 11% to 75% of the pixels to be particle; no bin near the cut-offs has
    # many ties.
    probabilities = np.floor(256 * np.random.default_rng(seed).random((120, 120)) ** skew).astype(
        np.uint8
    )
    cutoffs = portion_cutoffs(probability_counts(probabilities), prior=prior, portion=portion)
    assume(cutoffs[1] < cutoffs[0])
    said = label_map(probabilities, _quantile(portion, particle=0.0, background=1.0), cutoffs)
    particles = np.count_nonzero(said == PARTICLE)
    assert particles / np.count_nonzero(said != IGNORE) == pytest.approx(prior, rel=0.2)
    assert particles / said.size == pytest.approx(portion * prior, rel=0.2)


@given(st.floats(0.001, 0.2), portions)
def test_where_background_is_one_stored_value_the_particles_are_as_many_as_the_prior_says(
    prior: float, portion: float
) -> None:
    counts = np.full(256, 40, dtype=np.int64)
    counts[0] = 30_000  # more than a portion of them, whatever it is
    particle, background = portion_cutoffs(counts, prior=prior, portion=portion)
    assume(background == 0)
    expected = min(1.0, 30_000 / counts.sum() / (1 - prior)) * prior
    assert counts[particle:].sum() / counts.sum() == pytest.approx(expected, abs=40 / counts.sum())


@given(histograms, priors)
def test_the_prior_cutoff_stays_near_a_half_and_follows_the_prior_between(
    counts: np.ndarray, prior: float
) -> None:
    found = prior_cutoff(counts, prior=prior)
    assert particle_cutoff(0.3) <= found <= particle_cutoff(0.7)
    free, _ = portion_cutoffs(counts, prior=prior, portion=1.0)
    if particle_cutoff(0.3) < free < particle_cutoff(0.7):
        assert found == free


@given(labels, st.integers(0, 3))
def test_a_ring_takes_the_background_within_its_chebyshev_distance_and_nothing_else(
    before: np.ndarray, ring_px: int
) -> None:
    expected = before.copy()
    particles = np.argwhere(before == PARTICLE)
    for y, x in np.argwhere(before == BACKGROUND):
        if len(particles) and np.abs(particles - (y, x)).max(axis=1).min() <= ring_px:
            expected[y, x] = IGNORE
    np.testing.assert_array_equal(with_ring(before, ring_px=ring_px), expected)


@given(maps, st.integers(1, 3))
def test_a_selection_with_a_ring_ignores_it_and_changes_no_particle(
    probabilities: np.ndarray, ring_px: int
) -> None:
    plain = _quantile(1.0, particle=0.6, background=0.4)
    ringed = Selection(**{**vars(plain), "ring_px": ring_px})
    np.testing.assert_array_equal(
        label_map(probabilities, ringed),
        with_ring(label_map(probabilities, plain), ring_px=ring_px),
    )


@given(histograms)
def test_soft_weights_are_softmatchs_formula_with_each_class_its_own(counts: np.ndarray) -> None:
    found = soft_weights(counts)
    assert ((found >= 0) & (found <= 1)).all()
    values = np.repeat(np.arange(256), np.minimum(counts, 60)) if counts.max() <= 60 else None
    for members in (range(128), range(128, 256)):
        n = counts[list(members)].sum()
        if not n:
            continue
        confidence = {v: max(v, 255 - v) / 255 for v in members}
        mean = sum(counts[v] * confidence[v] for v in members) / n
        variance = sum(counts[v] * (confidence[v] - mean) ** 2 for v in members) / n
        if values is not None:
            own = np.array([confidence[v] for v in values if v in members])
            assert (own.mean(), own.var()) == pytest.approx((mean, variance))
        for v in members:
            if confidence[v] >= mean:
                assert found[v] == 1
            elif variance > 1e-9:
                assert found[v] == pytest.approx(
                    np.exp(-(min(0, confidence[v] - mean) ** 2) / (2 * variance / 4))
                )
        ordered = found[sorted(members, key=confidence.__getitem__)]
        assert (np.diff(ordered) >= 0).all()


@given(st.integers(128, 255))
def test_a_class_of_one_confidence_weighs_full_there_and_nothing_below(value: int) -> None:
    counts = np.zeros(256, np.int64)
    counts[value] = 7
    found = soft_weights(counts)
    assert (found[value:] == 1).all()
    assert (found[128:value] == 0).all()
    assert (found[:128] == 1).all()  # a class that is nowhere has no weight to lose


@given(maps)
def test_soft_codes_keep_the_probability_to_one_part_in_255_and_never_say_ignore(
    probabilities: np.ndarray,
) -> None:
    codes = soft_codes(probabilities)
    assert not (codes == IGNORE).any()
    assert np.abs(codes.astype(int) - probabilities).max() <= 1
    np.testing.assert_array_equal(codes[probabilities < 255], probabilities[probabilities < 255])
    np.testing.assert_array_equal(to_labels(codes) == PARTICLE, probabilities >= 128)


def test_a_pixel_that_no_item_answers_for_stays_ignored_when_soft_targets_are_hardened() -> None:
    assert to_labels(np.array([[0, 127, 128, 254, 255]], np.uint8)).tolist() == [
        [0, 0, 1, 1, IGNORE]
    ]


@given(
    st.integers(1, 3).flatmap(lambda earlier: hnp.arrays(np.uint8, (earlier + 1, 6, 5))),
    st.integers(1, 255),
)
def test_agreement_is_the_mean_dice_of_the_earlier_maps_with_the_last(
    views: np.ndarray, cutoff: int
) -> None:
    def dice(one: set[tuple[int, int]], other: set[tuple[int, int]]) -> float:
        return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0

    *earlier, last = ({(int(y), int(x)) for y, x in np.argwhere(view >= cutoff)} for view in views)
    expected = sum(dice(each, last) for each in earlier) / len(earlier)
    assert agreement(list(views), cutoff=cutoff) == pytest.approx(expected)


def test_maps_without_a_particle_agree_wholly_and_one_against_none_not_at_all() -> None:
    empty, full = np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8)
    assert agreement([empty, empty, empty], cutoff=128) == 1
    assert agreement([full, full, empty], cutoff=128) == 0
    assert agreement([full, empty, full], cutoff=128) == 0.5
