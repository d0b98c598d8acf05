"""From counts to intervals: when the bootstrap speaks, when Student's t, and that both say which they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from counted_frames import counted, grid
from tracked_frames import frame, note_runs

from analysis.runs.counts import parse_counts
from analysis.tables.comparison import Comparison, compare

SIX = grid(seeds=range(6))


def evidence(comparison: Comparison, contrast: str) -> dict[str, Any]:
    return next(
        {name: cell.value for name, cell in row.items()}
        for row in comparison.evidence.records()
        if row["contrast"].text == contrast
    )


def test_counts_give_an_interval_over_seeds_and_sources() -> None:
    row = evidence(counted(*SIX), "class_balanced - baseline")
    assert row["interval"] == "seeds, sources"
    assert row["lower"] < row["estimate"] < row["upper"]
    assert row["source_wins"] == "5 of 5"
    assert row["probability"] == 100


@pytest.mark.parametrize("metric", ["test/f1", "test/particle_f1", "test/recall"])
def test_the_estimate_from_counts_is_the_gain_of_the_table_of_strategies(metric: str) -> None:
    comparison = counted(*SIX, metric=metric)
    rows = {row["strategy"].value: row for row in comparison.by_ratio.records()}
    row = evidence(comparison, "class_balanced - baseline")
    assert row["interval"] == "seeds, sources"
    assert row["estimate"] == pytest.approx(rows["class_balanced"]["gain"].value, abs=1e-12)
    assert row["estimate"] > 1
    nothing = evidence(comparison, "naive - baseline")
    assert (nothing["interval"], nothing["estimate"]) == ("no student accepted", None)
    assert rows["naive"]["gain"].value == 0


def test_counts_from_before_particles_were_counted_leave_pixels_their_interval() -> None:
    documents = {
        run: one
        | {
            "test": [
                {name: value for name, value in row.items() if not name.startswith("particle_")}
                for row in one["test"]
            ]
        }
        for run, one in SIX[1].items()
    }
    assert (
        evidence(counted(SIX[0], documents), "class_balanced - baseline")["interval"]
        == "seeds, sources"
    )
    particles = counted(SIX[0], documents, metric="test/particle_f1")
    assert evidence(particles, "class_balanced - baseline")["interval"] == "seeds (t)"
    assert any("12 of 12 runs have no counts" in note for note in particles.evidence.notes)


def test_without_counts_the_interval_is_students_and_says_why() -> None:
    comparison = compare(frame(*SIX[0]))
    assert evidence(comparison, "class_balanced - baseline")["interval"] == "seeds (t)"
    assert any("runs have no counts" in note for note in comparison.evidence.notes)


def test_one_run_without_counts_is_enough_for_students_t() -> None:
    comparison = counted(
        SIX[0], {run: one for run, one in SIX[1].items() if run != "supervised-5-3-0"}
    )
    assert evidence(comparison, "class_balanced - baseline")["interval"] == "seeds (t)"
    assert any("1 of 12 runs have no counts" in note for note in comparison.evidence.notes)


def test_seeds_with_other_test_micrographs_are_not_paired_by_micrograph() -> None:
    documents = {
        run: one | {"test": one["test"][1:]} if "-5-3-" in run else one
        for run, one in SIX[1].items()
    }
    comparison = counted(SIX[0], documents)
    assert evidence(comparison, "class_balanced - baseline")["interval"] == "seeds (t)"
    assert any("different test micrographs" in note for note in comparison.evidence.notes)


def test_one_seed_with_counts_gets_an_interval_that_speaks_of_sources_alone() -> None:
    row = evidence(counted(*grid(seeds=[0])), "class_balanced - baseline")
    assert (row["interval"], row["grade"], row["p_holm"]) == ("sources", "single run", None)


def test_the_verdict_takes_its_lower_bound_from_the_same_interval() -> None:
    comparison = counted(*SIX)
    verdict = next(one.verdict for one in comparison.verdicts if one.strategy == "class_balanced")
    assert (
        f"lower bound {evidence(comparison, 'class_balanced - baseline')['lower']:+.2f}"
        in verdict.criteria[0].measured
    )


def test_shown_twice_the_table_is_the_same() -> None:
    assert counted(*SIX).evidence == counted(*SIX).evidence


def test_another_metric_has_no_counts_behind_it() -> None:
    comparison = compare(
        frame(*(row for seed in range(3) for row in note_runs(seed=seed))), metric="validation/f1"
    )
    assert any(
        "validation/f1 is no ratio of the counts" in note for note in comparison.evidence.notes
    )


DOCUMENT = SIX[1]["supervised-5-0-0"]


def test_counts_are_read_as_they_were_written() -> None:
    counts = parse_counts(DOCUMENT)
    assert counts is not None
    assert counts.counts.shape == (20, 3)
    assert counts.sources[:2] == ("10017", "10028")
    tp, fp, fn = counts.counts.sum(axis=0)
    assert (
        counts.histogram[1, 128:].sum(),
        counts.histogram[0, 128:].sum(),
        counts.histogram[1, :128].sum(),
    ) == (tp, fp, fn)
    assert counts.counts.dtype == np.int64


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        DOCUMENT | {"schema": "other/1"},
        DOCUMENT | {"test": []},
        DOCUMENT | {"test": [{"id": "a"}]},
        DOCUMENT | {"test": DOCUMENT["test"][:1] * 2},
        DOCUMENT | {"test": [DOCUMENT["test"][0] | {"tp": -1}]},
        DOCUMENT | {"test": [DOCUMENT["test"][0] | {"tp": 1.5}]},
        DOCUMENT | {"test": [DOCUMENT["test"][0] | {"tp": True}]},
        DOCUMENT | {"test": [DOCUMENT["test"][0] | {"tp": 10**30}]},
        DOCUMENT | {"test": [DOCUMENT["test"][0] | {"id": 7}]},
        DOCUMENT | {"test_histogram": [[1, 2]]},
        DOCUMENT | {"test_histogram": None},
    ],
)
def test_what_is_not_exactly_a_counts_file_is_none(document: Any) -> None:
    assert parse_counts(document) is None
