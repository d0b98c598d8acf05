"""The note's formulas by hand on small arrays, and the traps of 0.70 in floating point."""

from __future__ import annotations

import inspect
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE, particle_ratio
from cryossl.errors import ConfigError
from cryossl.pseudolabels import selection as selection_module
from cryossl.pseudolabels.keep_rules import AllAbove, BestPerLabelled
from cryossl.pseudolabels.pixel_rules import background_cutoff, particle_cutoff, probability_counts
from cryossl.pseudolabels.selection import (
    Assessment,
    Quality,
    Selection,
    assess,
    label_map,
    select,
)
from cryossl.pseudolabels.summary import summarise

NAIVE = Selection(
    particle_threshold=0.70,
    background_threshold=0.70,
    quality=Quality(confidence=1.0),
    keep=AllAbove(0.70),
)
CLASS_BALANCED = Selection(
    particle_threshold=0.60,
    background_threshold=0.80,
    quality=Quality(particle=0.3, background=0.2, balance=0.5),
    keep=BestPerLabelled(2.0),
)


def _judged(quality: float, *, particle_pixels: int = 4, pixels: int = 100) -> Assessment:
    return Assessment(
        quality=quality,
        particle_confidence=0.7,
        background_confidence=0.9,
        mean_confidence=0.8,
        balance=0.5,
        particle_ratio=particle_pixels / pixels,
        ignored_fraction=0.2,
        pixels=pixels,
        particle_pixels=particle_pixels,
        ignored_pixels=pixels // 5,
    )


@pytest.mark.parametrize(
    ("threshold", "particle", "background"),
    [
        (0.70, 179, 76),
        (0.60, 153, 102),
        (0.80, 204, 51),
        (0.5, 128, 127),
        (0.95, 243, 12),
        (0.0, 0, 255),
        (1.0, 255, 0),
    ],
)
def test_cutoffs_are_the_exact_ones(threshold: float, particle: int, background: int) -> None:
    assert particle_cutoff(threshold) == particle
    assert background_cutoff(threshold) == background


def test_every_cutoff_in_percent_agrees_with_fractions() -> None:
    for percent in range(101):
        wanted = Fraction(percent, 100)
        assert particle_cutoff(percent / 100) == min(
            p8 for p8 in range(256) if Fraction(p8, 255) >= wanted
        )
        assert background_cutoff(percent / 100) == max(
            p8 for p8 in range(256) if 1 - Fraction(p8, 255) >= wanted
        )


def test_the_exact_cutoff_differs_from_the_floating_point_one_where_that_misses() -> None:
    assert int(255 * (1 - 0.8)) == 50
    assert background_cutoff(0.8) == 51


def test_naive_pixels_are_particle_from_179_and_background_to_76() -> None:
    probabilities = np.array([[0, 76, 77, 178, 179, 255]], dtype=np.uint8)
    expected = [[BACKGROUND, BACKGROUND, IGNORE, IGNORE, PARTICLE, PARTICLE]]
    assert label_map(probabilities, NAIVE).tolist() == expected


def test_class_balanced_pixels_are_particle_from_153_and_background_to_51() -> None:
    probabilities = np.array([[51, 52, 152, 153]], dtype=np.uint8)
    assert label_map(probabilities, CLASS_BALANCED).tolist() == [
        [BACKGROUND, IGNORE, IGNORE, PARTICLE]
    ]


def test_doubtful_pixels_become_background_on_request_and_nothing_else_changes() -> None:
    probabilities = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ignore = label_map(probabilities, CLASS_BALANCED)
    background = label_map(probabilities, replace(CLASS_BALANCED, uncertain_pixels="background"))
    assert np.array_equal(np.where(ignore == IGNORE, BACKGROUND, ignore), background)
    assert IGNORE in ignore
    assert IGNORE not in background


def test_a_pixel_that_meets_both_thresholds_is_a_particle() -> None:
    both = replace(CLASS_BALANCED, particle_threshold=0.6, background_threshold=0.4)
    assert label_map(np.array([[152, 153]], dtype=np.uint8), both).tolist() == [
        [BACKGROUND, PARTICLE]
    ]
    assert both.cutoffs() == (153, 152)


def test_thresholds_that_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        replace(CLASS_BALANCED, particle_threshold=0.3, background_threshold=0.6)


def test_thresholds_that_add_up_to_one_in_decimal_are_allowed() -> None:
    assert replace(CLASS_BALANCED, particle_threshold=0.9, background_threshold=0.1).cutoffs() == (
        230,
        229,
    )


def test_a_threshold_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        replace(CLASS_BALANCED, particle_threshold=60.0)


def test_class_balanced_quality_is_the_notes_formula() -> None:
    # 2 particle pixels (p 1.0 and 0.6), 2 doubtful, 6 background (p 0.0), target 0.25: r = 0.2,
    # balance 0.8.
    probabilities = np.array([[255, 153, 100, 100, 0], [0, 0, 0, 0, 0]], dtype=np.uint8)
    found = assess(probability_counts(probabilities), CLASS_BALANCED, target_ratio=0.25)
    assert found.particle_confidence == 0.8
    assert found.background_confidence == 1.0
    assert found.particle_ratio == 0.2
    assert found.balance == pytest.approx(0.8)
    assert found.quality == pytest.approx(0.3 * 0.8 + 0.2 * 1.0 + 0.5 * 0.8)
    assert found.ignored_fraction == 0.2
    assert (found.pixels, found.particle_pixels, found.ignored_pixels) == (10, 2, 2)


def test_naive_quality_is_the_mean_confidence() -> None:
    probabilities = np.array([[255, 0, 51, 204]], dtype=np.uint8)
    found = assess(probability_counts(probabilities), NAIVE, target_ratio=0.04)
    assert found.quality == found.mean_confidence == pytest.approx((1 + 1 + 0.8 + 0.8) / 4)


def test_balance_is_one_at_the_target_half_at_half_and_zero_at_twice_the_target() -> None:
    def balance(particle_pixels: int) -> float:
        probabilities = np.zeros((10, 10), dtype=np.uint8)
        probabilities.ravel()[:particle_pixels] = 255
        return assess(probability_counts(probabilities), CLASS_BALANCED, target_ratio=0.04).balance

    assert [balance(count) for count in (4, 2, 6, 0, 8, 50)] == pytest.approx(
        [1, 0.5, 0.5, 0, 0, 0]
    )


def test_an_image_without_confident_pixels_of_a_class_has_zero_confidence_there() -> None:
    found = assess(
        probability_counts(np.full((3, 3), 100, dtype=np.uint8)), CLASS_BALANCED, target_ratio=0.04
    )
    assert (found.particle_confidence, found.background_confidence, found.quality) == (
        0.0,
        0.0,
        0.0,
    )
    assert found.ignored_fraction == 1.0


def test_background_confidence_is_of_confident_pixels_whatever_becomes_of_the_doubtful() -> None:
    probabilities = np.array([[0, 0, 120, 120, 200]], dtype=np.uint8)
    ignore = assess(probability_counts(probabilities), CLASS_BALANCED, target_ratio=0.2)
    background = assess(
        probability_counts(probabilities),
        replace(CLASS_BALANCED, uncertain_pixels="background"),
        target_ratio=0.2,
    )
    assert replace(ignore, ignored_fraction=0.0, ignored_pixels=0) == background
    assert (ignore.ignored_fraction, background.ignored_fraction) == (0.4, 0.0)


def test_a_mean_confidence_of_exactly_the_threshold_is_kept() -> None:
    # 178 and 179 in equal parts: the mean is 178.5 / 255 = 0.70, which is in neither float32 nor
    # float64.
    at = assess(
        probability_counts(np.array([[178, 179] * 50], dtype=np.uint8)), NAIVE, target_ratio=0.04
    )
    below = assess(
        probability_counts(np.array([[178, 179] * 49 + [178, 178]], dtype=np.uint8)),
        NAIVE,
        target_ratio=0.04,
    )
    assert select({"at": at, "below": below}, NAIVE, labelled_count=1) == ("at",)


def test_an_image_is_assessed_by_its_histogram_alone() -> None:
    probabilities = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    counts = probability_counts(probabilities)
    assert counts.sum() == 1200
    assert counts[17] == np.count_nonzero(probabilities == 17)
    assert np.array_equal(counts, probability_counts(probabilities.T))


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="without pixels"):
        assess(np.zeros(256, dtype=np.int64), NAIVE, target_ratio=0.04)


@pytest.mark.parametrize("target_ratio", [0.0, -0.1, 1.1])
def test_a_target_that_is_no_ratio_is_refused(target_ratio: float) -> None:
    with pytest.raises(ValueError, match="target"):
        assess(
            probability_counts(np.zeros((2, 2), dtype=np.uint8)), NAIVE, target_ratio=target_ratio
        )


def test_all_above_keeps_every_image_at_or_above_its_threshold() -> None:
    assessments = {"a": _judged(0.70), "b": _judged(0.6999), "c": _judged(0.9)}
    assert select(assessments, NAIVE, labelled_count=1) == ("c", "a")


def test_best_per_labelled_keeps_two_per_label_best_first_and_ties_by_id() -> None:
    assessments = {
        "d": _judged(0.5),
        "b": _judged(0.8),
        "c": _judged(0.5),
        "a": _judged(0.5),
        "e": _judged(0.1),
    }
    assert select(assessments, CLASS_BALANCED, labelled_count=1) == ("b", "a")
    assert select(assessments, CLASS_BALANCED, labelled_count=2) == ("b", "a", "c", "d")
    assert len(select(assessments, CLASS_BALANCED, labelled_count=100)) == 5


@pytest.mark.parametrize(
    ("multiple", "labelled", "limit"),
    [(2.0, 258, 516), (0.29, 100, 29), (1.5, 3, 4), (0.1, 9, 0), (2.0, 0, 0)],
)
def test_the_quota_is_exact_and_rounded_down(multiple: float, labelled: int, limit: int) -> None:
    assert BestPerLabelled(multiple).limit(labelled) == limit


def test_selection_takes_no_true_label() -> None:
    parameters = {
        name
        for function in (label_map, assess, select, summarise)
        for name in inspect.signature(function).parameters
    }
    assert parameters == {
        "probabilities",
        "counts",
        "selection",
        "target_ratio",
        "assessments",
        "labelled_count",
        "cutoffs",
        "agreement",
        "chosen",
        "sources",
        "labelled_by_source",
    }
    assert not {"coco", "store"} & set(vars(selection_module))


def test_a_summary_pools_pixels_and_averages_qualities() -> None:
    assessments = {
        "a": _judged(0.9, particle_pixels=10, pixels=100),
        "b": _judged(0.7, particle_pixels=10, pixels=400),
        "c": _judged(0.1),
    }
    found = summarise(
        assessments,
        ("a", "b"),
        CLASS_BALANCED,
        labelled_count=1,
        target_ratio=0.05,
        sources={"a": "10017", "b": "10028", "c": "10028"},
    )
    assert (found.pool, found.candidates, found.count, found.per_labelled) == (3, 3, 2, 2.0)
    assert found.particle_ratio == 20 / 500
    assert found.particle_ratio_valid == 20 / 400
    assert found.particle_ratio_by_source == {"10017": 0.1, "10028": 0.025}
    assert found.ignored_fraction == 0.2
    assert found.quality == pytest.approx(0.8)
    assert found.target_ratio == 0.05


def test_without_a_quota_the_candidates_are_those_kept() -> None:
    assessments = {"a": _judged(0.9), "b": _judged(0.2)}
    found = summarise(
        assessments,
        select(assessments, NAIVE, labelled_count=1),
        NAIVE,
        labelled_count=1,
        target_ratio=0.04,
        sources={"a": "x", "b": "x"},
    )
    assert (found.pool, found.candidates, found.count) == (2, 1, 1)


def test_a_summary_of_nothing_has_no_ratios() -> None:
    found = summarise(
        {"a": _judged(0.2)}, (), NAIVE, labelled_count=3, target_ratio=0.04, sources={"a": "x"}
    )
    assert (found.count, found.per_labelled, found.particle_ratio_by_source) == (0, 0.0, {})
    assert (
        found.particle_ratio
        is found.particle_ratio_valid
        is found.ignored_fraction
        is found.quality
        is None
    )


@pytest.mark.parametrize("uncertain", ["ignore", "background"])
def test_the_valid_ratio_is_that_of_the_label_maps(
    uncertain: Literal["ignore", "background"],
) -> None:
    rules = replace(CLASS_BALANCED, uncertain_pixels=uncertain)
    probabilities = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    found = summarise(
        {"a": assess(probability_counts(probabilities), rules, target_ratio=0.3)},
        ("a",),
        rules,
        labelled_count=1,
        target_ratio=0.3,
        sources={"a": "x"},
    )
    assert found.particle_ratio_valid == particle_ratio(label_map(probabilities, rules))
