"""Two scorings of one model: the names of their numbers, their own thresholds, references and verdicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.runs.counts import by_scoring, parse_counts
from cryossl.data.labels import LabelMap
from cryossl.evaluation.metrics import histogram
from cryossl.evaluation.picking import Picks
from cryossl.evaluation.scores import Evaluation, Picked, Scored
from cryossl.evaluation.scorings import (
    EIGHT,
    Scorings,
    accepted_by_scoring,
    f1_text,
    gains_by_scoring,
    judged_by,
    of_scoring,
    plain,
    scored_by,
    views_of,
)

SIDE = 20


@pytest.mark.parametrize(
    ("metric", "by_eight"),
    [
        ("test/f1", "test/f1_views8"),
        ("validation/particle_recall", "validation/particle_recall_views8"),
        ("test/f1/10017", "test/f1_views8/10017"),
        ("test/f1/a/b", "test/f1_views8/a/b"),
        ("gain/f1", "gain/f1_views8"),
        ("accepted/test_f1", "accepted/test_f1_views8"),
        ("threshold/decision", "threshold/decision_views8"),
    ],
)
def test_a_score_has_a_name_by_each_scoring_and_the_names_lead_to_each_other(metric, by_eight):
    assert scored_by(metric, EIGHT) == scored_by(by_eight, EIGHT) == by_eight
    assert scored_by(by_eight, 1) == plain(by_eight) == plain(metric) == metric
    assert (views_of(metric), views_of(by_eight)) == (1, 8)


@pytest.mark.parametrize(
    "metric", ["pseudo/count", "threshold/particle", "threshold/background", "train/steps"]
)
def test_what_is_no_score_has_one_name(metric):
    assert scored_by(metric, EIGHT) == metric
    assert views_of(metric) == 1


def evaluation(seed: int, *, shift: float) -> Evaluation:
    """Three micrographs of two sources, with probabilities and picks that lie `shift` higher."""
    rng = np.random.default_rng(seed)
    rows, picked = [], []
    for _ in range(3):
        truth: LabelMap = (rng.random((SIDE, SIDE)) < 0.2).astype(np.uint8)
        p8 = np.clip(rng.normal(70 + shift + 70 * truth, 30), 0, 255).astype(np.uint8)
        rows.append([histogram(p8, truth)] * 2)
        centres = rng.uniform(0, 100, (12, 2)).astype(np.float32)
        near = np.concatenate([centres[:7].astype(float) + 1, rng.uniform(0, 100, (3, 2))])
        scores = np.sort(rng.integers(1000, 60_000, 12).astype(np.uint16))[::-1].copy()
        picked.append(Picked(Picks(centres, scores), near, 4.0))
    return Evaluation(("m0", "m1", "m2"), ("a", "b", "a"), np.array(rows), tuple(picked))


def scored(seed: int, *, shift: float) -> Scored:
    validation = evaluation(seed, shift=shift)
    return Scored(validation, evaluation(seed + 1, shift=shift), validation.decision_threshold())


ONE, OTHER = scored(0, shift=0.0), scored(10, shift=45.0)
BOTH = Scorings(ONE, OTHER)


def test_each_scoring_has_the_thresholds_that_are_best_for_it_on_validation():
    numbers = BOTH.numbers()
    for views, one in ((1, ONE), (8, OTHER)):
        names = {name: scored_by(name, views) for name in ("threshold/decision", "threshold/pick")}
        assert 255 * numbers[names["threshold/decision"]] == pytest.approx(
            one.validation.decision_threshold()
        )
        assert 65_535 * numbers[names["threshold/pick"]] == pytest.approx(
            one.validation.pick_threshold()
        )
    assert numbers["threshold/decision_views8"] > numbers["threshold/decision"] + 0.05


def test_the_numbers_by_one_view_are_to_the_digit_those_without_another_scoring():
    alone = Scorings(ONE).numbers()
    assert alone == ONE.numbers()
    assert of_scoring(BOTH.numbers(), 1) == alone
    assert of_scoring(BOTH.numbers(), 8) == OTHER.numbers()
    assert set(BOTH.numbers()) == {*alone, *(scored_by(name, 8) for name in OTHER.numbers())}


def test_the_counts_of_both_scorings_are_read_back():
    document = BOTH.counts()
    assert {name: document[name] for name in ONE.counts()} == ONE.counts()
    found = parse_counts(document)
    assert found is not None
    for views, one in ((1, ONE), (8, OTHER)):
        read = by_scoring({"run": found}, views)["run"]
        expected = parse_counts(one.counts())
        assert expected is not None
        np.testing.assert_array_equal(read.counts, expected.counts)
        np.testing.assert_array_equal(read.particles, expected.particles)
        np.testing.assert_array_equal(read.histogram, expected.histogram)
    bare = parse_counts(Scorings(ONE).counts())
    assert bare is not None
    assert by_scoring({"run": bare}, 8) == {}


def test_a_broken_document_by_eight_views_does_not_spoil_the_one_by_one_view():
    document = BOTH.counts()
    document["views8"]["test"][0]["tp"] = -1
    found = parse_counts(document)
    assert found is not None
    assert found.eight is None


def test_the_model_picks_as_it_was_scored_with_the_most_views():
    assert Scorings(ONE).widest is ONE
    assert BOTH.widest is OTHER


def test_gains_are_taken_between_scores_of_one_scoring():
    found = gains_by_scoring(
        {"test/f1": 0.72, "test/f1_views8": 0.75, "test/recall_views8": 0.5},
        {"test/f1": 0.70, "test/f1_views8": 0.74, "test/recall_views8": 0.6},
    )
    assert found["gain/f1"] == pytest.approx(0.02)
    assert found["gain/f1_views8"] == pytest.approx(0.01)
    assert found["gain/recall_views8"] == pytest.approx(-0.1)
    assert not [name for name in gains_by_scoring(ONE.numbers(), ONE.numbers()) if "8" in name]


def test_the_accepted_model_keeps_its_scores_by_both():
    found = accepted_by_scoring({"test/f1": 0.7, "test/f1_views8": 0.8})
    assert (found["accepted/test_f1"], found["accepted/test_f1_views8"]) == (0.7, 0.8)
    assert not [name for name in accepted_by_scoring({"test/f1": 0.7}) if "8" in name]


def numbers(one: float, eight: float, *, validation: float, by_eight: float) -> dict[str, float]:
    return {
        "test/f1": one,
        "test/recall": one,
        "validation/f1": validation,
        "test/f1_views8": eight,
        "test/recall_views8": eight,
        "validation/f1_views8": by_eight,
    }


def test_each_scoring_has_the_baseline_that_is_best_on_validation_by_it():
    """Alone the plain baseline is the better one, averaged the one under noise; the gain follows."""
    baselines = {
        "supervised": numbers(0.70, 0.71, validation=0.75, by_eight=0.76),
        "supervised_noise": numbers(0.69, 0.74, validation=0.74, by_eight=0.79),
    }
    pseudo = {
        "pseudo/particle_ratio": 0.04,
        "pseudo/target_ratio": 0.04,
        "pseudo/per_labelled": 2.0,
    }
    final = numbers(0.73, 0.745, validation=0.77, by_eight=0.80) | pseudo
    found = {
        views: judged_by(
            views,
            strategy="naive",
            ratio_percent=5,
            final=final,
            accepted_iteration=1,
            tried=final,
            baselines=baselines,
        )
        for views in (1, 8)
    }
    assert [found[views][1] for views in (1, 8)] == ["supervised", "supervised_noise"]
    assert [found[views][0].outcome for views in (1, 8)] == ["success", "failure"]
    assert [found[views][0].criteria[0].value for views in (1, 8)] == pytest.approx([0.03, 0.005])
    # The particle ratio belongs to the pseudo-labels, not to a scoring.
    assert found[8][0].criteria[2].value == 0.04


def test_the_key_line_shows_what_was_scored():
    both = {"test/f1": 0.7226, "gain/f1": 0.0268, "test/f1_views8": 0.731, "gain/f1_views8": -0.001}
    assert f1_text(both) == (
        "test F1 72.26 (+2.68 over the baseline), by eight views 73.10 (-0.10 over the baseline)"
    )
    assert f1_text({"test/f1": 0.5}) == "test F1 50.00"
    assert f1_text({"test/f1": None}) == "test F1 undefined"


def test_particles_that_were_not_scored_have_no_number_by_eight_views():
    bare = Scored(
        *(dataclasses.replace(one, picked=()) for one in (OTHER.validation, OTHER.test)), 9
    )
    found = Scorings(ONE, bare).numbers()
    assert "test/particle_f1" in found
    assert "test/particle_f1_views8" not in found
