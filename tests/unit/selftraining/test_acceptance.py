"""Which student becomes the teacher."""

from __future__ import annotations

import numpy as np
import pytest

from cryossl.errors import DataError
from cryossl.evaluation.metrics import Counts
from cryossl.selftraining.acceptance import confident, improved


def _validation(tp: list[int], *, positives: int = 100, fp: int = 20) -> dict[str, Counts]:
    return {f"m{place:03d}": Counts(found, fp, positives - found) for place, found in enumerate(tp)}


def _confident(best: dict[str, Counts], student: dict[str, Counts], seed: int = 0) -> bool:
    return confident(best, student, rng=np.random.default_rng(seed))


def test_a_higher_pooled_f1_is_an_improvement_and_an_equal_one_is_not() -> None:
    best = _validation([70, 70])
    assert improved(best, _validation([70, 71]))
    assert not improved(best, best)
    assert not improved(best, _validation([70, 69]))


def test_pooled_f1_decides_and_not_the_mean_over_micrographs() -> None:
    best = {"dense": Counts(500, 500, 500), "sparse": Counts(0, 1, 1)}
    student = {"dense": Counts(490, 500, 510), "sparse": Counts(1, 0, 0)}
    assert not improved(best, student)


def test_improvement_is_exact_where_floating_point_sees_a_tie() -> None:
    many = 3 * 10**17
    best, student = {"m": Counts(many, many, 0)}, {"m": Counts(many + 1, many, 0)}
    assert best["m"].scores().f1 == student["m"].scores().f1
    assert improved(best, student)


def test_a_false_alarm_where_nothing_is_defined_is_no_improvement() -> None:
    assert not improved({"m": Counts(0, 0, 0)}, {"m": Counts(0, 9, 0)})
    assert improved({"m": Counts(0, 0, 0)}, {"m": Counts(1, 0, 0)})


def test_a_gain_on_every_micrograph_is_confident() -> None:
    rng = np.random.default_rng(1)
    before = rng.integers(50, 80, 40)
    assert _confident(_validation(before.tolist()), _validation((before + 3).tolist()))


def test_a_gain_that_one_micrograph_makes_is_an_improvement_but_not_confident() -> None:
    best, student = _validation([70] * 20), _validation([70] * 19 + [95])
    assert improved(best, student)
    assert not _confident(best, student)


def test_a_loss_and_a_tie_are_not_confident() -> None:
    best = _validation([70, 60, 80, 75])
    assert not _confident(best, best)
    assert not _confident(best, _validation([60, 50, 70, 65]))


def test_the_bootstrap_is_paired() -> None:
    # Micrographs differ by far more than the gain: unpaired resampling would drown it.
    before = [10, 90] * 20
    assert _confident(_validation(before), _validation([found + 2 for found in before]))


def test_a_borderline_answer_depends_on_the_generator_and_on_nothing_else() -> None:
    # The gains have mean 36.5 and standard error 29: the one-sided 90% bound is almost exactly at
    # zero.
    gains = (
        83,
        44,
        160,
        80,
        -16,
        118,
        260,
        206,
        -42,
        -126,
        -29,
        70,
        -285,
        31,
        -123,
        -46,
        -18,
        17,
        126,
        220,
    )
    best = _validation([7000] * 20, positives=10000, fp=2000)
    student = _validation([7000 + gain for gain in gains], positives=10000, fp=2000)
    answers = [_confident(best, student, seed) for seed in range(12)]
    assert answers == [_confident(best, student, seed) for seed in range(12)]
    assert set(answers) == {True, False}


def test_without_any_gain_about_a_tenth_of_students_pass_the_confident_gate() -> None:
    rng = np.random.default_rng(4)
    passed = 0
    for trial in range(60):
        both = rng.integers(40, 90, (2, 30))
        passed += _confident(
            _validation(both[0].tolist()), _validation(both[1].tolist()), seed=trial
        )
    # Binomial(60, 0.1) is at most 13 with probability 0.997; the gate `improved` would pass about
    # 30.
    assert 1 <= passed <= 13


def test_micrographs_without_particles_do_not_upset_the_bootstrap() -> None:
    best = {"a": Counts(0, 0, 0), "b": Counts(5, 1, 1)}
    assert not _confident(best, {"a": Counts(0, 0, 0), "b": Counts(6, 1, 0)})


def test_one_micrograph_cannot_be_resampled() -> None:
    with pytest.raises(DataError, match="accept=improved"):
        _confident(_validation([70]), _validation([90]))


def test_models_scored_on_different_micrographs_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same micrographs"):
        improved(_validation([70, 70]), _validation([70]))
    with pytest.raises(ValueError, match="same micrographs"):
        _confident(_validation([70, 70]), _validation([70]))
