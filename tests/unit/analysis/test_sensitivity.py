"""What the values of a setting do: the table, its numbers done by hand, and the sentences."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from counted_frames import grid
from schema_check import faults
from tracked_frames import frame
from varied_frames import BASE, NAIVE, SCORES, cell, own, swept

from analysis.runs.counts import parse_counts
from analysis.runs.families import axes_called
from analysis.runs.groups import Choice
from analysis.tables.rendering import FORMATS
from analysis.tables.sensitivity import Sensitivity, sensitivity
from analysis.tables.sensitivity_text import REMARK, render_sensitivity, sentences
from cryossl.errors import ConfigError, DataError

T_OF_TWO = 12.7062  # 0.975 quantile of Student's t with one degree of freedom, from a table
SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "schemas" / "sensitivity.json"


def found(rows: list[dict[str, Any]], *by: str, **more: Any) -> Sensitivity:
    return sensitivity(frame(*rows), axes_called(by or ("particle_threshold",)), **more)


def records(one: Sensitivity) -> dict[tuple[Any, ...], dict[str, Any]]:
    """(strategy, values...) -> column -> value."""
    return {
        tuple(cells[name].value for name in ("strategy", *(axis.name for axis in one.axes))): {
            name: cell.value for name, cell in cells.items()
        }
        for cells in one.table.records()
    }


def test_a_row_has_mean_gain_and_change_to_the_default_paired_by_seed():
    rows = records(found(swept()))
    assert list(rows) == [
        ("supervised", "all"),
        ("naive", "all"),
        *(("class_balanced", value) for value in (0.5, 0.6, 0.7)),
    ]
    low, default, high = (rows["class_balanced", value] for value in (0.5, 0.6, 0.7))
    # (73 + 77) / 2; gains 3 and 5; changes -1 and +2, whose standard error is 1.5
    assert low["score"] == pytest.approx(75.0)
    assert low["gain"] == pytest.approx(4.0)
    assert low["change"] == pytest.approx(0.5)
    assert low["change_lower"] == pytest.approx(0.5 - 1.5 * T_OF_TWO, abs=1e-3)
    assert low["change_upper"] == pytest.approx(0.5 + 1.5 * T_OF_TWO, abs=1e-3)
    # gains 4 and 3, standard error 0.5
    assert default["gain"] == pytest.approx(3.5)
    assert default["gain_upper"] == pytest.approx(3.5 + 0.5 * T_OF_TWO, abs=1e-3)
    assert (default["default"], default["change"]) == (True, None)
    # changes -3 and -1.5, standard error 0.75
    assert high["score"] == pytest.approx(72.25)
    assert high["change"] == pytest.approx(-2.25)
    assert high["change_lower"] == pytest.approx(-2.25 - 0.75 * T_OF_TWO, abs=1e-3)
    assert high["per_labelled"] == pytest.approx(2.0)
    assert high["particle_ratio"] == pytest.approx(2.5)  # 2% and 3%
    assert high["seeds"] == "2"


def test_the_default_is_marked_in_its_row():
    texts = {
        cells["particle_threshold"].text
        for cells in found(swept()).table.records()
        if cells["strategy"].value == "class_balanced"
    }
    assert texts == {"0.5", "0.6 (default)", "0.7"}


def test_the_sentence_gives_the_range_and_how_far_the_default_is_below_the_best():
    first, same, remark = sentences(found(swept()))
    assert first == (
        "F1 of class_balanced at 5% (258) changes by 2.75 points over particle_threshold 0.5 to 0.7 "
        "(72.25% to 75.00%); the default, 0.6, is 0.50 points below the best value, 0.5, 95% "
        "interval [-18.56, +19.56]."
    )
    assert same == (
        "particle_threshold has no effect on supervised and naive at 5% (258): the same numbers at "
        "all 3 values (2 seeds)."
    )
    assert remark == REMARK


def test_without_the_default_nothing_is_compared_with_it():
    one = found(swept("0.5", "0.7"))
    rows = records(one)
    assert {rows["class_balanced", value]["change"] for value in (0.5, 0.7)} == {None}
    assert any("default (particle_threshold 0.6) was not run" in fault for fault in one.faults)
    assert "it is highest at 0.5; the default was not run" in sentences(one)[0]


def test_a_default_that_is_the_best_is_said_to_be():
    text = sentences(found(swept("0.6", "0.7")))[0]
    assert "the default, 0.6, is the best value" in text
    assert REMARK not in sentences(found(swept("0.6", "0.7")))


def test_a_seed_that_a_value_lacks_is_named_and_only_shared_seeds_make_the_range():
    rows = [
        *swept("0.6"),
        *cell(
            {"selection.particle_threshold": "0.7"},
            {"naive": NAIVE, "class_balanced": (0.71, math.nan)},
        ),
    ]
    one = found(rows)
    short = records(one)["class_balanced", 0.7]
    assert (short["seeds"], short["change_seeds"]) == ("1 of 2", 1)
    assert short["change"] == pytest.approx(-3.0)
    assert short["change_lower"] is None  # of one seed there is no interval
    assert any("particle_threshold 0.7: seed 1 missing" in fault for fault in one.faults)
    # of seed 0 alone: 71 and 74
    assert "changes by 3.00 points" in sentences(one)[0]
    assert "over the 1 seed that all values have" in sentences(one)[0]


def test_values_without_a_shared_seed_give_no_range():
    rows = [
        *cell({"selection.particle_threshold": "0.6"}, {"class_balanced": (0.74, math.nan)}),
        *cell({"selection.particle_threshold": "0.7"}, {"class_balanced": (math.nan, 0.75)}),
    ]
    one = found(rows)
    assert "no seed has finished at all values" in sentences(one)[0]
    assert records(one)["class_balanced", 0.7]["change"] is None


def test_runs_of_other_data_code_or_settings_are_never_mixed_in():
    other = {
        "code": [row | {"cryossl.code_digest": "b" * 8} for row in swept("0.5", year=2023)],
        "data": [row | {"cryossl.data_digest": "d" * 8} for row in swept("0.7", year=2024)],
        "settings": [row | {"training.student_epochs": "9"} for row in swept("0.5", year=2022)],
    }
    mine = swept("0.6", "0.7")
    for rows in other.values():
        one = found([*rows, *mine])
        assert [values for _, *values in records(one)] == [["all"], ["all"], [0.6], [0.7]]
        ids = {model.run_id for arm in one.arms for model in arm.iterations}
        assert ids == {row["run_id"] for row in mine}


def test_the_family_with_the_most_values_is_shown_and_another_by_the_name_of_a_group():
    few = [row | {"training.student_epochs": "9"} for row in swept("0.6", "0.7", year=2026)]
    one = found([*few, *swept()])
    assert [axis for _, axis in records(one)] == ["all", "all", 0.5, 0.6, 0.7]
    assert one.family.others == 1
    assert "training.student_epochs=50" in render_sensitivity(one, "table")
    groups = {member.group for member in found(few).family.members}
    for name in groups:
        other = found([*few, *swept()], choice=Choice(name))
        assert {member.group for member in other.family.members} == groups


def test_among_families_with_as_many_values_the_newest_is_shown():
    new = [row | {"training.student_epochs": "9"} for row in swept(year=2026)]
    assert "training.student_epochs=9" in found([*swept(), *new]).family.apart


def test_two_settings_give_a_row_for_each_combination_and_name_the_one_that_was_not_run():
    rows = [
        row
        for threshold, quota, scores in (
            ("0.6", "1.0", (0.72, 0.73)),
            ("0.6", "2.0", (0.74, 0.75)),
            ("0.7", "2.0", (0.75, 0.77)),
        )
        for row in cell(
            {
                "selection.particle_threshold": threshold,
                "selection.max_pseudo_per_labelled": quota,
            },
            {"class_balanced": scores},
        )
    ]
    one = found(rows, "particle_threshold", "max_pseudo_per_labelled")
    values = {key[1:]: row for key, row in records(one).items() if key[0] == "class_balanced"}
    assert list(values) == [(0.6, 1.0), (0.6, 2.0), (0.7, 2.0)]
    assert values[0.6, 2.0]["default"] is True
    assert values[0.6, 1.0]["change"] == pytest.approx(-2.0)
    assert values[0.7, 2.0]["change"] == pytest.approx(1.5)
    assert "not run: particle_threshold 0.7, max_pseudo_per_labelled 1" in one.faults
    text = render_sensitivity(one, "table", width=80)
    assert "0.6, 2 (default)" in text


def test_a_strategys_own_setting_is_compared_with_what_the_run_gave_it():
    rows = [*swept("0.6"), *own("0.5", SCORES["0.5"]), *own("0.7", SCORES["0.7"])]
    one = found(rows, "class_balanced.particle_threshold")
    assert list(records(one)) == [
        ("supervised", "all"),
        *(("class_balanced", value) for value in (0.5, 0.6, 0.7)),
    ]
    assert records(one)["class_balanced", 0.7]["change"] == pytest.approx(-2.25)


def test_two_groups_of_the_same_values_are_not_pooled():
    rows = [*swept("0.6"), *own("0.6", (0.9, 0.9), year=2027), *own("0.5", SCORES["0.5"])]
    one = found(rows, "class_balanced.particle_threshold")
    assert records(one)["class_balanced", 0.6]["score"] == pytest.approx(74.5)
    assert any("has the same values" in fault for fault in one.faults)


def test_the_labelled_part_can_be_the_setting():
    rows = [*swept("0.6"), *swept("0.6", ratio="10", base=(0.75, 0.77))]
    one = found(rows, "ratio")
    # the baseline: 71 at 5%, 76 at 10%, five points in both seeds
    base = records(one)["supervised", 10.0]
    assert base["score"] == pytest.approx(76.0)
    assert base["change"] == pytest.approx(100 * (0.75 - BASE[0]))
    assert records(one)["supervised", 5.0]["default"] is True
    assert "labelled" not in [column.name for column in one.table.columns]


def test_with_counts_the_interval_is_the_bootstraps():
    rows, documents = [], {}
    for value, seeds in (("0.6", range(3)), ("0.7", range(10, 13))):
        some, counts = grid(seeds=seeds, micrographs=5)
        for row in some:
            seed = int(row["cryossl.seed"]) % 10
            name = f"{row['run_id']}-{value}"
            documents[name] = counts[row["run_id"]]
            rows.append(
                row
                | {
                    "run_id": name,
                    "cryossl.seed": str(seed),
                    "cryossl.experiment_fingerprint": f"{seed}-{value}",
                    "selection.particle_threshold": value,
                }
            )

    def read(ids):
        return {one: parsed for one in ids if (parsed := parse_counts(documents[one]))}

    one = found(rows, read_counts=read)
    row = records(one)["class_balanced", 0.7]
    assert row["interval_over"] == "seeds, sources"
    assert row["change_lower"] < row["change"] < row["change_upper"]


def test_a_strategy_whose_students_are_never_accepted_but_differ_is_not_called_unaffected():
    rows = [
        row | ({"cryossl.accepted": "false"} if row["cryossl.iteration"] == "1" else {})
        for row in swept()
    ]
    one = found(rows)
    assert records(one)["class_balanced", 0.5]["gain"] == 0
    assert "changes by 0.00 points" in sentences(one)[0]


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize(
    "by", [["particle_threshold"], ["particle_threshold", "max_pseudo_per_labelled"]]
)
def test_the_text_fits_a_terminal(width: int, by: list[str]):
    rows = [
        *swept(),
        *(row | {"selection.max_pseudo_per_labelled": "1.0"} for row in swept(year=2020)),
    ]
    text = render_sensitivity(found(rows, *by), "table", width=width)
    assert max(map(len, text.splitlines())) <= width


def test_each_format_holds_the_table_and_the_sentences():
    one = found(swept())
    texts = {form: render_sensitivity(one, form) for form in FORMATS}
    for form in ("table", "markdown", "latex"):
        plain = " ".join(texts[form].replace("\\", "").split())
        assert "changes by 2.75 points" in plain, form
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [row["particle_threshold"] for row in rows] == ["all", "all", "0.5", "0.6", "0.7"]
    assert float(rows[2]["change_points"]) == pytest.approx(0.5)
    content = json.loads(texts["json"])
    assert list(faults(content, json.loads(SCHEMA.read_text(encoding="utf-8")))) == []
    assert content["by"] == [
        {"setting": "particle_threshold", "default": "0.6", "values": ["0.5", "0.6", "0.7"]}
    ]
    assert content["sentences"] == list(sentences(one))


def test_no_run_and_no_such_metric_or_ratio_are_said():
    with pytest.raises(DataError, match="no run has finished"):
        found([row | {"status": "FAILED"} for row in swept()])
    with pytest.raises(ConfigError, match="test/nothing"):
        found(swept(), metric="test/nothing")
    with pytest.raises(ConfigError, match="ratio of 10 percent"):
        found(swept(), ratio=10)
