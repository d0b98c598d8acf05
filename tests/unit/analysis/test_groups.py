"""Groups of comparable runs: how they are named, chosen and listed."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd
import pytest
from tracked_frames import frame, note_runs, run

from analysis.runs.groups import Choice, group_name, groups_of
from analysis.runs.tidy import tidy
from analysis.tables.comparison import compare
from analysis.tables.groups import groups_text
from cryossl.errors import ConfigError


def group(year: int, *rows: dict[str, Any], epochs: str = "50") -> list[dict[str, Any]]:
    """These runs as a group of their own, of a year."""
    return [
        row
        | {
            "start_time": pd.Timestamp(f"{year}-01-01 12:00", tz="UTC"),
            "run_id": f"{row['run_id']}-{year}",
            "cryossl.experiment_fingerprint": f"f{year}",
            "training.student_epochs": epochs,
        }
        for row in rows
    ]


OLD, MIDDLE, NEW = (
    group(2023, *note_runs(ratio="10"), epochs="30"),
    group(2024, *note_runs()),
    group(2025, run("supervised", 0, f1=0.6), run("soft", 1, f1=0.65, accepted=True), epochs="9"),
)
RUNS = frame(*OLD, *MIDDLE, *NEW)


def name_of(rows: list[dict[str, Any]]) -> str:
    names = [
        group_name(one) for one in groups_of(tidy(RUNS)) if rows[0]["run_id"] in set(one["run_id"])
    ]
    assert len(names) == 1
    return names[0]


def test_a_name_does_not_depend_on_what_else_is_in_the_store():
    alone = groups_of(tidy(frame(*MIDDLE)))
    assert [group_name(one) for one in alone] == [name_of(MIDDLE)]
    assert len({name_of(rows) for rows in (OLD, MIDDLE, NEW)}) == 3


@pytest.mark.parametrize("digits", [4, 6])
def test_a_group_is_chosen_by_its_name_or_the_beginning_of_it(digits: int):
    for rows in (OLD, MIDDLE, NEW):
        found = compare(RUNS, choice=Choice(name_of(rows)[:digits]))
        assert found.group == name_of(rows)
        assert len(found.others) == 2


def test_an_unknown_name_is_refused_with_the_way_to_the_known_ones():
    with pytest.raises(ConfigError, match=r"no group is called 'zzz'.*--group list"):
        compare(RUNS, choice=Choice("zzz"))


def test_the_default_is_the_newest_group_that_holds_what_is_asked():
    assert compare(RUNS).group == name_of(MIDDLE)
    assert compare(RUNS, ratio=10).group == name_of(OLD)
    assert compare(RUNS, choice=Choice(strategies=("soft",))).group == name_of(NEW)
    asked = Choice(strategies=("naive",), ratio_percent=10)
    assert compare(RUNS, choice=asked).group == name_of(OLD)


def test_the_default_has_a_value_of_the_metric_that_is_asked():
    rows = [row | {"test/particle_f1": 0.5} for row in OLD]
    runs = frame(*rows, *MIDDLE, *NEW)
    assert compare(runs, metric="test/particle_f1").group == name_of(OLD)


def test_the_list_says_of_each_group_what_it_holds_and_what_differs():
    text = groups_text(RUNS, "table", width=140)
    lines = [line for line in text.splitlines() if "2023" in line or "2025" in line]
    assert [line.split()[0] for line in lines] == [name_of(NEW), name_of(OLD)]
    assert "training.student_epochs=9" in lines[0]
    assert "soft" in lines[0]
    assert "10%" in lines[1]
    rows = list(csv.DictReader(io.StringIO(groups_text(RUNS, "csv"))))
    assert [row["group"] for row in rows] == [name_of(rows) for rows in (NEW, MIDDLE, OLD)]
    assert json.loads(groups_text(RUNS, "json"))["rows"][0]["group"]["value"] == name_of(NEW)


@pytest.mark.parametrize("width", [30, 60, 80])
def test_the_list_fits_a_terminal(width: int):
    assert max(map(len, groups_text(RUNS, "table", width=width).splitlines())) <= width
