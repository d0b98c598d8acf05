"""cryossl.evaluation.answer: the table and the verdicts on the page of an invocation."""

from __future__ import annotations

from dataclasses import replace

from cryossl.evaluation.answer import (
    Found,
    answer_metrics,
    answer_rows,
    answer_text,
    found_of,
    merit,
)
from cryossl.evaluation.verdict import judge, measures_of

BASE = {"test/f1": 0.5, "test/recall": 0.6, "validation/f1": 0.5}
STUDENT = {"test/f1": 0.5625, "test/recall": 0.7, "gain/f1": 0.0625, "pseudo/count": 12.0}


def found() -> list[Found]:
    measures = measures_of(STUDENT, BASE, supervised=BASE, pseudo=STUDENT, accepted_iteration=2)
    verdict = judge([measures], strategy="naive", ratio_percent=5.0)
    student = Found("naive", 2, STUDENT, {0: 0.5, 1: None, 2: 0.5625}, verdict, "supervised")
    return [Found("supervised", 0, BASE, {0: 0.5}), student]


def test_the_numbers_are_those_of_the_accepted_models_and_the_baseline_has_no_gain():
    assert answer_metrics(found()) == {
        "f1/supervised": 0.5,
        "f1/naive": 0.5625,
        "gain/naive": 0.0625,
    }


def test_scores_by_eight_views_stand_beside_those_by_one():
    base, student = found()
    eight = {"test/f1_views8": 0.75, "gain/f1_views8": 0.125}
    both = [base, Found("naive", 2, STUDENT | eight, {}, student.verdict, "supervised")]
    metrics = answer_metrics(both)
    assert (metrics["f1_views8/naive"], metrics["gain_views8/naive"]) == (0.75, 0.125)
    assert "f1_views8/supervised" not in metrics
    _, row = answer_rows(both)
    assert (row["test F1 by eight views (%)"], row["gain by eight views (points)"]) == (75.0, 12.5)


def test_where_eight_views_are_the_headline_first_line_and_curve_are_by_them():
    eight = {"test/f1_views8": 0.75, "gain/f1_views8": 0.125}
    before = BASE | {"test/f1_views8": 0.625}
    base = found_of("supervised", 0, {0: before}, views=8)
    student = found_of("naive", 2, {0: before, 2: STUDENT | eight}, views=8)
    assert (base.curve, student.curve) == ({0: 0.625}, {0: 0.625, 2: 0.75})
    judged = replace(student, verdict=found()[1].verdict)
    assert answer_text([base, judged], subject="tiny").startswith(
        "**tiny.** Test F1 by eight views: supervised 62.50%, naive 75.00% (+12.50 points)"
    )


def test_an_arm_that_accepted_no_student_gained_nothing():
    _, student = found()
    scored = BASE | {"test/f1_views8": 0.75}
    stayed = Found("naive", 0, scored, {0: 0.5}, student.verdict, "supervised")
    metrics = answer_metrics([stayed])
    assert (metrics["gain/naive"], metrics["gain_views8/naive"]) == (0.0, 0.0)
    (row,) = answer_rows([stayed])
    gains = row["gain over supervised (points)"], row["gain by eight views (points)"]
    assert gains == (0.0, 0.0)


def test_the_rows_are_in_percent_and_points_and_what_is_undefined_is_blank():
    base, student = answer_rows(found())
    assert (base["test F1 (%)"], base["gain over supervised (points)"]) == (50.0, None)
    assert (student["test F1 (%)"], student["gain over supervised (points)"]) == (56.25, 6.25)
    assert (student["pseudo-labels"], student["precision (%)"]) == (12.0, None)


def test_the_text_begins_with_the_answer_and_holds_the_table_and_each_verdict():
    text = answer_text(found(), subject="tiny, 5% seed 0", failed=["class_balanced"])
    first, *rest = text.split("\n\n")
    assert first.startswith("**tiny, 5% seed 0.** Test F1: supervised 50.00%, naive 56.25% (+6.25")
    table, verdicts = rest[0].splitlines(), rest[1]
    assert [line.count("|") for line in table] == [table[0].count("|")] * 4
    verdict = found()[1].verdict
    assert verdict is not None
    assert f"**naive: {verdict.outcome}**, against supervised: {verdict.sentence}" in verdicts
    assert "**class_balanced** failed" in verdicts


def test_the_next_step_is_that_of_the_better_arm():
    base, student = found()
    worse = judge(
        [measures_of(BASE, BASE, supervised=BASE, pseudo=STUDENT, accepted_iteration=1)],
        strategy="class_balanced",
        ratio_percent=5.0,
    )
    assert student.verdict is not None
    assert merit(student.verdict) > merit(worse)
    lost = Found("class_balanced", 1, BASE, {}, worse, "supervised")
    for order in ([base, lost, student], [base, student, lost]):
        text = answer_text(order, subject="tiny")
        assert text.endswith(f"Next, from naive: {student.verdict.next_steps}")
        assert text.count("Next") == 1


def test_an_invocation_whose_baseline_failed_has_no_table():
    assert answer_text([], subject="tiny") == "**tiny.**"
