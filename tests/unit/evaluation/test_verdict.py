"""The note's verdict, criterion by criterion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cryossl.evaluation.verdict import Measures, health, judge, measures_of, reference_of

# 258 labelled, target 4%: the note's numbers for a good class-balanced run.
GOOD = Measures(
    f1=0.725,
    supervised_f1=0.70,
    gain_f1=0.025,
    gain_recall=0.01,
    particle_ratio=0.039,
    target_ratio=0.04,
    per_labelled=516 / 258,
    accepted_iteration=2,
)


def outcome(measures: Measures) -> str:
    return judge([measures], strategy="class_balanced", ratio_percent=5).outcome


def test_the_notes_expected_run_is_a_success() -> None:
    verdict = judge([GOOD], strategy="class_balanced", ratio_percent=5)
    assert verdict.outcome == "success"
    assert [criterion.met for criterion in verdict.criteria] == [True] * 4
    assert "every criterion is met" in verdict.sentence


def test_the_notes_naive_run_is_a_failure() -> None:
    naive = Measures(
        f1=0.70,
        supervised_f1=0.70,
        gain_f1=0.0,
        gain_recall=0.0,
        particle_ratio=0.02,
        target_ratio=0.04,
        per_labelled=3083 / 258,
        rejected_gain_f1=-0.0015,
    )
    verdict = judge([naive], strategy="naive", ratio_percent=5)
    assert verdict.outcome == "failure"
    assert verdict.remark == "no student was accepted, the last one would have made -0.15 points"
    assert "70.0% F1 with 5% labels" in verdict.next_steps


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.02, "success"),
        (0.0199, "partial"),
        (0.01, "partial"),
        (0.0099, "failure"),
        (-0.02, "failure"),
        (0.72 - 0.70, "success"),
    ],
)
def test_the_gain_decides_between_the_three(gain: float, expected: str) -> None:
    assert outcome(replace(GOOD, gain_f1=gain)) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.03, "success"),
        (0.05, "success"),
        (0.029, "partial"),
        (0.051, "partial"),
        (0.02, "partial"),
        (0.0199, "failure"),
    ],
)
def test_the_particle_ratio_must_lie_within_a_quarter_of_the_target(
    ratio: float, expected: str
) -> None:
    assert outcome(replace(GOOD, particle_ratio=ratio)) == expected


def test_the_bounds_move_with_the_target() -> None:
    dense = replace(GOOD, particle_ratio=0.09, target_ratio=0.10)
    assert outcome(dense) == "success"
    assert outcome(replace(dense, target_ratio=0.04)) == "partial"


def test_lower_recall_or_too_many_pseudo_labels_make_a_success_partial() -> None:
    assert outcome(replace(GOOD, gain_recall=-0.001)) == "partial"
    assert outcome(replace(GOOD, per_labelled=4.1)) == "partial"
    assert outcome(replace(GOOD, per_labelled=500 / 258)) == "success"


@pytest.mark.parametrize(
    ("strategy", "asked"),
    [
        ("naive", True),
        ("naive+quota", True),
        ("class_balanced-quota", True),
        ("class_balanced+noise", True),
        ("weighted_loss", True),
        ("soft", False),
        ("ema_consistency+labelled_paste+prior_match", False),
    ],
)
def test_a_strategy_that_fixes_its_count_is_not_asked_for_another(
    strategy: str, *, asked: bool
) -> None:
    verdict = judge([replace(GOOD, per_labelled=19.0)], strategy=strategy, ratio_percent=5)
    assert verdict.outcome == ("partial" if asked else "success")
    assert ("pseudo-label count" in {criterion.name for criterion in verdict.criteria}) is asked
    assert ("count" in {sign.name for sign in verdict.signs}) is asked


def test_what_was_not_measured_is_not_met() -> None:
    assert outcome(replace(GOOD, particle_ratio=None)) == "partial"
    assert outcome(replace(GOOD, gain_f1=None)) == "unknown"
    assert judge([], strategy="naive", ratio_percent=5).outcome == "unknown"


def test_over_seeds_a_success_needs_a_lower_bound_above_zero() -> None:
    seeds = [GOOD, replace(GOOD, gain_f1=0.04)]
    certain, doubtful, without = (
        judge(
            seeds, strategy="class_balanced", ratio_percent=5, gain_lower=lower, recall_lower=-0.005
        ).outcome
        for lower in (0.001, 0.0, None)
    )
    assert (certain, doubtful, without) == ("success", "partial", "partial")


def test_over_seeds_recall_may_lose_less_than_a_point() -> None:
    seeds = [replace(GOOD, gain_recall=-0.002)] * 2
    held, lost = (
        judge(
            seeds, strategy="class_balanced", ratio_percent=5, gain_lower=0.01, recall_lower=lower
        ).outcome
        for lower in (-0.0099, -0.01)
    )
    assert (held, lost) == ("success", "partial")


def test_arms_without_pseudo_labels_are_controls() -> None:
    for control in ("supervised_long", "ensemble"):
        verdict = judge([GOOD], strategy=control, ratio_percent=5)
        assert verdict.outcome == "control"
        assert verdict.next_steps == ""
        assert {criterion.met for criterion in verdict.criteria} == {None}


def test_each_outcome_has_its_own_next_steps() -> None:
    steps = {
        judge([replace(GOOD, gain_f1=gain)], strategy="naive", ratio_percent=5).next_steps
        for gain in (0.03, 0.015, 0.0, None)
    }
    assert len(steps) == 4


@pytest.mark.parametrize(
    ("relative", "good"),
    [
        (1.0, True),
        (0.875, True),
        (1.125, True),
        (0.8, None),
        (1.4, None),
        (0.49, False),
        (1.51, False),
    ],
)
def test_the_ratio_sign_follows_the_notes_bands(relative: float, good: bool | None) -> None:
    assert health(relative, None, None)[0].good is good


@pytest.mark.parametrize(
    ("per_labelled", "good"), [(2.0, True), (4.0, True), (1.0, None), (6.0, None), (8.0, False)]
)
def test_the_count_sign_follows_the_notes_bands(per_labelled: float, good: bool | None) -> None:
    assert health(None, per_labelled, None)[0].good is good


def test_no_improvement_is_a_bad_sign() -> None:
    assert [sign.good for sign in health(None, None, 0.0)] == [False]
    assert health(None, None, None) == ()


def test_measures_come_from_metrics_by_their_tracked_names() -> None:
    final = {
        "test/f1": 0.725,
        "test/recall": 0.71,
        "pseudo/particle_ratio": 0.039,
        "pseudo/target_ratio": 0.04,
        "pseudo/per_labelled": 2.0,
    }
    reference = {"test/f1": 0.7, "test/recall": 0.7}
    found = measures_of(final, reference, supervised=reference, pseudo=final, accepted_iteration=2)
    assert (found.gain_f1, found.gain_recall) == (pytest.approx(0.025), pytest.approx(0.01))
    assert found == replace(
        GOOD, supervised_f1=0.7, gain_f1=found.gain_f1, gain_recall=found.gain_recall
    )


def test_what_is_not_finite_was_not_measured() -> None:
    nothing = {"test/f1": float("nan"), "test/recall": None}
    found = measures_of(nothing, {"test/f1": 0.7}, supervised={}, pseudo={}, accepted_iteration=0)
    assert (found.f1, found.gain_f1, found.gain_recall) == (None, None, None)


def test_a_rejected_student_is_measured_beside_the_baseline_that_stays() -> None:
    base, student = {"test/f1": 0.7}, {"test/f1": 0.69}
    found = measures_of(
        base, base, supervised=base, pseudo=student, accepted_iteration=0, last_student=student
    )
    assert found.gain_f1 == 0
    assert found.rejected_gain_f1 == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("scores", "reference"),
    [
        ({"supervised": 0.6}, "supervised"),
        ({"supervised": 0.6, "supervised_long": 0.61, "supervised_noise": 0.59}, "supervised_long"),
        ({"supervised": 0.6, "supervised_noise": 0.6}, "supervised"),
        ({"supervised": None, "supervised_long": 0.1}, "supervised_long"),
        ({"supervised": 0.6, "full": 0.9}, "supervised"),
        ({"supervised": 0.6, "ensemble": 0.9}, "supervised"),
        ({}, "supervised"),
    ],
)
def test_gains_are_counted_from_the_baseline_that_is_best_on_validation(scores, reference) -> None:
    assert reference_of("naive", scores) == reference_of("full", scores) == reference
    assert reference_of("supervised_long", scores) == "supervised"


def test_the_supervised_result_to_report_is_that_of_the_baseline_not_of_a_better_reference() -> (
    None
):
    base, reference, final = {"test/f1": 0.60}, {"test/f1": 0.66}, {"test/f1": 0.65}
    found = measures_of(final, reference, supervised=base, pseudo=final, accepted_iteration=1)
    verdict = judge([found], strategy="naive", ratio_percent=5)
    assert verdict.outcome == "failure"
    assert "60.0% F1 with 5% labels" in verdict.next_steps
