"""From tracked runs to tables: what enters a mean, and what is shown instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from tracked_frames import frame, note_runs, run

from analysis.report.abstract import abstract
from analysis.runs.tidy import tidy
from analysis.tables.comparison import Comparison, compare
from analysis.tables.table import Cell, Table
from cryossl.errors import ConfigError, DataError


def row(table: Table, **wanted: str) -> dict[str, Cell]:
    """The one row whose texts are as wanted."""
    found = [
        record
        for record in table.records()
        if all(record[name].text == text for name, text in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


def arm(comparison: Comparison, strategy: str) -> dict[str, Cell]:
    return row(comparison.by_ratio, strategy=strategy)


def test_the_notes_story_gives_the_notes_table() -> None:
    comparison = compare(frame(*note_runs()))
    cells = row(comparison.note, labelled="5% (258)")
    assert [cells[name].text for name in ("naive", "class_balanced", "improvement", "verdict")] == [
        "70.00",
        "72.50",
        "+2.50",
        "success",
    ]


def test_a_rejected_student_leaves_the_model_it_came_from() -> None:
    comparison = compare(frame(*note_runs()))
    naive, balanced = (arm(comparison, name) for name in ("naive", "class_balanced"))
    assert (naive["score"].text, naive["gain"].text) == ("70.00", "0")
    assert (
        naive["pseudo_count"].text,
        naive["per_labelled"].text,
        naive["particle_ratio"].text,
    ) == ("3083", "11.95", "2.00")
    assert balanced["score"].run_ids == ("class_balanced-5-0-1", "supervised-5-0-0")
    assert balanced["particle_ratio"].run_ids == ("class_balanced-5-0-1",)


def test_mlflows_own_column_prefixes_are_understood() -> None:
    plain = frame(*note_runs())
    prefixed = plain.rename(
        columns=lambda name: (
            f"metrics.{name}"
            if "/" in name
            else f"tags.{name}"
            if name.startswith("cryossl.")
            else f"params.{name}"
            if "." in name
            else name
        )
    )
    assert compare(prefixed).by_ratio == compare(plain).by_ratio


def test_the_order_of_the_runs_does_not_matter() -> None:
    runs = frame(*note_runs(), *note_runs(ratio="10"))
    assert compare(runs.sample(frac=1, random_state=1)) == compare(runs)


def test_several_seeds_show_mean_and_spread_and_an_interval() -> None:
    comparison = compare(
        frame(*(one for seed in range(6) for one in note_runs(seed=seed, shift=0.002 * seed)))
    )
    assert arm(comparison, "class_balanced")["score"].text == "73.00 ± 0.37"
    cells = row(comparison.evidence, contrast="class_balanced - baseline")
    assert cells["estimate"].value == pytest.approx(3.0)
    # Three rows, but all 64 sign patterns of naive tie: p = 1 there, 2/64 twice here, times three
    # by Holm.
    assert cells["p_holm"].value == pytest.approx(3 * 2 / 64)
    assert cells["grade"].text == "claim"


def test_below_six_seeds_no_p_is_shown() -> None:
    comparison = compare(
        frame(*(one for seed in range(5) for one in note_runs(seed=seed, shift=0.002 * seed)))
    )
    assert row(comparison.evidence, contrast="class_balanced - baseline")["p_holm"].text == "-"
    assert any("2/2^5 = 0.0625" in note for note in comparison.evidence.notes)


def test_a_missing_seed_is_shown_and_not_averaged_away() -> None:
    runs = [one for seed in range(3) for one in note_runs(seed=seed)]
    comparison = compare(frame(*(one for one in runs if one["run_id"] != "naive-5-1-1")))
    assert arm(comparison, "naive")["seeds"].text == "2 of 3 (1 missing)"
    assert "naive at 5%: missing (no such run), seed 1" in comparison.faults


@pytest.mark.parametrize(
    ("status", "word"), [("FAILED", "failed"), ("KILLED", "failed"), ("RUNNING", "unfinished")]
)
def test_a_run_that_did_not_finish_takes_its_arm_out_of_the_mean(status: str, word: str) -> None:
    runs = [one for seed in range(2) for one in note_runs(seed=seed, shift=0.01 * seed)]
    broken = [
        one | {"status": status} if one["run_id"] == "class_balanced-5-1-2" else one for one in runs
    ]
    cells = arm(compare(frame(*broken)), "class_balanced")
    assert cells["score"].text == "72.50"
    assert cells["seeds"].text == f"1 of 2 (1 {word})"


def test_an_arm_run_that_failed_between_iterations_takes_its_arm_out() -> None:
    killed = run("class_balanced", 1, f1=0.0) | {
        "run_id": "arm",
        "cryossl.kind": "arm",
        "status": "KILLED",
    }
    cells = arm(compare(frame(*note_runs(), killed)), "class_balanced")
    assert (cells["score"].text, cells["seeds"].text) == ("-", "0 of 1 (1 failed)")


def test_an_arm_that_kept_no_pseudo_label_keeps_the_baseline_and_says_why() -> None:
    empty: dict[str, Any] = run("class_balanced", 0, f1=0.0) | {
        "run_id": "arm",
        "cryossl.kind": "arm",
        "cryossl.stop_reason": "no pseudo-label was kept",
        "pseudo/count": 0.0,
        "pseudo/per_labelled": 0.0,
        "test/f1": 0.69,
    }
    comparison = compare(frame(*note_runs()[:2], empty))
    assert arm(comparison, "class_balanced")["score"].text == "70.00"
    assert arm(comparison, "class_balanced")["pseudo_count"].text == "0"
    assert arm(comparison, "class_balanced")["per_labelled"].text == "0.00"
    assert (
        row(comparison.iterations, strategy="class_balanced")["stopped"].text
        == "no pseudo-label was kept"
    )


@pytest.mark.parametrize(
    ("gone", "best", "why"),
    [
        ({1}, "2", "iteration 1 is not in the store"),
        ({2}, "2", "iteration 2 is not in the store"),
        ({1, 2}, "2", "none of its iterations is in the store"),
    ],
)
def test_an_arm_with_a_deleted_iteration_is_missing_and_in_no_mean(
    gone: set[int], best: str, why: str
) -> None:
    rows = [
        note_runs()[0],
        run("class_balanced", 1, f1=0.72, accepted=True),
        run("class_balanced", 2, f1=0.75, accepted=True),
    ]
    kept = [one for one in rows if int(one["cryossl.iteration"]) not in gone]
    arm_run = {name: rows[2][name] for name in rows[2] if "/" not in name} | {
        "run_id": "arm",
        "cryossl.kind": "arm",
        "cryossl.iteration": None,
        "cryossl.best_iteration": best,
    }
    assert compare(frame(*rows, arm_run)).faults == ()
    comparison = compare(frame(*kept, arm_run))
    assert comparison.faults == (f"class_balanced at 5%: missing ({why}), seed 0",)
    assert arm(comparison, "class_balanced")["score"].value is None


def test_an_accepted_student_with_more_to_come_is_unfinished() -> None:
    comparison = compare(frame(*note_runs()[:3]))
    assert arm(comparison, "class_balanced")["seeds"].text == "0 of 1 (1 unfinished)"
    last = note_runs()[:2] + [
        run("class_balanced", number, f1=0.71, accepted=True, pseudo=(516, 0.04))
        for number in (1, 2, 3)
    ]
    assert arm(compare(frame(*last)), "class_balanced")["seeds"].text == "1"


def test_nan_is_no_number() -> None:
    runs = note_runs()
    runs[2]["test/f1"] = float("nan")
    comparison = compare(frame(*runs))
    assert arm(comparison, "class_balanced")["score"].text == "-"
    assert arm(comparison, "class_balanced")["verdict"].text == "unknown"
    assert any("without a finite test F1" in fault for fault in comparison.faults)


def test_one_arm_alone_is_a_table() -> None:
    comparison = compare(frame(*note_runs()[:2]))
    assert row(comparison.note, labelled="5% (258)")["class_balanced"].text == "-"
    only_baseline = compare(frame(note_runs()[0]))
    assert (only_baseline.verdicts, only_baseline.note.rows) == ((), ())
    assert arm(only_baseline, "supervised")["score"].text == "70.00"


@pytest.mark.parametrize(
    ("labelled", "pool", "text"),
    [
        ("258", "4914", "5% (258)"),
        ("2", "15", "12% (2, asked: 5%)"),
        ("1", "0", "100% (1, asked: 5%)"),
    ],
)
def test_the_labelled_share_is_the_one_that_was_drawn(labelled: str, pool: str, text: str) -> None:
    tags = {"cryossl.labelled_count": labelled, "cryossl.pool_count": pool}
    assert row(compare(frame(*(one | tags for one in note_runs()))).note, labelled=text)


def test_an_arm_without_its_baseline_has_no_gain() -> None:
    comparison = compare(frame(*note_runs()[1:], *note_runs(seed=1)))
    assert arm(comparison, "naive")["seeds"].text == "1 of 2 (1 failed)"
    assert "supervised at 5%: missing (no such run), seed 0" in comparison.faults


def test_a_repeated_run_counts_once_and_a_finished_one_goes_first() -> None:
    again = note_runs()[1] | {
        "run_id": "later",
        "status": "FAILED",
        "start_time": pd.Timestamp("2026-01-01", tz="UTC"),
    }
    comparison = compare(frame(*note_runs(), again))
    assert arm(comparison, "naive")["seeds"].text == "1"
    assert "1 duplicate run left out" in comparison.faults


def test_experiments_that_differ_in_fingerprint_are_never_mixed() -> None:
    other = note_runs()[1] | {
        "run_id": "other",
        "cryossl.experiment_fingerprint": "else",
        "test/f1": 0.9,
    }
    table = tidy(frame(*note_runs(), other))
    assert table.set_index("run_id").loc["other", "state"] == "superseded"
    assert arm(compare(frame(*note_runs(), other)), "naive")["seeds"].text == "1"


def tagged(seed: int, **tags: str) -> list[dict[str, Any]]:
    """The note's runs of a seed with more tags."""
    return [
        row | {f"cryossl.{name}": value for name, value in tags.items()}
        for row in note_runs(seed=seed)
    ]


@pytest.mark.parametrize("tag", ["data_digest", "code_digest"])
def test_seeds_on_other_data_or_by_other_code_are_never_pooled(
    tag: str, note: Callable[..., None]
) -> None:
    one, same, other = (
        tagged(0, **{tag: "aaa"}),
        tagged(1, **{tag: "aaa"}),
        tagged(1, **{tag: "b" * 20}),
    )
    assert arm(compare(frame(*one, *same)), "naive")["seeds"].text == "2"
    apart = compare(frame(*one, *other))
    assert arm(apart, "naive")["seeds"].text == "1"
    word = tag.removesuffix("_digest")
    assert {apart.settings, *(each.settings for each in apart.others)} == {
        f"{word} aaa",
        f"{word} bbbbbbbb",
    }
    unknown = compare(frame(*one, *note_runs(seed=1)))
    assert arm(unknown, "naive")["seeds"].text == "1"
    note(
        f"other {word} at the same path",
        ran="seed 0 with one, seed 1 with another or an unknown one, then `compare`",
        found="1 seed in the table, the other group named",
        bar="never pooled",
    )


def test_the_same_data_at_another_place_are_pooled() -> None:
    here, there = tagged(0, data_digest="aaa"), tagged(1, data_digest="aaa", dataset="/elsewhere")
    assert arm(compare(frame(*here, *there)), "naive")["seeds"].text == "2"


def later(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same runs, as others and a year later."""
    return [
        row
        | {
            "start_time": pd.Timestamp("2026-01-01", tz="UTC"),
            "run_id": "new" + row["run_id"],
            "cryossl.experiment_fingerprint": "new",
        }
        for row in rows
    ]


def test_of_two_groups_with_both_arms_the_newest_comes_first() -> None:
    rows = tagged(0, data_digest="old"), later(tagged(0, data_digest="new"))
    comparison = compare(frame(*rows[0], *rows[1]))
    assert (comparison.settings, [other.settings for other in comparison.others]) == (
        "data new",
        ["data old"],
    )


@pytest.mark.parametrize("kept", [1, 2])
def test_a_newer_group_without_one_of_the_arms_does_not_hide_the_table_of_both(kept: int) -> None:
    newer = later(tagged(0, data_digest="new")[:kept])
    comparison = compare(frame(*tagged(0, data_digest="old"), *newer))
    assert comparison.settings == "data old"
    assert comparison.note.rows
    assert [other.settings for other in comparison.others] == ["data new"]


def test_without_a_group_of_both_arms_the_newest_with_one_comes_first() -> None:
    newer = later(tagged(0, data_digest="new")[:2])
    comparison = compare(frame(*tagged(0, data_digest="old")[:1], *newer))
    assert comparison.settings == "data new"


def test_other_settings_make_a_comparison_of_their_own() -> None:
    old = [
        one
        | {
            "training.student_epochs": "2",
            "run_id": "old" + one["run_id"],
            "cryossl.experiment_fingerprint": "old",
            "start_time": pd.Timestamp("2020-01-01", tz="UTC"),
        }
        for one in note_runs(shift=-0.02)
    ]
    comparison = compare(frame(*old, *note_runs()))
    assert comparison.settings == "training.student_epochs=50"
    assert [other.settings for other in comparison.others] == ["training.student_epochs=2"]
    assert arm(comparison.others[0], "class_balanced")["score"].text == "70.50"


def test_foreign_runs_are_left_out_and_counted() -> None:
    foreign = {"run_id": "x", "status": "FINISHED", "mlflow.user": "someone", "test/f1": 0.99}
    damaged = note_runs()[1] | {"run_id": "y", "cryossl.seed": "many"}
    comparison = compare(frame(*note_runs(), foreign, damaged))
    assert arm(comparison, "naive")["score"].text == "70.00"
    assert "2 runs of something else in the same experiment left out" in comparison.faults


def test_the_better_baseline_on_validation_is_the_one_to_beat() -> None:
    better = run("supervised_long", 1, f1=0.715)
    comparison = compare(frame(*note_runs(), better))
    assert arm(comparison, "class_balanced")["gain"].text == "+1.00"
    assert arm(comparison, "supervised_long")["gain"].text == "+1.50"
    assert comparison.by_ratio.notes == (
        "at 5% gains are over supervised_long, the better baseline on validation",
    )
    worse = better | {"validation/f1": 0.6, "test/f1": 0.9}
    assert arm(compare(frame(*note_runs(), worse)), "class_balanced")["gain"].text == "+2.50"


def test_the_aspects_show_what_was_configured_and_measured() -> None:
    table = compare(frame(*note_runs())).aspects
    configured = row(table, aspect="particle threshold", kind="configured")
    assert (configured["naive"].text, configured["class_balanced"].text) == ("0.7", "0.6")
    measured = row(table, aspect="pseudo-label particle ratio", kind="measured at 5%")
    assert (measured["naive"].text, measured["class_balanced"].text) == ("2.00%", "3.90%")
    assert row(table, aspect="most pseudo-labels")["naive"].text == "no limit"


def test_the_aspects_of_an_ablation_are_those_of_its_factors() -> None:
    table = compare(
        frame(*note_runs(), run("naive+quota", 1, f1=0.7, accepted=False, pseudo=(516, 0.03)))
    ).aspects
    assert row(table, aspect="most pseudo-labels")["naive+quota"].text == "2.0 x labelled"
    assert row(table, aspect="particle threshold", kind="configured")["naive+quota"].text == "0.7"


def test_a_strategy_beyond_the_note_is_not_shown_with_the_rules_of_naive() -> None:
    table = compare(
        frame(*note_runs(), run("quantile", 1, f1=0.7, accepted=False, pseudo=(516, 0.03)))
    ).aspects
    assert {
        record["quantile"].value
        for record in table.records()
        if record["kind"].text == "configured"
    } == {None}
    assert (
        row(table, aspect="pseudo-label particle ratio", kind="measured at 5%")["quantile"].text
        == "3.00%"
    )


def test_every_iteration_is_listed_with_why_the_loop_stopped() -> None:
    table = compare(frame(*note_runs())).iterations
    first, second = (row(table, strategy="class_balanced", iteration=text) for text in ("1", "2"))
    assert (first["accepted"].text, second["accepted"].text) == ("yes", "no")
    assert (first["gain"].text, second["stopped"].text) == (
        "+2.50",
        "student not better on validation",
    )


def test_a_collapsed_training_is_in_the_mean_as_the_model_that_stays_and_is_counted() -> None:
    runs = [one for seed in range(3) for one in note_runs(seed=seed)]
    for one in runs:
        if one["run_id"] in ("naive-5-0-1", "naive-5-2-1"):
            one["cryossl.stop_reason"] = "collapsed"
    comparison = compare(frame(*(one for one in runs if one["run_id"] != "naive-5-1-1")))
    assert arm(comparison, "naive")["seeds"].text == "2 of 3 (1 missing, 2 collapsed)"
    assert arm(comparison, "naive")["gain"].text == "0"
    assert arm(comparison, "class_balanced")["seeds"].text == "3"
    assert (
        "naive: no student was accepted (1 of 3 seeds missing, a training collapsed in 2 of 3 "
        "seeds)" in abstract(comparison)[1]
    )


def test_sources_are_a_table_only_where_they_were_scored() -> None:
    assert compare(frame(*note_runs())).sources is None
    runs = [one | {"test/f1/10017": one["test/f1"] - 0.1} for one in note_runs()]
    table = compare(frame(*runs)).sources
    assert table is not None
    cells = row(table, source="10017")
    assert (cells["supervised"].text, cells["class_balanced"].text) == ("60.00", "+2.50")


def test_another_metric_changes_the_score_and_not_the_verdict() -> None:
    comparison = compare(frame(*note_runs()), metric="test/recall")
    assert arm(comparison, "class_balanced")["score"].text == "72.00"
    assert arm(comparison, "class_balanced")["verdict"].text == "success"


def test_particle_f1_stands_beside_the_score_where_runs_have_it() -> None:
    for table in (compare(frame(*note_runs())).by_ratio, compare(frame(*note_runs())).iterations):
        assert "particle_f1" not in [column.name for column in table.columns]
        assert len({len(table.columns), *map(len, table.rows)}) == 1
    runs = [one | {"test/particle_f1": one["test/f1"] + 0.1} for one in note_runs()]
    comparison = compare(frame(*runs))
    assert arm(comparison, "class_balanced")["particle_f1"].text == "82.50"
    assert (
        row(comparison.iterations, strategy="naive", iteration="1")["particle_f1"].text == "79.85"
    )
    of_particles = compare(frame(*runs), metric="test/particle_f1")
    assert arm(of_particles, "class_balanced")["score"].text == "82.50"
    assert "particle_f1" not in [column.name for column in of_particles.by_ratio.columns]


def test_a_ratio_picks_its_rows() -> None:
    runs = frame(*note_runs(), *note_runs(ratio="10"))
    assert len(compare(runs).by_ratio.rows) == 6
    assert len(compare(runs, ratio=10.0).by_ratio.rows) == 3


@pytest.mark.parametrize(
    "empty", [pd.DataFrame(), pd.DataFrame(columns=["run_id", "status", "cryossl.kind"])]
)
def test_an_empty_store_is_one_clear_line(empty: pd.DataFrame) -> None:
    with pytest.raises(
        DataError, match=r"nothing to compare: the experiment has no run; .*cli.py run"
    ):
        compare(empty)


def test_a_store_in_which_nothing_finished_says_what_is_there() -> None:
    with pytest.raises(DataError, match="1 failed, 1 unfinished"):
        compare(
            frame(note_runs()[0] | {"status": "RUNNING"}, note_runs()[1] | {"status": "FAILED"})
        )


def test_an_unknown_ratio_or_metric_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match="20 percent; there are: 5"):
        compare(frame(*note_runs()), ratio=20)
    with pytest.raises(
        ConfigError, match=r"metric 'test/f2'; did you mean test/f1.* docs/tracking\.md lists"
    ):
        compare(frame(*note_runs()), metric="test/f2")
    with pytest.raises(ConfigError, match=r"metric 'f1'; did you mean test/f1\b") as caught:
        compare(frame(*note_runs()), metric="f1")
    assert len(str(caught.value)) < 250


def test_the_share_of_the_gap_counts_from_the_better_baseline_to_the_ceiling() -> None:
    comparison = compare(
        frame(*note_runs(), run("supervised_long", 1, f1=0.715), run("full", 1, f1=0.755))
    )
    assert arm(comparison, "class_balanced")["gap_closed"].value == pytest.approx(
        100 * (0.725 - 0.715) / (0.755 - 0.715)
    )
    assert {
        name: arm(comparison, name)["gap_closed"].value
        for name in ("supervised", "supervised_long", "full")
    } == {"supervised": None, "supervised_long": None, "full": None}


def test_a_ceiling_no_higher_than_the_baseline_says_nothing_and_without_one_there_is_no_column() -> (
    None
):
    low = compare(frame(*note_runs(), run("full", 1, f1=0.69)))
    assert arm(low, "class_balanced")["gap_closed"].value is None
    assert "gap_closed" not in arm(compare(frame(*note_runs())), "class_balanced")
