"""Which tracked runs belong to one experiment."""

from __future__ import annotations

import pytest
from tracked_frames import frame, note_runs

from analysis.tables.comparison import Comparison, compare


def gain(comparison: Comparison) -> str:
    (row,) = [
        row for row in comparison.by_ratio.records() if row["strategy"].text == "class_balanced"
    ]
    return row["gain"].text


@pytest.mark.parametrize(
    "spelt",
    [
        {"loop.audit": "true"},
        {"cryossl.dataset": "synthetic/", "input.data": "synthetic/"},
        {"split.labelled": "/lab/labelled.txt"},
        {"training.precision": "fp32"},
    ],
)
def test_a_later_start_of_one_experiment_that_spells_its_settings_otherwise_keeps_the_baseline(
    spelt: dict[str, str],
) -> None:
    first = {
        "loop.audit": "false",
        "input.data": "synthetic",
        "split.labelled": "labelled.txt",
        "training.precision": "auto",
    }
    *early, late = [one | first for one in note_runs()]
    comparison = compare(frame(*early, late | spelt))
    assert comparison.others == ()
    assert gain(comparison) == gain(compare(frame(*early, late)))
    assert gain(comparison) != "-"
