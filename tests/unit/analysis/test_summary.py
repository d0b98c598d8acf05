"""The share of the gap that is closed: of means over seeds, where there is a gap."""

from __future__ import annotations

from typing import Any

import pytest
from tracked_frames import frame, run

from analysis.tables.comparison import compare
from analysis.tables.table import Cell


def runs(
    seed: int, *, baseline: float, student: float, ceiling: float | None
) -> list[dict[str, Any]]:
    found = [
        run("supervised", 0, f1=baseline, seed=seed),
        run("naive", 1, f1=student, seed=seed, accepted=True),
    ]
    found += [] if ceiling is None else [run("full", 1, f1=ceiling, seed=seed, accepted=True)]
    return [one | {"loop.max_iterations": "1"} for one in found]


def closed(*seeds: list[dict[str, Any]]) -> Cell:
    table = compare(frame(*(one for each in seeds for one in each))).by_ratio
    (cell,) = [row["gap_closed"] for row in table.records() if row["strategy"].text == "naive"]
    return cell


def test_the_share_of_the_gap_is_the_mean_gain_over_the_mean_gap() -> None:
    cell = closed(
        runs(0, baseline=0.60, student=0.65, ceiling=0.61),
        runs(1, baseline=0.60, student=0.61, ceiling=0.70),
    )
    assert cell.value == pytest.approx(100 * (0.05 + 0.01) / (0.01 + 0.10))


def test_a_seed_in_which_all_labels_are_worse_counts_too() -> None:
    cell = closed(
        runs(0, baseline=0.60, student=0.62, ceiling=0.58),
        runs(1, baseline=0.60, student=0.62, ceiling=0.66),
    )
    assert cell.value == pytest.approx(100 * 0.04 / (-0.02 + 0.06))


def test_a_seed_without_all_labels_is_left_out_of_gain_and_gap() -> None:
    cell = closed(
        runs(0, baseline=0.60, student=0.70, ceiling=None),
        runs(1, baseline=0.60, student=0.62, ceiling=0.64),
    )
    assert cell.value == pytest.approx(50)


def test_there_is_no_share_of_a_gap_that_is_none() -> None:
    cell = closed(
        runs(0, baseline=0.60, student=0.62, ceiling=0.57),
        runs(1, baseline=0.60, student=0.62, ceiling=0.61),
    )
    assert cell.value is None


@pytest.mark.parametrize(
    ("ceiling", "notes"),
    [
        (0.59, ["at 5% all labels are no better than the baseline: there is no gap to close"]),
        (0.61, []),
    ],
)
def test_a_note_says_why_there_is_none(ceiling: float, notes: list[str]) -> None:
    assert (
        list(compare(frame(*runs(0, baseline=0.60, student=0.62, ceiling=ceiling))).by_ratio.notes)
        == notes
    )


def test_models_that_other_code_had_trained_are_counted_in_a_note() -> None:
    first, second = (runs(seed, baseline=0.60, student=0.62, ceiling=None) for seed in (0, 1))
    kept = [row | {"cryossl.kept_stages": "true"} for row in second]
    assert list(compare(frame(*first, *second)).by_ratio.notes) == []
    assert list(compare(frame(*first, *kept)).by_ratio.notes) == [
        "at 5% 2 of 4 models were trained by other code and reused (keep_stages)"
    ]


def tries_of(*seeds: list[dict[str, Any]]) -> dict[str, str]:
    table = compare(frame(*(one for each in seeds for one in each))).by_ratio
    return {row["strategy"].text: row["tries"].text for row in table.records() if "tries" in row}


def test_the_tries_of_tuned_arms_are_counted_and_others_have_one() -> None:
    tuned = [
        one | {"cryossl.tries": "naive=20,soft=40"}
        for one in runs(0, baseline=0.60, student=0.62, ceiling=0.7)
    ]
    assert tries_of(tuned) == {"supervised": "1", "naive": "20", "full": "1"}
    (note,) = [one for one in compare(frame(*tuned)).by_ratio.notes if one.startswith("tries: ")]
    assert "on other seeds" in note


def test_tables_of_runs_that_were_not_tuned_have_no_column_of_tries() -> None:
    plain = runs(0, baseline=0.60, student=0.62, ceiling=0.7)
    empty = [one | {"cryossl.tries": ""} for one in plain]
    for found in (plain, empty):
        table = compare(frame(*found)).by_ratio
        assert "tries" not in {column.name for column in table.columns}
        assert not [note for note in table.notes if "tries" in note]


def test_seeds_with_other_tries_are_shown_as_a_range() -> None:
    first, second = (
        [
            one | {"cryossl.tries": f"naive={count}"}
            for one in runs(seed, baseline=0.60, student=0.62, ceiling=None)
        ]
        for seed, count in ((0, 20), (1, 40))
    )
    assert tries_of(first, second)["naive"] == "20 to 40"
