"""Scores, gains, thresholds and counts of models, against scikit-learn on the same pixels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as sklearn

from analysis.runs.counts import parse_counts
from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.evaluation.matching import best_threshold, rank
from cryossl.evaluation.metrics import Counts, histogram
from cryossl.evaluation.picking import Picks
from cryossl.evaluation.scores import (
    WITH_BORDER,
    WITHOUT_BORDER,
    Evaluation,
    Picked,
    Scored,
    checkpoint_numbers,
    gains,
    scores,
    source_counts,
)

SIDE = 24
BAND = 3


class Seen:
    """Random probability maps and truths of some micrographs, and the evaluation that was counted from them."""

    def __init__(self, seed: int, sources: str) -> None:
        rng = np.random.default_rng(seed)
        self.truths = [(rng.random((SIDE, SIDE)) < 0.15).astype(np.uint8) for _ in sources]
        self.p8 = [
            np.clip(rng.normal(90 + 80 * truth, 40), 0, 255).astype(np.uint8)
            for truth in self.truths
        ]
        self.banded = [self._band(truth) for truth in self.truths]
        rows = [
            [histogram(p8, banded), histogram(p8, truth)]
            for p8, truth, banded in zip(self.p8, self.truths, self.banded, strict=True)
        ]
        self.evaluation = Evaluation(
            tuple(f"m{number}" for number in range(len(sources))), tuple(sources), np.array(rows)
        )

    def pixels(self, *, banded: bool, source: str = "") -> tuple[np.ndarray, np.ndarray]:
        """True classes and p8 of all valid pixels."""
        truths = self.banded if banded else self.truths
        of = [
            number
            for number, name in enumerate(self.evaluation.sources)
            if not source or name == source
        ]
        truth = np.concatenate([truths[number].ravel() for number in of])
        p8 = np.concatenate([self.p8[number].ravel() for number in of])
        return truth[truth != IGNORE] == PARTICLE, p8[truth != IGNORE]

    @staticmethod
    def _band(truth: np.ndarray) -> np.ndarray:
        banded = np.full_like(truth, IGNORE)
        banded[BAND:-BAND, BAND:-BAND] = truth[BAND:-BAND, BAND:-BAND]
        return banded


@pytest.fixture(params=range(3))
def seen(request) -> Seen:
    return Seen(request.param, "aabbc")


def test_scores_are_scikit_learns(seen):
    threshold8 = 133
    found = scores(seen.evaluation, threshold8)
    truth, p8 = seen.pixels(banded=True)
    assert found["f1"] == pytest.approx(sklearn.f1_score(truth, p8 >= threshold8), abs=1e-12)
    assert found["precision"] == pytest.approx(
        sklearn.precision_score(truth, p8 >= threshold8), abs=1e-12
    )
    assert found["recall"] == pytest.approx(
        sklearn.recall_score(truth, p8 >= threshold8), abs=1e-12
    )
    assert found["f1_at_half"] == pytest.approx(sklearn.f1_score(truth, p8 / 255 >= 0.5), abs=1e-12)
    whole_truth, whole_p8 = seen.pixels(banded=False)
    assert found["f1_with_border"] == pytest.approx(
        sklearn.f1_score(whole_truth, whole_p8 >= threshold8), abs=1e-12
    )
    assert found["f1_with_border"] != found["f1"]


def test_a_source_has_its_own_score_and_the_mean_counts_each_source_once(seen):
    found = scores(seen.evaluation, 128)
    each = {}
    for source in "abc":
        truth, p8 = seen.pixels(banded=True, source=source)
        each[source] = sklearn.f1_score(truth, p8 >= 128)
        assert found[f"f1/{source}"] == pytest.approx(each[source], abs=1e-12)
    assert found["f1_source_mean"] == pytest.approx(np.mean(list(each.values())), abs=1e-12)


def test_the_decision_threshold_is_the_best_of_all_and_the_border_has_no_say(seen):
    truth, p8 = seen.pixels(banded=True)
    by_hand = {
        threshold8: sklearn.f1_score(truth, p8 >= threshold8) for threshold8 in range(1, 256)
    }
    assert by_hand[seen.evaluation.decision_threshold()] == max(by_hand.values())


def test_counts_of_micrographs_and_sources_add_up_to_the_whole(seen):
    whole = scores(seen.evaluation, 140)
    micrographs = sum(seen.evaluation.micrograph_counts(140), start=Counts(0, 0, 0))
    sources = source_counts(seen.evaluation, 140)
    assert list(sources) == ["a", "b", "c"]
    assert sum(sources.values(), start=Counts(0, 0, 0)) == micrographs
    assert micrographs.scores().f1 == whole["f1"]
    truth, p8 = seen.pixels(banded=True)
    tn, fp, fn, tp = sklearn.confusion_matrix(truth, p8 >= 140).ravel()
    assert (micrographs.tp, micrographs.fp, micrographs.fn) == (tp, fp, fn)
    assert seen.evaluation.pooled().sum() == tn + fp + fn + tp


def test_what_has_no_particle_is_undefined_and_left_out_of_the_mean():
    truth = np.zeros((4, 4), np.uint8)
    nothing = histogram(truth, truth)
    truth[0, 0] = PARTICLE
    hit = histogram(truth * np.uint8(255), truth)
    evaluation = Evaluation(("x", "y"), ("a", "b"), np.array([[nothing, nothing], [hit, hit]]))
    found = scores(evaluation, 128)
    assert (found["f1/a"], found["f1/b"], found["f1_source_mean"]) == (None, 1.0, 1.0)
    only = scores(Evaluation(("x",), ("a",), np.array([[nothing, nothing]])), 128)
    assert {only[name] for name in ("f1", "precision", "recall", "f1_source_mean")} == {None}


def test_the_band_counts_only_where_it_is_asked_for(seen):
    inside = (SIDE - 2 * BAND) ** 2 * len(seen.truths)
    assert seen.evaluation.pooled(border=WITHOUT_BORDER).sum() == inside
    assert seen.evaluation.pooled(border=WITH_BORDER).sum() == SIDE * SIDE * len(seen.truths)


# --- what is tracked of a model


def random_maps(seed: int, shift: float = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((20, 20)) < 0.2).astype(np.uint8)
    return np.clip(rng.normal(90 + shift * truth, 45), 0, 255).astype(np.uint8), truth


def evaluation(*seeds: int, shift: float = 60) -> Evaluation:
    rows = [[histogram(*random_maps(seed, shift))] * 2 for seed in seeds]
    return Evaluation(
        tuple(f"m{seed}" for seed in seeds), tuple("ab"[seed % 2] for seed in seeds), np.array(rows)
    )


@pytest.fixture
def scored() -> Scored:
    validation = evaluation(1, 2, 3)
    return Scored(validation, evaluation(4, 5), validation.decision_threshold())


def test_test_is_scored_at_the_threshold_that_validation_chose(scored):
    found = scored.numbers()
    maps = [random_maps(seed) for seed in (4, 5)]
    p8, truth = (np.concatenate([pair[place].ravel() for pair in maps]) for place in (0, 1))
    cut = round(found["threshold/decision"] * 255)
    assert cut == scored.threshold8
    assert found["test/f1"] == pytest.approx(sklearn.f1_score(truth, p8 >= cut), abs=1e-12)
    assert found["test/recall"] == pytest.approx(sklearn.recall_score(truth, p8 >= cut), abs=1e-12)
    assert {
        "validation/f1",
        "validation/precision",
        "test/f1_at_half",
        "test/f1/a",
        "test/f1/b",
    } <= set(found)


def test_the_counts_file_gives_the_scores_back(scored):
    document = json.loads(json.dumps(scored.counts()))
    for part in ("validation", "test"):
        total = sum(
            (Counts(row["tp"], row["fp"], row["fn"]) for row in document[part]),
            start=Counts(0, 0, 0),
        )
        assert total.scores().f1 == scored.numbers()[f"{part}/f1"]
    assert [row["id"] for row in document["test"]] == ["m4", "m5"]
    assert np.array_equal(document["test_histogram"], scored.test.pooled())


def with_particles(evaluation: Evaluation, seed: int) -> Evaluation:
    """The same with picks: those near a particle score higher, two in three of them are near one."""
    rng = np.random.default_rng(seed)
    picked = []
    for _ in evaluation.ids:
        truths = rng.uniform(0, 100, (40, 2))
        near = rng.random(30) < 0.67
        centres = np.where(
            near[:, None], truths[:30] + rng.normal(0, 0.5, (30, 2)), rng.uniform(0, 100, (30, 2))
        )
        scores = rng.integers(1, 40_000, 30) + 20_000 * near
        order = np.argsort(-scores, kind="stable")
        picked.append(
            Picked(
                Picks(centres[order].astype(np.float32), scores[order].astype(np.uint16)),
                truths,
                2.0,
            )
        )
    return dataclasses.replace(evaluation, picked=tuple(picked))


@pytest.fixture
def scored_with_particles(scored) -> Scored:
    return dataclasses.replace(
        scored, validation=with_particles(scored.validation, 1), test=with_particles(scored.test, 2)
    )


def test_particles_are_scored_at_the_pick_threshold_that_validation_chose(scored_with_particles):
    both, numbers = scored_with_particles, scored_with_particles.numbers()
    cut = round(numbers["threshold/pick"] * 65_535)
    assert cut == best_threshold(
        [rank(one.picks, one.truths, limit_px=2.0) for one in both.validation.picked]
    )
    assert cut != both.test.pick_threshold()
    total = Counts(0, 0, 0)
    for one in both.test.picked:
        chosen = one.picks.centres[one.picks.scores >= cut]
        near = np.hypot(*(chosen[:, None] - one.truths[None]).transpose(2, 0, 1)) <= 2.0
        pairs = int(near[linear_sum_assignment(near, maximize=True)].sum())
        total += Counts(pairs, len(chosen) - pairs, len(one.truths) - pairs)
    found = total.scores()
    assert (
        numbers["test/particle_f1"],
        numbers["test/particle_precision"],
        numbers["test/particle_recall"],
    ) == (found.f1, found.precision, found.recall)
    assert 0 < numbers["test/particle_ap"] < 1
    assert {"validation/particle_f1", "test/particle_f1/a", "test/particle_f1/b"} <= set(numbers)


def test_the_counts_file_gives_particle_scores_back_beside_pixel_scores(
    scored_with_particles, scored
):
    document = json.loads(json.dumps(scored_with_particles.counts()))
    for part in ("validation", "test"):
        total = sum(
            (
                Counts(*(row[f"particle_{name}"] for name in ("tp", "fp", "fn")))
                for row in document[part]
            ),
            start=Counts(0, 0, 0),
        )
        assert total.scores().f1 == scored_with_particles.numbers()[f"{part}/particle_f1"]
    read = parse_counts(document)
    assert read.particles[0].tolist() == [
        document["test"][0][f"particle_{name}"] for name in ("tp", "fp", "fn")
    ]
    assert np.array_equal(read.counts, parse_counts(scored.counts()).counts)


def test_without_picks_no_particle_is_spoken_of(scored):
    assert [name for name in scored.numbers() if "particle" in name or "pick" in name] == []
    assert parse_counts(scored.counts()).particles is None


def test_the_best_checkpoint_has_its_own_threshold():
    validation, test = evaluation(1, 2, shift=20), evaluation(4, 5, shift=20)
    found = checkpoint_numbers(validation, test, step=7)
    threshold8 = validation.decision_threshold()
    own = Scored(validation, test, threshold8).numbers()
    assert found == {
        "best_step/step": 7,
        "best_step/validation_f1": own["validation/f1"],
        "best_step/test_f1": own["test/f1"],
    }


def test_a_gain_is_a_difference_and_undefined_where_either_side_is():
    baseline = {"test/f1": 0.70, "test/recall": 0.6, "test/precision": 0.8, "validation/f1": 0.71}
    student = {"test/f1": 0.725, "test/recall": 0.5, "test/precision": None, "validation/f1": 0.71}
    assert gains(student, baseline) == pytest.approx(
        {
            "gain/f1": 0.025,
            "gain/recall": -0.1,
            "gain/precision": None,
            "gain/validation_f1": 0.0,
            "gain/particle_f1": None,
        }
    )
    assert gains({"test/particle_f1": 0.75}, {"test/particle_f1": 0.5})["gain/particle_f1"] == 0.25
    assert set(gains(baseline, {}).values()) == {None}
