"""Scores of evaluations, against scikit-learn on the pixels they were counted from."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.evaluation.metrics import Counts, histogram
from cryossl.evaluation.scores import WITH_BORDER, WITHOUT_BORDER, Evaluation, scores, source_counts

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
