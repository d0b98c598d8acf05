"""The model that is used where none is named: the best honest one on validation, never `full`."""

from __future__ import annotations

import math

from cryossl.evaluation.best_model import best_of


def particles(f1: float | None, pixels: float | None = 0.5) -> dict[str, float | None]:
    return {"validation/particle_f1": f1, "validation/f1": pixels, "test/particle_f1": 0.99}


def test_full_is_never_chosen_and_is_named_where_it_scored_higher():
    models = [("supervised", particles(0.4)), ("full", particles(0.9)), ("naive", particles(0.6))]
    best = best_of(models, fitted=False)
    assert (best.number, best.score, best.metric) == (2, 0.6, "validation/particle_f1")
    assert best.passed_over == 1
    assert best_of([("full", particles(0.9))], fitted=False) is None


def test_full_is_not_named_where_it_scored_no_higher():
    models = [("full", particles(0.6)), ("supervised", particles(0.6)), ("naive", particles(0.2))]
    assert (best_of(models, fitted=False).number, best_of(models, fitted=False).passed_over) == (
        1,
        None,
    )


def test_controls_that_learned_from_the_labelled_part_alone_may_be_chosen():
    for control in ("supervised_long", "supervised_noise", "ensemble"):
        assert (
            best_of(
                [("supervised", particles(0.4)), (control, particles(0.5))], fitted=False
            ).number
            == 1
        )


def test_particles_decide_where_all_have_them_else_pixels():
    both = [("supervised", particles(0.4, 0.9)), ("naive", particles(0.6, 0.8))]
    assert best_of(both, fitted=False).number == 1
    for unknown in (None, math.nan):
        one = [("supervised", particles(unknown, 0.9)), ("naive", particles(0.6, 0.8))]
        assert (best_of(one, fitted=False).number, best_of(one, fitted=False).metric) == (
            0,
            "validation/f1",
        )
    # That of `full` is not needed.
    assert (
        best_of([*both, ("full", particles(None, 0.99))], fitted=False).metric
        == "validation/particle_f1"
    )


def test_a_model_without_any_score_is_chosen_only_over_none():
    assert best_of(
        [("supervised", particles(None, None)), ("naive", particles(None, 0.1))], fitted=False
    ).number
    assert best_of([("supervised", particles(None, None))], fitted=False) is None
    assert best_of([], fitted=False) is None


def test_of_equals_it_is_the_first():
    assert best_of([("naive", particles(0.6)), ("soft", particles(0.6))], fitted=False).number == 0


def test_scores_on_what_was_learned_do_not_prefer_the_baseline():
    """On the one labelled micrograph of EMPIAR-10017 the supervised network scored 95.1, naive 92.1;
    on three other micrographs 85.1 and 87.2."""
    models = [
        ("supervised", particles(0.951)),
        ("naive", particles(0.921)),
        ("supervised_noise", particles(0.935)),
        ("full", particles(0.99)),
    ]
    best = best_of(models, fitted=True)
    assert (best.number, best.passed_over) == (1, 3)
    assert best_of(models[:1], fitted=True).number == 0
    assert best_of(models[:3], fitted=False).number == 0
