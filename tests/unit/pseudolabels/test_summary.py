"""The numbers that are tracked of a selection."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cryossl.evaluation.metrics import audit
from cryossl.pseudolabels.keep_rules import AllAbove, BestPerLabelled
from cryossl.pseudolabels.pixel_rules import probability_counts
from cryossl.pseudolabels.selection import Quality, Selection, assess, select
from cryossl.pseudolabels.summary import SelectionSummary, selection_numbers, summarise

SELECTION = Selection(
    particle_threshold=0.6,
    background_threshold=0.8,
    quality=Quality(particle=0.3, background=0.2, balance=0.5),
    keep=BestPerLabelled(2.0),
    uncertain_pixels="ignore",
)


def random_maps(seed: int, shift: float = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((20, 20)) < 0.2).astype(np.uint8)
    return np.clip(rng.normal(90 + shift * truth, 45), 0, 255).astype(np.uint8), truth


def summary_of(
    selection: Selection, seeds: range, labelled_count: int = 2
) -> tuple[SelectionSummary, tuple[str, ...]]:
    assessments = {
        f"m{seed}": assess(probability_counts(random_maps(seed)[0]), selection, target_ratio=0.2)
        for seed in seeds
    }
    chosen = select(assessments, selection, labelled_count=labelled_count)
    sources = {item: "ab"[int(item[1:]) % 2] for item in chosen}
    return summarise(
        assessments,
        chosen,
        selection,
        labelled_count=labelled_count,
        target_ratio=0.2,
        sources=sources,
    ), chosen


def test_a_selection_is_told_by_thresholds_counts_ratios_quality_and_cap():
    summary, chosen = summary_of(SELECTION, range(10))
    found = selection_numbers(summary, SELECTION, None)
    assert (found["threshold/particle"], found["threshold/background"]) == (0.6, 0.8)
    assert (found["pseudo/count"], found["pseudo/candidates"], found["pseudo/pool"]) == (4, 10, 10)
    assert found["pseudo/per_labelled"] == 2
    kept = np.concatenate([random_maps(int(item[1:]))[0].ravel() for item in chosen])
    ratio = float(np.mean(kept / 255 >= 0.6))
    assert found["pseudo/particle_ratio"] == pytest.approx(ratio, abs=1e-12)
    assert found["pseudo/f1_cap"] == pytest.approx(2 * min(ratio, 0.2) / (ratio + 0.2), abs=1e-12)
    doubtful = (kept / 255 < 0.6) & (1 - kept / 255 < 0.8)
    assert found["pseudo/ignored_fraction"] == pytest.approx(float(doubtful.mean()), abs=1e-12)
    parts = found["quality/particle"], found["quality/background"], found["quality/balance"]
    assert found["quality/mean"] == pytest.approx(np.dot(parts, (0.3, 0.2, 0.5)), abs=1e-12)
    by_source = {name for name in found if name.startswith("pseudo/particle_ratio/")}
    assert by_source == {f"pseudo/particle_ratio/{'ab'[int(item[1:]) % 2]}" for item in chosen}
    assert not any("audit" in name for name in found)


def test_an_empty_selection_counts_zero_and_has_no_ratio():
    strict = Selection(
        particle_threshold=0.7,
        background_threshold=0.7,
        quality=Quality(confidence=1.0),
        keep=AllAbove(1.0),
        uncertain_pixels="ignore",
    )
    summary, chosen = summary_of(strict, range(3))
    assert chosen == ()
    found = selection_numbers(summary, strict, None)
    assert (found["pseudo/count"], found["pseudo/per_labelled"]) == (0, 0)
    assert {found[name] for name in ("pseudo/particle_ratio", "pseudo/f1_cap", "quality/mean")} == {
        None
    }


def test_the_audit_adds_its_three_numbers_and_no_other():
    p8, truth = random_maps(3)
    said = (p8 >= 150).astype(np.uint8)
    summary, _ = summary_of(SELECTION, range(4))
    plain, audited = (
        selection_numbers(summary, SELECTION, one) for one in (None, audit(said, truth))
    )
    assert {name: audited[name] for name in plain} == plain
    added = {name: value for name, value in audited.items() if name not in plain}
    assert added == pytest.approx(
        {
            "pseudo/audit_precision": sklearn.precision_score(truth.ravel(), said.ravel()),
            "pseudo/audit_recall": sklearn.recall_score(truth.ravel(), said.ravel()),
            "pseudo/audit_f1": sklearn.f1_score(truth.ravel(), said.ravel()),
        },
        abs=1e-12,
    )
