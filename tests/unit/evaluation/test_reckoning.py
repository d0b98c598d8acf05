"""What is tracked of a model: names, gains, thresholds, and counts that give the scores back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as sklearn

from analysis.runs.counts import parse_counts
from cryossl.evaluation.matching import best_threshold, rank
from cryossl.evaluation.metrics import Counts, audit, histogram
from cryossl.evaluation.picking import Picks
from cryossl.evaluation.scores import Evaluation, Picked, Scored, checkpoint_numbers, gains
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
