"""The comparison as text in five formats."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest
from tracked_frames import frame, note_runs, run

from analysis.tables.comparison import Comparison, compare
from analysis.tables.formats import latex_text, table_csv, table_latex, table_markdown
from analysis.tables.rendering import FORMATS, render
from analysis.tables.table import Cell, Column, Table, shown
from analysis.tables.terminal import table_text
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
    assert {line.count("|") for line in lines} == {len(shown(comparison.by_ratio).columns) + 1}


def test_a_pipe_or_a_tag_cannot_leave_its_markdown_cell() -> None:
    line = table_markdown(hostile("a|b<script>\nx")).splitlines()[-1]
    assert line == "| a\\|b&lt;script> x | -1.50 |"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_a_csv_word_is_never_a_formula_while_numbers_stay_numbers(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(hostile(text)))))
    assert rows == [{"source": f"'{text}", "gain_points": "-1.5", "run_id_1": "abc"}]


def test_csv_is_one_table_with_one_head(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert len(rows) == 6
    assert rows[2]["score_percent"] == "72.5"
    assert rows[0]["gain_points"] == ""
    assert rows[2]["run_id_1"] == "class_balanced-5-0-1"
    assert (rows[2]["ratio_percent"], rows[2]["labelled_count"]) == ("5.0", "258.0")


def test_csv_of_several_seeds_has_deviations_as_numbers_and_a_column_per_run_id() -> None:
    several = compare(frame(*note_runs(), *note_runs(seed=1, shift=0.01)))
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(render(several, "csv")))}
    mine = rows["class_balanced"]
    assert float(mine["score_percent"]) == pytest.approx(73.0)
    assert float(mine["score_percent_sd"]) == pytest.approx(math.sqrt(0.5))
    assert float(mine["finished_seeds"]) == 2
    ids = [mine[f"run_id_{number}"] for number in range(1, 5)]
    assert ids == [
        "class_balanced-5-0-1",
        "supervised-5-0-0",
        "class_balanced-5-1-1",
        "supervised-5-1-0",
    ]
    assert all("±" not in text for row in rows.values() for text in row.values())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_terminal_form_fits_its_width(width: int, seeds: int) -> None:
    arms = [row for seed in range(seeds) for row in note_runs(seed=seed, shift=0.01 * seed)]
    other = run("supervised", 0, f1=0.7, **{"training.student_epochs": "9"})
    text = render(compare(frame(*arms, other)), "table", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "class_balanced" in text


def test_a_table_that_is_too_wide_names_the_columns_that_it_leaves_out(
    comparison: Comparison,
) -> None:
    wide, narrow = (table_text(comparison.by_ratio, width=width) for width in (None, 62))
    assert "left out" not in wide
    assert "left out in 62 columns: Per label" in narrow
    assert "Per label" not in narrow.split("left out")[0]
    assert "Gain" in narrow.split("left out")[0]


def test_a_table_that_cannot_be_narrow_has_a_paragraph_for_each_row(comparison: Comparison) -> None:
    lines = table_text(comparison.by_ratio, width=34).splitlines()
    assert max(map(len, lines)) <= 34
    assert any(line.startswith("Labelled 5% (258);") for line in lines)
    assert "72.50" in " ".join(lines)


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
        "deviation": None,
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
        "group",
        "started",
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
    assert "synthetic, loop.max_iterations=2, last start 2025-01-01 00:02" in " ".join(text.split())


def test_a_text_table_without_units_has_no_empty_line_for_them() -> None:
    words, number = Column("a", "A"), Column("b", "B", "%", 1)
    plain = Table("t", "T", (words,), ((words.cell("x"),),))
    measured = Table("t", "T", (words, number), ((words.cell("x"), number.cell(2.0)),))
    assert table_text(plain).splitlines() == ["T", "", "A", "─", "x"]
    assert table_text(measured).splitlines() == ["T", "", "A    B", "     %", "─  ───", "x  2.0"]


def answers(*rows: dict[str, Any]) -> str:
    text = render(compare(frame(*rows)), "table")
    return " ".join(text[text.index("Does self-training") :].split())


def test_the_question_is_answered_for_both_arms_and_the_next_step_is_that_of_the_better_one() -> (
    None
):
    once: dict[str, Any] = {"loop.max_iterations": "1"}
    base = run("supervised", 0, f1=0.70, recall=0.70, **once)
    winner, loser = (
        {"f1": 0.745, "recall": 0.72, "accepted": True, "pseudo": (516, 0.04), **once},
        {"f1": 0.69, "recall": 0.70, "accepted": False, "pseudo": (516, 0.04), **once},
    )
    for better, worse in (("naive", "class_balanced"), ("class_balanced", "naive")):
        said = answers(base, run(better, 1, **winner), run(worse, 1, **loser))
        assert f"{better}: yes (F1 +4.50 points)" in said
        assert f"{worse}: no" in said
        assert f"Next at 5%, from the better arm, {better}: Run more seeds" in said
        assert "negative result" not in said


def test_where_both_arms_fail_the_advice_names_the_supervised_result() -> None:
    said = answers(*note_runs()[:2])
    assert "Does self-training help at 5%? naive: no" in said
    assert "Report the supervised result (70.0% F1 with 5% labels)" in said
