"""Where a number comes from, what is in the store, and other methods beside ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from counted_frames import counted, grid
from schema_check import faults
from tracked_frames import frame, note_runs, run

from analysis.report.explanation import explain, metric_called
from analysis.tables.comparison import compare
from analysis.tables.external import beside, parse_external
from analysis.tables.inventory import inventory, inventory_json, inventory_text
from analysis.tables.rendering import render
from cryossl.errors import ConfigError, DataError
from cryossl.machine.check import Check
from cryossl.progress.status import StatusFile, read_status, status_as_dict

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "schemas"
TWO = grid(seeds=[0, 1])


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def theirs(**change: Any) -> str:
    tests = TWO[1]["supervised-5-0-0"]["test"]
    rows = [
        {"micrograph": row["id"], "tp": row["tp"], "fp": row["fp"], "fn": row["fn"]} | change
        for row in tests
    ]
    return json.dumps(
        {
            "schema": "cryossl.external/1",
            "methods": [{"method": "other", "leakage": "some", "micrographs": rows}],
        }
    )


# --- explain


def test_an_explanation_can_be_computed_by_hand() -> None:
    text = explain(counted(*TWO), strategy="class_balanced", ratio=5.0)
    assert "F1 = 2 tp / (2 tp + fp + fn)" in text
    tests = TWO[1]["class_balanced-5-0-3"]["test"]
    tp, fp, fn = (sum(row[name] for row in tests) for name in ("tp", "fp", "fn"))
    line = next(line for line in text.splitlines() if "run class_balanced-5-0-3" in line)
    above, below = 2 * tp, 2 * tp + fp + fn
    assert (
        f"tp {tp}, fp {fp}, fn {fn} in 20 micrographs: {above} / {below} = {above / below:.6f}"
        in line
    )
    assert "95% interval over seeds, sources" in text


def test_an_explanation_of_particle_f1_divides_particles() -> None:
    text = explain(counted(*TWO, metric="test/particle_f1"), strategy="class_balanced", ratio=5.0)
    assert "F1 = 2 tp / (2 tp + fp + fn), particles of all test micrographs" in text
    tests = TWO[1]["class_balanced-5-0-3"]["test"]
    tp, fp, fn = (sum(row[f"particle_{name}"] for row in tests) for name in ("tp", "fp", "fn"))
    line = next(line for line in text.splitlines() if "run class_balanced-5-0-3" in line)
    assert f"tp {tp}, fp {fp}, fn {fn} in 20 micrographs: {2 * tp} / {2 * tp + fp + fn}" in line


def test_an_explanation_says_when_the_baseline_stayed() -> None:
    text = explain(compare(frame(*note_runs())), strategy="naive", ratio=None)
    assert "iteration 0 (no student was accepted: the supervised baseline)" in text
    assert "accepted" not in explain(
        compare(frame(*note_runs())), strategy="supervised", ratio=None
    )


def test_an_explanation_names_the_longer_baseline_where_gains_are_over_it() -> None:
    long = run("supervised_long", 1, f1=0.71, accepted=True)
    comparison = compare(frame(*note_runs(), long))
    text = explain(comparison, strategy="naive", ratio=None)
    assert "iteration 0 (no student was accepted: the supervised baseline)" in text
    assert f"supervised_long run {long['run_id']}: 0.710000" in text
    assert (
        "gain = score - score of supervised_long, the better baseline on validation, of the same "
        "seed; mean -1.0000" in text
    )
    assert "score of the baseline of the same seed" in explain(
        comparison, strategy="supervised_long", ratio=None
    )


def test_an_unknown_arm_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="no finished arm 'x' at 5%; there are: class_balanced at 5%, naive at 5%"
    ):
        explain(compare(frame(*note_runs())), strategy="x", ratio=5.0)


@pytest.mark.parametrize(
    ("name", "full"),
    [("F1", "test/f1"), ("recall", "test/recall"), ("validation/f1", "validation/f1")],
)
def test_a_metric_may_be_called_by_its_short_name(name: str, full: str) -> None:
    assert metric_called(name) == full


# --- runs


def test_the_inventory_shows_what_failed_and_what_is_missing() -> None:
    rows = [
        *note_runs(),
        *note_runs(seed=1)[:2],
        run("naive", 1, f1=0.7, seed=2, status="FAILED"),
        {"run_id": "x", "status": "FINISHED"},
    ]
    grid_table, problems = inventory(frame(*rows))
    assert {(row["strategy"].text, row["seeds"].text) for row in grid_table.records()} == {
        ("supervised", "0-1"),
        ("naive", "0-1"),
        ("class_balanced", "0"),
    }
    assert {
        (row["state"].text, row["strategy"].text, row["seed"].text) for row in problems.records()
    } == {
        ("failed", "naive", "2"),
        ("missing", "supervised", "2"),
        ("missing", "class_balanced", "1"),
        ("missing", "class_balanced", "2"),
        ("foreign", "-", "-"),
    }


@pytest.mark.parametrize(
    "rows", [[], note_runs(), [{"run_id": "x", "status": "FINISHED"}], grid(seeds=[0, 1, 3])[0]]
)
def test_the_inventory_is_text_and_valid_json_for_any_store(rows: list[dict[str, Any]]) -> None:
    tables = inventory(frame(*rows))
    assert inventory_text(tables).endswith("\n")
    assert list(faults(json.loads(inventory_json(tables)), schema("runs"))) == []


# --- schemas


@pytest.mark.parametrize(
    "rows",
    [
        note_runs(),
        grid(seeds=range(6), ratios=("5", "10"))[0],
        [
            *note_runs(),
            *(
                one | {"cryossl.dataset": "other", "run_id": "b" + one["run_id"]}
                for one in note_runs()
            ),
        ],
    ],
)
def test_the_comparisons_json_is_as_documented(rows: list[dict[str, Any]]) -> None:
    assert (
        list(faults(json.loads(render(compare(frame(*rows)), "json")), schema("comparison"))) == []
    )


def test_the_status_is_as_documented(tmp_path: Path) -> None:
    StatusFile(tmp_path / "status.json", run="r").begin("Load the data")
    assert (
        list(
            faults(
                json.loads(json.dumps(status_as_dict(read_status(tmp_path / "status.json")))),
                schema("status"),
            )
        )
        == []
    )


def test_the_checks_of_the_doctor_are_as_documented() -> None:
    assert list(faults([vars(Check("disk", "ok", "free"))], schema("doctor"))) == []


def test_the_schema_checker_finds_what_is_wrong() -> None:
    good: dict[str, Any] = json.loads(render(compare(frame(*note_runs())), "json"))
    bad = [
        good | {"schema": "x"},
        good | {"more": 1},
        {name: good[name] for name in good if name != "faults"},
        good | {"verdicts": [good["verdicts"][0] | {"outcome": "great"}]},
        good | {"dataset": 5},
        [],
    ]
    assert all(list(faults(value, schema("comparison"))) for value in bad)


# --- other methods


def test_the_same_counts_as_ours_make_no_difference() -> None:
    table = beside(counted(*grid(seeds=[0])), parse_external(theirs(), name="file")).external
    assert table is not None
    row = next(row for row in table.records() if row["strategy"].text == "supervised")
    assert (
        row["method"].text,
        row["leakage"].text,
        row["micrographs"].value,
        row["difference"].value,
    ) == ("other", "some", 20, 0)
    assert [note for note in table.notes if "other truth" in note] == []


def test_other_truth_is_noticed() -> None:
    table = beside(counted(*TWO), parse_external(theirs(fn=1), name="file")).external
    assert table is not None
    assert any("tp + fn differs on 20 of 20 micrographs" in note for note in table.notes)


def test_csv_says_the_same_as_json() -> None:
    rows = json.loads(theirs())["methods"][0]["micrographs"]
    text = "micrograph,tp,fp,fn,method,leakage\n" + "".join(
        f"{row['micrograph']},{row['tp']},{row['fp']},{row['fn']},other,some\n" for row in rows
    )
    (csv,), (json_one,) = parse_external(text, name="x"), parse_external(theirs(), name="x")
    assert (csv.method, csv.leakage, csv.ids) == (json_one.method, json_one.leakage, json_one.ids)
    assert (csv.counts == json_one.counts).all()
    assert list(faults(json.loads(theirs()), schema("external"))) == []


def test_a_method_without_a_name_gets_the_files_and_unknown_leakage() -> None:
    (one,) = parse_external("micrograph,tp,fp,fn\na,1,2,3\n", name="picker")
    assert (one.method, one.leakage) == ("picker", "unknown")


@pytest.mark.parametrize(
    "given",
    [{}, {"method": None, "leakage": None}, {"method": "", "leakage": " "}, {"method": " \t"}],
)
def test_a_row_of_a_json_document_does_not_bring_its_own_method_or_leakage(
    given: dict[str, str | None],
) -> None:
    row = {"micrograph": "a", "tp": 1, "fp": 1, "fn": 1, "method": ["z"], "leakage": "none"}
    document = {"schema": "cryossl.external/1", "methods": [{**given, "micrographs": [row]}]}
    (one,) = parse_external(json.dumps(document), name="picker")
    assert (one.method, one.leakage) == ("picker", "unknown")


def test_a_method_of_blanks_in_a_table_counts_as_not_given() -> None:
    (one,) = parse_external(
        "micrograph,tp,fp,fn,method,leakage\na,1,2,3,  , \nb,1,2,3,,\n", name="picker"
    )
    assert (one.method, one.leakage, one.ids) == ("picker", "unknown", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no row"),
        ("micrograph,tp,fp,fn\n", "no row"),
        ("micrograph,tp,fp\na,1,2\n", "row 1: fn"),
        ("micrograph,tp,fp,fn\na,1,-2,3\n", "row 1: fp"),
        ("micrograph,tp,fp,fn\na,1,2,3\na,1,2,3\n", "twice"),
        ("tp,fp,fn\n1,2,3\n", "not named"),
        ("{", "not a document"),
        ("[]", "not a document"),
        ("micrograph,tp,fp,fn,method\na,1,2,3,\x1b[31mred\n", "no plain text"),
        ("micrograph,tp,fp,fn,leakage\na,1,2,3,\u202ered\n", "no plain text"),
        (
            '{"schema": "cryossl.external/1", "methods": [{"method": "\\ud800", "micrographs": '
            '[{"micrograph": "a"}]}]}',
            "no plain text",
        ),
        ('{"schema": "x", "methods": []}', "schema is another"),
        ('{"schema": "cryossl.external/1", "methods": [1]}', "not a document"),
    ],
)
def test_a_broken_file_of_another_method_is_refused_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        parse_external(text, name="x")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "the document is an array, not an object"),
        ('{"schema": "cryossl.external/1"}', "methods is missing or null, not an array"),
        (
            '{"schema": "cryossl.external/1", "methods": [true]}',
            "a method is a boolean, not an object",
        ),
        (
            '{"schema": "cryossl.external/1", "methods": [{"micrographs": {"a": 1}}]}',
            "micrographs is an object, not an array",
        ),
        (
            '{"schema": "cryossl.external/1", "methods": [{"micrographs": [null]}]}',
            "micrographs is missing or null, not an object",
        ),
        (
            theirs().replace('"leakage": "some"', '"leakage": [null]'),
            "leakage is an array, not a string",
        ),
        (
            theirs(fn=1).replace('"fn": 1', '"fn": {"all": null}', 1),
            "row 1: fn is '{\"all\": null}', no whole number",
        ),
        (
            theirs(fn=1).replace('"fn": 1', f'"fn": {"9" * 5000}', 1),
            "row 1: fn is 'Infinity', no whole number",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_json_file_is_told_of_in_words_of_json(text: str, fault: str) -> None:
    with pytest.raises(DataError, match=re.escape(fault)):
        parse_external(text, name="x")


@pytest.mark.parametrize("methods", [1, 50_000])
def test_a_large_file_is_read_in_one_pass(methods: int) -> None:
    rows = "".join(
        f"{number},1,2,3,m{number % methods}\n" for number in range(100_000)
    )  # row by row with each: minutes
    assert len(parse_external(f"micrograph,tp,fp,fn,method\n{rows}", name="x")) == methods


def test_a_method_that_shares_no_micrograph_is_refused() -> None:
    with pytest.raises(DataError, match="none of our test micrographs"):
        beside(
            counted(*TWO), parse_external("micrograph,tp,fp,fn\nelsewhere.jpg,1,2,3\n", name="x")
        )
