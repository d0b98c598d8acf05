"""The comparison as text in five formats."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from tracked_frames import frame, note_runs, run

from analysis.tables.comparison import Comparison, compare
from analysis.tables.formats import latex_text, table_csv, table_latex, table_markdown, table_text
from analysis.tables.rendering import FORMATS, render
from analysis.tables.table import Cell, Column, Table
from cryossl.errors import ConfigError


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(frame(*note_runs(), *note_runs(ratio="10", shift=0.01)))


def hostile(text: str) -> Table:
    """A table whose words come from outside."""
    columns = Column("source", "Source"), Column("gain", "Gain", "points", 2, signed=True)
    return Table(
        "sources",
        "Gain by source",
        columns,
        ((Cell(text, text), columns[1].cell(-1.5, run_ids=("abc",))),),
    )


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_numbers_and_ends_with_a_newline(
    comparison: Comparison, form: str
) -> None:
    text = render(comparison, form)
    assert text.endswith("\n")
    assert "class_balanced" in text.replace("\\_", "_")
    assert "72.5" in text
    assert "nan" not in text.lower()


def test_an_unknown_format_names_the_known_ones(comparison: Comparison) -> None:
    with pytest.raises(ConfigError, match="'html'; known: table, markdown, csv, json, latex"):
        render(comparison, "html")


def test_the_terminal_form_is_short_and_narrow(comparison: Comparison) -> None:
    lines = render(comparison, "table").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("order", [("naive", "soft", "full"), ("soft", "full", "naive")])
def test_a_strategy_that_fixes_its_count_has_no_criterion_for_it(order: tuple[str, ...]) -> None:
    once: dict[str, Any] = {"loop.max_iterations": "1"}
    arms = [
        run(
            name,
            1,
            f1=0.76,
            recall=0.75,
            accepted=True,
            pseudo=None if name == "full" else (4902, 0.04),
            **once,
        )
        for name in order
    ]
    text = render(compare(frame(run("supervised", 0, f1=0.70, **once), *arms)), "table")
    lines = {name: line for name in order for line in text.splitlines() if f"5% {name} " in line}
    assert (
        "count 19.0:1" in lines["naive"],
        "count" in lines["soft"],
        "count" in lines["full"],
    ) == (True, False, False)
    assert ("success" in lines["soft"], "partial" in lines["naive"]) == (True, True)
    assert "(not of soft, whose definition fixes it)" in " ".join(text.split())


def test_the_columns_of_a_text_table_line_up(comparison: Comparison) -> None:
    lines = table_text(comparison.note).splitlines()[2:7]
    assert [len(part) for part in lines[2].split("  ")] == [9, 8, 17, 11, 9]
    assert {line.index("✓") for line in lines[3:]} == {
        len("─" * 9 + "─" * 8 + "─" * 17 + "─" * 11) + 4 * 2
    }


def test_markdown_rows_have_as_many_cells_as_the_head(comparison: Comparison) -> None:
    lines = [
        line for line in table_markdown(comparison.by_ratio).splitlines() if line.startswith("|")
    ]
    assert {line.count("|") for line in lines} == {len(comparison.by_ratio.columns) + 1}


def test_a_pipe_or_a_tag_cannot_leave_its_markdown_cell() -> None:
    line = table_markdown(hostile("a|b<script>\nx")).splitlines()[-1]
    assert line == "| a\\|b&lt;script> x | -1.50 |"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_a_csv_word_is_never_a_formula_while_numbers_stay_numbers(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(hostile(text)))))
    assert rows == [{"source": f"'{text}", "gain_points": "-1.5", "run_ids": "abc"}]


def test_csv_is_one_table_with_one_head(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert len(rows) == 6
    assert rows[2]["score_percent"] == "72.5"
    assert rows[0]["gain_points"] == ""
    assert rows[2]["run_ids"].split()[0] == "class_balanced-5-0-1"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("--output", "-{}-output"),
        ("e\u0301 \u00c5 ł", "é \u00c5 ł"),
        ("粒\x01", "U+7C92U+0001"),
        ("±1 µm", r"$\pm$1 $\mu$m"),
    ],
)
def test_latex_prints_every_letter_or_its_number(text: str, printed: str) -> None:
    assert latex_text(text) == printed


def test_latex_escapes_what_would_break_it() -> None:
    text = table_latex(hostile(r"a_b & 5% #1 ~ \x"))
    assert r"a\_b \& 5\% \#1 \textasciitilde{} \textbackslash{}x & -1.50 \\" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1


def test_json_names_the_runs_behind_each_cell(comparison: Comparison) -> None:
    content: dict[str, Any] = json.loads(render(comparison, "json"))
    assert content["schema"] == "cryossl.comparison/1"
    cell = content["tables"]["by_ratio"]["rows"][2]["score"]
    assert cell == {
        "value": 72.5,
        "text": "72.50",
        "run_ids": ["class_balanced-5-0-1", "supervised-5-0-0"],
    }
    assert [verdict["outcome"] for verdict in content["verdicts"]] == [
        "failure",
        "success",
        "failure",
        "success",
    ]


def test_the_fields_of_the_json_are_the_documented_ones(comparison: Comparison) -> None:
    content: dict[str, Any] = json.loads(render(comparison, "json"))
    assert set(content) == {
        "schema",
        "dataset",
        "settings",
        "metric",
        "tables",
        "verdicts",
        "faults",
        "others",
    }
    assert set(content["tables"]["note"]) == {"name", "title", "notes", "columns", "rows"}
    assert set(content["verdicts"][0]) == {
        "ratio_percent",
        "strategy",
        "outcome",
        "sentence",
        "remark",
        "seeds",
        "grade",
        "missing",
        "criteria",
        "signs",
        "next_steps",
        "run_ids",
    }


def test_what_is_not_in_the_tables_is_said_in_the_terminal() -> None:
    runs = [one for seed in range(2) for one in note_runs(seed=seed)]
    other = [
        one
        | {
            "loop.max_iterations": "2",
            "run_id": one["run_id"] + "b",
            "cryossl.experiment_fingerprint": "other",
        }
        for one in note_runs()
    ]
    text = render(
        compare(frame(*runs[:-2], *other, {"run_id": "x", "status": "FINISHED"})), "table"
    )
    assert "! class_balanced at 5%: missing (no such run), seed 1" in text
    assert "1 run of something else" in text
    assert "1 other group of data, settings or code" in text
    assert "(synthetic, loop.max_iterations=2)" in " ".join(text.split())


def test_a_text_table_without_units_has_no_empty_line_for_them() -> None:
    words, number = Column("a", "A"), Column("b", "B", "%", 1)
    plain = Table("t", "T", (words,), ((words.cell("x"),),))
    measured = Table("t", "T", (words, number), ((words.cell("x"), number.cell(2.0)),))
    assert table_text(plain).splitlines() == ["T", "", "A", "─", "x"]
    assert table_text(measured).splitlines() == ["T", "", "A    B", "     %", "─  ───", "x  2.0"]
