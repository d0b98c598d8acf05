"""The scoring beside the headline: its own reference, counts, intervals and verdicts, and where it is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from counted_frames import grid
from tracked_frames import frame, note_runs, run

from analysis.report.abstract import abstract, methods
from analysis.report.explanation import explain
from analysis.report.views_figure import shifts, views_figure
from analysis.runs.counts import parse_counts
from analysis.tables.comparison import Comparison, compare
from analysis.tables.rendering import answer_lines, render
from cryossl.errors import ConfigError
from cryossl.evaluation.scorings import scored_by


def by_eight(row: dict[str, Any], shift: float) -> dict[str, Any]:
    """A run with scores by eight views, which lie `shift` higher."""
    return row | {
        scored_by(name, 8): value + shift
        for name, value in row.items()
        if name.startswith(("test/", "validation/")) and isinstance(value, float)
    }


def seed(number: int, **changes: float) -> list[dict[str, Any]]:
    """By one view naive gains 3 points over supervised, by eight 1 over supervised_noise."""
    rows = [
        by_eight(run("supervised", 0, f1=0.70, seed=number), 0.03),
        by_eight(run("supervised_noise", 1, f1=0.69, seed=number, accepted=True), 0.06),
        by_eight(run("naive", 1, f1=0.73, seed=number, accepted=True), 0.03),
        by_eight(run("class_balanced", 1, f1=0.71, seed=number, accepted=True), 0.03),
    ]
    return [row | {"loop.max_iterations": "1"} | changes for row in rows]


def cells(comparison: Comparison, strategy: str) -> dict[str, Any]:
    (row,) = [row for row in comparison.by_ratio.records() if row["strategy"].text == strategy]
    return {name: cell.value for name, cell in row.items()}


def test_gains_by_each_scoring_are_over_the_baseline_that_is_best_on_validation_by_it() -> None:
    found = compare(frame(*seed(0), *seed(1)))
    naive = cells(found, "naive")
    assert naive["gain"] == pytest.approx(3)
    assert naive["gain_views8"] == pytest.approx(1)
    assert naive["score_views8"] == pytest.approx(76)
    assert (
        "by eight views at 5% gains are over supervised_noise, the better baseline on validation"
        in (found.by_ratio.notes)
    )


def test_the_other_scoring_as_headline_swaps_the_columns() -> None:
    one, eight = (compare(frame(*seed(0), *seed(1)), views=views) for views in (1, 8))
    for strategy in ("supervised", "naive", "class_balanced"):
        first, turned = cells(one, strategy), cells(eight, strategy)
        for name in ("score", "gain"):
            assert first[name] == turned[f"{name}_views1"]
            assert turned[name] == first[f"{name}_views8"]
    assert eight.metric == "test/f1_views8"
    assert {judged.strategy: judged.verdict.criteria[0].value for judged in eight.verdicts}[
        "naive"
    ] == pytest.approx(0.01)


def test_the_notes_table_has_a_row_and_a_verdict_by_each_scoring() -> None:
    rows = compare(frame(*seed(0), *seed(1))).note.records()
    assert [row["views"].value for row in rows] == [1, 8]
    assert [row["naive"].value for row in rows] == pytest.approx([73, 76])
    assert [row["class_balanced"].value for row in rows] == pytest.approx([71, 74])
    assert [row["verdict"].text for row in rows] == ["partial", "failure"]


@pytest.mark.parametrize(("tag", "views"), [("1", 1), ("8", 8), (None, 1), ("x", 1)])
def test_the_runs_say_which_scoring_is_the_headline(tag: str | None, views: int) -> None:
    rows = [row | {"cryossl.headline_views": tag} for row in seed(0)]
    assert compare(frame(*rows)).views == views


def test_the_newest_run_decides_and_a_headline_without_scores_is_not_taken() -> None:
    old, new = (
        [row | {"cryossl.headline_views": tag} for row in seed(number)]
        for number, tag in ((0, "1"), (1, "8"))
    )
    later = [row | {"start_time": row["start_time"] + np.timedelta64(1, "D")} for row in new]
    assert compare(frame(*old, *later)).views == 8
    bare = [row | {"cryossl.headline_views": "8"} for row in note_runs()]
    assert compare(frame(*bare)).views == 1


def test_runs_with_one_scoring_have_the_tables_of_before() -> None:
    found = compare(frame(*note_runs()))
    assert found.second is None
    assert "views" not in found.note.records()[0]
    assert not [name for name in found.by_ratio.records()[0] if "views" in name]
    assert "views" not in render(found, "table")


def test_models_that_are_scored_by_eight_views_anyway_have_no_second_column() -> None:
    rows = [row | {"evaluation.views": "8"} for row in seed(0)]
    assert compare(frame(*rows)).second is None


def test_four_views_beside_eight_are_called_four() -> None:
    found = compare(frame(*(row | {"evaluation.views": "4"} for row in seed(0))), views=8)
    assert [row["views"].value for row in found.note.records()] == [8, 4]
    assert "F1, 4 views" in render(found, "table")


def test_a_scoring_that_no_run_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no run has a value of the metric 'test/f1_views8'"):
        compare(frame(*note_runs()), views=8)


def counted() -> Comparison:
    """Four seeds with counts; by eight views a tenth of the misses is found and alarms are halved."""
    rows, documents = grid(seeds=range(4), micrographs=10)
    for row in rows:
        document = documents[row["run_id"]]
        better = [
            one
            | {
                "tp": one["tp"] + one["fn"] // 10,
                "fn": one["fn"] - one["fn"] // 10,
                "fp": one["fp"] // 2,
            }
            for one in document["test"]
        ]
        document["views8"] = {**document, "test": better}
        tp, fp, fn = (sum(one[name] for one in better) for name in ("tp", "fp", "fn"))
        row |= {
            "test/f1_views8": 2 * tp / (2 * tp + fp + fn),
            "test/recall_views8": tp / (tp + fn),
            "validation/f1_views8": row["validation/f1"],
        }

    def read(run_ids):
        return {run: parse_counts(documents[run]) for run in run_ids}

    return compare(frame(*rows), read_counts=read)


def test_the_intervals_by_each_scoring_are_from_its_own_counts() -> None:
    found = counted()
    assert found.second_evidence is not None
    by_one, by_eight_views = (
        {row["contrast"].text: row for row in table.records()}
        for table in (found.evidence, found.second_evidence)
    )
    assert by_one.keys() == by_eight_views.keys()
    for contrast, row in by_eight_views.items():
        strategy = contrast.split(" - ")[0]
        assert row["interval"].text in ("seeds, sources", "no student accepted")
        if not contrast.endswith("baseline") or row["estimate"].value is None:
            continue
        # The estimate from counts is the gain that the table of strategies shows.
        assert row["estimate"].value == pytest.approx(cells(found, strategy)["gain_views8"])
    first, second = (
        rows["class_balanced - baseline"]["estimate"].value for rows in (by_one, by_eight_views)
    )
    assert abs(first - second) > 0.01


def test_the_words_say_by_which_scoring() -> None:
    found = compare(frame(*seed(0), *seed(1)))
    text = render(found, "table")
    assert "Verdict by one view" in text
    assert "verdicts and all other tables are by one view" in text
    assert any(
        "by one view)" in line and " By eight views: naive" in line for line in abstract(found)
    )
    assert any("mean over one view of a tile" in line for line in methods(found))


def test_a_number_by_eight_views_is_explained() -> None:
    found = compare(frame(*seed(0), *seed(1)), metric="test/f1_views8")
    assert found.views == 8
    text = explain(found, strategy="naive", ratio=None)
    assert text.startswith("test/f1_views8 of naive at 5% labelled")
    assert "F1 = 2 tp" in text
    assert "mean +1.0000 points" in text


def test_a_gain_that_is_0_by_definition_is_shown_alike_by_both_scorings() -> None:
    rows = [
        by_eight(row, 0.03) | {"loop.max_iterations": "1"}
        for number in (0, 1)
        for row in (
            run("supervised", 0, f1=0.70, seed=number),
            run("naive", 1, f1=0.69, seed=number, accepted=False),
        )
    ]
    _, naive = compare(frame(*rows)).by_ratio.records()
    assert (naive["gain"].text, naive["gain_views8"].text) == ("0", "0")


def test_the_answer_names_a_scoring_that_answers_otherwise() -> None:
    found = compare(frame(*seed(0), *seed(1)))
    (first, *_) = answer_lines(found.verdicts, found.second)
    for judged in found.verdicts:
        if judged.strategy not in ("naive", "class_balanced"):
            continue
        (other,) = [
            one
            for one in found.second.verdicts
            if (one.strategy, one.ratio_percent) == (judged.strategy, judged.ratio_percent)
        ]
        part = next(text for text in first.split("; ") if f"{judged.strategy}:" in text)
        assert (" by eight views " in part) == (other.verdict.outcome != judged.verdict.outcome)
    assert " by eight views " in first
    (alone, *_) = answer_lines(found.verdicts)
    assert "views" not in alone


def parts(comparison: Comparison) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(step, views) -> change, lower, upper, seeds."""
    assert comparison.parts is not None
    return {
        (row["step"].text, row["views"].text): tuple(
            row[name].value for name in ("change", "lower", "upper", "seeds")
        )
        for row in comparison.parts.records()
    }


def with_ensemble(number: int, *, better: float) -> list[dict[str, Any]]:
    ensemble = run("ensemble", 1, f1=0.71, seed=number, accepted=True)
    control = by_eight(ensemble, 0.04) | {"loop.max_iterations": "1"}
    rows = [*seed(number), control]
    for row in rows:
        if row["cryossl.strategy"] == "naive":
            row["test/f1_views8"] += better
    return rows


@pytest.mark.parametrize("views", [1, 8])
def test_each_part_of_a_gain_is_a_difference_paired_by_seed(views: int) -> None:
    # Changes of naive by eight views: 2 and 4 points; Student's t with one degree of freedom.
    rows = [*with_ensemble(0, better=-0.01), *with_ensemble(1, better=0.01)]
    found = parts(compare(frame(*rows), views=views))
    assert found["supervised, averaged over views", "1 to 8"] == pytest.approx((3, 3, 3, 2))
    assert found["naive - supervised", "1"] == pytest.approx((3, 3, 3, 2))
    half = 12.7062 * 1.0
    assert found["naive - supervised", "8"] == pytest.approx((3, 3 - half, 3 + half, 2), rel=1e-4)
    assert found["naive - ensemble", "8"] == pytest.approx((1, 1 - half, 1 + half, 2), rel=1e-4)
    assert found["ensemble - supervised", "8"][0] == pytest.approx(2)
    assert ("ensemble - ensemble", "8") not in found
    assert ("full - ensemble", "8") not in found


def test_a_single_seed_has_parts_without_intervals_and_one_scoring_has_none() -> None:
    found = parts(compare(frame(*seed(0))))
    assert found["naive - supervised", "8"] == (pytest.approx(3), None, None, 1)
    assert not [step for step, _ in found if "ensemble" in step]
    assert compare(frame(*note_runs())).parts is None


def test_the_figure_of_both_scorings_has_the_means_of_the_table() -> None:
    found = compare(frame(*seed(0), *seed(1)), views=8)
    assert found.second is not None
    drawn = shifts(found.arms, found.second, metric=found.metric, views=8)
    assert {row.strategy: row.text for row in drawn} == {
        "supervised": "70.00 to 73.00",
        "supervised_noise": "69.00 to 75.00",
        "naive": "73.00 to 76.00",
        "class_balanced": "71.00 to 74.00",
    }
    plot = views_figure(found.arms, found.second, metric=found.metric, views=8)
    assert plot.figure is not None
    assert "naive at 5%: 73.00 to 76.00" in plot.alt


def test_a_figure_of_both_scorings_says_what_it_lacks() -> None:
    found = compare(frame(*seed(0)), views=8)
    assert found.second is not None
    plot = views_figure((), found.second, metric=found.metric, views=8)
    assert plot.figure is None
    assert plot.reason == "no finished arm has both scores"
