"""Our scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.evaluation.metrics import audit, best_threshold, counts_at, histogram


def _maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A weak teacher's probabilities and a truth with a tenth of its pixels ignored."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((48, 64)) < 0.15).astype(np.uint8)
    probabilities = np.clip(rng.normal(90 + 60 * truth, 40), 0, 255).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = IGNORE
    return probabilities, truth


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold8", [1, 77, 128, 179, 220])
def test_scores_equal_those_of_scikit_learn(seed: int, threshold8: int) -> None:
    probabilities, truth = _maps(seed)
    valid = truth != IGNORE
    said, there = probabilities[valid] >= threshold8, truth[valid] == PARTICLE
    ours = counts_at(histogram(probabilities, truth), threshold8).scores()
    assert ours.precision == pytest.approx(precision_score(there, said))
    assert ours.recall == pytest.approx(recall_score(there, said))
    assert ours.f1 == pytest.approx(f1_score(there, said))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_reaches_the_highest_f1_of_the_precision_recall_curve(seed: int) -> None:
    probabilities, truth = _maps(seed)
    valid = truth != IGNORE
    precision, recall, thresholds = precision_recall_curve(
        truth[valid] == PARTICLE, probabilities[valid]
    )
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[: len(thresholds)]
    found = histogram(probabilities, truth)
    ours = counts_at(found, best_threshold(found)).scores().f1
    assert ours == pytest.approx(f1[thresholds >= 1].max())


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_that_of_trying_all_with_scikit_learn(seed: int) -> None:
    probabilities, truth = _maps(seed)
    valid = truth != IGNORE
    there = truth[valid] == PARTICLE
    tried = {
        t: f1_score(there, probabilities[valid] >= t, zero_division=0.0) for t in range(1, 256)
    }
    assert tried[best_threshold(histogram(probabilities, truth))] == pytest.approx(
        max(tried.values())
    )


@pytest.mark.parametrize("seed", range(3))
def test_an_audit_equals_scikit_learn_on_the_pixels_valid_in_both(seed: int) -> None:
    probabilities, truth = _maps(seed)
    pseudo = np.where(probabilities >= 150, 1, np.where(probabilities <= 100, 0, IGNORE)).astype(
        np.uint8
    )
    both = (truth != IGNORE) & (pseudo != IGNORE)
    assert audit(pseudo, truth).scores().f1 == pytest.approx(f1_score(truth[both], pseudo[both]))
