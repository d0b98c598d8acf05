"""The whole experiment through the real command: what it leaves behind, what is read from it, and that it runs once."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
STRATEGIES = ("naive", "class_balanced")
SUMMARY = {
    "labelled",
    "unlabelled",
    "baseline_f1",
    "f1",
    "gain_f1",
    "best_iteration",
    "stop_reason",
    "verdict",
    "verdict_reference",
    "baseline_f1_views8",
    "f1_views8",
    "gain_f1_views8",
    "headline_views",
}
ARM = {
    "summary",
    "verdict",
    "iterations",
    "empty_selection",
    "fingerprint",
    "split_sha256",
    "code_digest",
    "settings",
}
FACTS = {
    "test/f1",
    "test/precision",
    "test/recall",
    "test/f1_at_half",
    "validation/f1",
    "validation/precision",
    "validation/recall",
    "validation/f1_at_half",
    "threshold/decision",
    "time/seconds",
    "train/steps",
    "test/particle_f1",
    "test/particle_precision",
    "test/particle_recall",
    "test/particle_ap",
    "validation/particle_f1",
    "threshold/pick",
}
FACTS_OF_PSEUDO_LABELS = {
    "pseudo/count",
    "pseudo/candidates",
    "pseudo/per_labelled",
    "pseudo/particle_ratio",
    "pseudo/target_ratio",
    "pseudo/f1_cap",
    "quality/mean",
    "quality/particle",
    "quality/background",
    "quality/balance",
    "threshold/particle",
    "threshold/background",
    "gain/f1",
    "gain/recall",
    "gain/particle_f1",
}


@pytest.fixture(scope="module")
def first(lab) -> subprocess.CompletedProcess[str]:
    """The run itself, in a process of its own, with everything switched on as a user has it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
    }
    return subprocess.run(
        [sys.executable, str(PROJECT / "cli.py"), "run", *lab.places(), *lab.tiny],
        cwd=lab.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def lab_of_the_run(lab, first):
    """The lab once the run has ended."""
    assert first.returncode == 0, first.stderr
    return lab


def points(lab) -> list[tuple]:
    """Every point of every run that a start of the command does not make anew."""
    return sorted(
        lab.asked(
            "SELECT run_uuid, key, step, value, timestamp FROM metrics WHERE key NOT LIKE "
            "'system/%' AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'cryossl.kind' "
            "AND value = 'experiment')"
        )
    )


def test_the_command_ends_well_with_nothing_on_standard_error_and_the_tables_last(
    lab_of_the_run, first
):
    assert first.stderr == ""
    tail = first.stdout[first.stdout.index("Naive against class-balanced") :]
    assert "Class-balanced F1" in tail
    assert "Verdict" in tail
    assert re.search(r"\nNext: .*`python cli\.py compare[ `]", tail, flags=re.DOTALL)


def test_the_notes_files_are_there_with_the_documented_schema(lab_of_the_run):
    lab = lab_of_the_run
    documented = (PROJECT / "docs" / "results-files.md").read_text(encoding="utf-8")
    for prefix, strategy in (("naive", "naive"), ("balanced", "class_balanced")):
        ratio_file = lab.file(f"{prefix}_pseudolabel_ratio_30.json")
        assert set(ratio_file) == {"schema", "strategy", "ratio_percent", "seeds"}
        assert (ratio_file["schema"], ratio_file["strategy"], ratio_file["ratio_percent"]) == (
            "cryossl-results/1",
            strategy,
            30,
        )
        (arm,) = ratio_file["seeds"].values()
        assert set(arm) == ARM
        assert set(arm["summary"]) == SUMMARY
        assert {key for key in ARM | SUMMARY if f"`{key}`" not in documented} == set()
        rows = lab.file(f"{prefix}_pseudolabel_summary.json")["rows"]
        assert rows == [{"ratio_percent": 30, "seed": 0, **arm["summary"]}]
        baseline, *students = arm["iterations"]
        assert [entry["iteration"] for entry in arm["iterations"]] == list(range(1 + len(students)))
        assert baseline["accepted"]
        for entry in arm["iterations"]:
            assert set(entry["numbers"]) >= FACTS | (
                FACTS_OF_PSEUDO_LABELS if entry["iteration"] else set()
            )
        best = arm["iterations"][arm["summary"]["best_iteration"]]
        assert best["accepted"]
        assert arm["summary"]["f1"] == best["numbers"]["test/f1"]
        assert arm["settings"]["split.ratio"] == 30


def test_the_log_has_the_notes_key_messages_each_with_its_time(lab_of_the_run):
    log = (
        lab_of_the_run.results / "pseudolabel_balanced" / "pseudolabel_balanced_training.log"
    ).read_text(encoding="utf-8")
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in log.splitlines())
    count = lab_of_the_run.numbers()["class_balanced 1"]["pseudo/count"]
    assert f"Generated {count:.0f} class-balanced pseudo-labels" in log
    assert re.search(r"Generated \d+ naive pseudo-labels", log)
    assert re.search(r"Average particle ratio: \d+\.\d\d% \(target: \d+\.\d\d%\)", log)
    assert re.search(r"F1 on validation \d", log)
    assert re.search(r"epoch 8  loss \d", log)


def test_the_status_file_says_that_the_run_ended(lab_of_the_run):
    done = lab_of_the_run.call("status", "--results", str(lab_of_the_run.results))
    assert (done.code, done.out.splitlines()[0][:10]) == (0, "✅ Finished")
    machine = lab_of_the_run.call("status", "--results", str(lab_of_the_run.results), "--json")
    assert json.loads(machine.out)["state"] == "finished"


def test_every_run_is_finished_and_arms_and_models_lie_below_the_invocation(lab_of_the_run):
    lab = lab_of_the_run
    kinds = dict(lab.asked("SELECT run_uuid, value FROM tags WHERE key = 'cryossl.kind'"))
    parents = dict(lab.asked("SELECT run_uuid, value FROM tags WHERE key = 'mlflow.parentRunId'"))
    (invocation,) = [run for run, kind in kinds.items() if kind == "experiment"]
    assert sorted(kinds.values()) == [
        "arm",
        "arm",
        "experiment",
        "iteration",
        "iteration",
        "iteration",
    ]
    assert parents == {run: invocation for run in kinds if run != invocation}
    assert set(lab.statuses()) == {"FINISHED"}


def test_the_tracked_numbers_are_those_of_the_files(lab_of_the_run):
    lab = lab_of_the_run
    for strategy in STRATEGIES:
        prefix = "balanced" if strategy == "class_balanced" else strategy
        (arm,) = lab.file(f"{prefix}_pseudolabel_ratio_30.json")["seeds"].values()
        for entry in arm["iterations"]:
            tracked = dict(
                lab.asked(
                    "SELECT key, value FROM metrics WHERE key NOT LIKE 'epoch/%' AND run_uuid = "
                    f"'{entry['mlflow_run_id']}'"
                )
            )
            written = {name: value for name, value in entry["numbers"].items() if value is not None}
            assert tracked == pytest.approx(written, abs=0)


def test_compare_speaks_all_formats_from_the_store_alone(lab_of_the_run, tmp_path):
    lab = lab_of_the_run
    alone = tmp_path / "moved.db"
    shutil.copyfile(lab.database, alone)
    shown = {
        form: lab.call("compare", "--format", form, "--tracking-uri", f"sqlite:///{alone}")
        for form in ("table", "markdown", "csv", "json", "latex")
    }
    assert {form: (done.code, done.err) for form, done in shown.items()} == dict.fromkeys(
        shown, (0, "")
    )
    f1 = lab.numbers()["naive 0"]["test/f1"]
    for form in ("table", "markdown", "latex"):
        assert f"{100 * f1:.2f}" in shown[form].out
        for strategy in STRATEGIES:
            assert strategy in shown[form].out.replace("\\_", "_")
    rows = {
        row["strategy"]: row for row in csv.DictReader(io.StringIO(shown["csv"].out.rstrip("\n")))
    }
    assert sorted(rows) == ["class_balanced", "naive", "supervised"]
    assert float(rows["supervised"]["score_percent"]) == pytest.approx(100 * f1)
    assert json.loads(shown["json"].out)["schema"].startswith("cryossl.comparison/")


def test_compare_of_a_ratio_that_was_never_run_says_so_in_one_line(lab_of_the_run):
    done = lab_of_the_run.call(
        "compare", "--ratio", "77", "--tracking-uri", f"sqlite:///{lab_of_the_run.database}"
    )
    assert "Traceback" not in done.out + done.err
    assert "77" in done.out + done.err or "no" in (done.out + done.err).lower()


def test_a_second_start_reuses_everything_and_adds_nothing_but_its_own_run(lab_of_the_run):
    lab = lab_of_the_run
    stages = {path: path.stat().st_mtime_ns for path in lab.work.rglob("stage.json")}
    numbers, before, runs = lab.numbers(), points(lab), len(lab.statuses())
    again = lab.run()
    assert (again.code, again.err) == (0, "")
    assert not re.search(
        r"^(train|predict|assess|score \w+|decode):", again.out, flags=re.MULTILINE
    )
    assert {path: path.stat().st_mtime_ns for path in lab.work.rglob("stage.json")} == stages
    assert lab.numbers() == numbers
    assert points(lab) == before
    assert len(lab.statuses()) == runs + 1
    assert set(lab.statuses()) == {"FINISHED"}


def test_no_probability_map_of_the_pool_is_left(lab_of_the_run):
    assert list(lab_of_the_run.work.rglob("probabilities-*")) == []


def test_zero_iterations_are_the_supervised_baseline(lab_of_the_run):
    lab = lab_of_the_run
    weights = sorted(lab.work.glob("stages/train/*/last.safetensors"))
    done = lab.run("--max-iterations", "0", "--name", "nothing")
    assert (done.code, done.err) == (0, "")
    assert "pseudo-label" not in done.out
    assert (
        sorted(lab.work.glob("stages/train/*/last.safetensors")) == weights
    )  # the same stage, so the same bytes
    baseline = lab.numbers()["naive 0"]
    shown = re.search(r"supervised: test F1 ([\d.]+)", done.out)
    assert shown
    assert shown[1] == f"{100 * baseline['test/f1']:.2f}"
    alone = lab.run("--name", "alone", command="baseline")
    assert (alone.code, re.search(r"supervised: test F1 ([\d.]+)", alone.out)[1]) == (0, shown[1])


def test_a_run_of_zero_iterations_says_which_strategies_it_leaves_out(lab_of_the_run):
    done = lab_of_the_run.run("--max-iterations", "0", "--name", "nothing")
    assert "supervised baseline alone is trained, without naive, class_balanced" in done.out
    alone = lab_of_the_run.run("--name", "alone", command="baseline")
    assert "without naive" not in alone.out
    typed = lab_of_the_run.run("--name", "alone", "--strategies", "full", command="baseline")
    assert "without full" in typed.out


def test_a_baseline_ends_with_its_score_and_a_command_that_goes_on_from_it(lab_of_the_run):
    lab = lab_of_the_run
    done = lab.run("--name", "alone", command="baseline")
    score = f"{100 * lab.numbers()['naive 0']['test/f1']:.2f}"
    row = next(line for line in done.out.splitlines() if "supervised  " in line)
    assert score in row.split()
    typed = re.search(r"Next: `python cli.py (run .*?)` trains the strategies", done.out)[1]
    before = sorted(lab.work.glob("stages/train/*"))
    went_on = lab.call(*shlex.split(typed))
    assert went_on.code == 0
    assert sorted(lab.work.glob("stages/train/*")) == before  # the baseline's too
    assert "class_balanced" in went_on.out


def test_quick_sets_short_trainings_over_which_options_win(lab_of_the_run):
    lab = lab_of_the_run
    options = "--quick", "--dry-run", "--seed", "3", "--least-steps", "90"
    done = lab.call("run", *lab.places(), *options)
    lines = [line.strip() for line in done.out.splitlines()]
    assert {"least_steps: 90", "max_iterations: 1", "name: quick", "seed: 3"} <= set(lines)
    assert "a demonstration" in lines[0]


def test_the_defaults_of_the_project_file_give_way_to_quick(lab_of_the_run):
    filled = ("--defaults-yield", "--max-iterations", "3", "--name", "pseudolabel_balanced")
    lab = lab_of_the_run
    done = lab.call("run", *lab.places(), *filled, "--quick", "true", "--dry-run")
    assert "from --quick: max_iterations, name (the defaults of MLproject" in done.out
    assert "max_iterations: 1" in done.out
    plain = lab.call("run", *lab.places(), *filled, "--quick", "false", "--dry-run")
    assert "max_iterations: 3" in plain.out


def test_the_dry_run_counts_estimates_and_writes_nothing(lab_of_the_run):
    lab = lab_of_the_run
    before = sorted(lab.folder.rglob("*"))
    done = lab.run("--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "12 training micrographs: 3 labelled (25%), 9 unlabelled; at most K = 6" in done.out
    assert "ratio: 30.0" in done.out
    assert re.search(r"optimiser steps .*: about \d+", done.out)
    assert sorted(lab.folder.rglob("*")) == before


def test_the_dry_run_prints_the_ratio_that_a_labelled_list_amounts_to(lab_of_the_run, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(sorted(path.name for path in (lab_of_the_run.data / "train").iterdir())[1])
    done = lab_of_the_run.run("--dry-run", "--labelled", str(file))
    assert (done.code, done.err) == (0, "")
    assert "ratio: 8.33\n" in done.out
