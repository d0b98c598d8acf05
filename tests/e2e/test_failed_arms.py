"""A strategy whose training comes to NaN is recorded as failed; the others run, the table is printed, the exit code is 5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryossl.network.checkpoints import Checkpoint


def key_of_the_student(lab) -> str:
    """The training of the one student that there is."""
    (found,) = [
        path.parent.name
        for path in lab.work.glob("stages/train/*/stage.json")
        if json.loads(path.read_text())["inputs"]["iteration"] == 1
    ]
    return found


def poison(partial: Path) -> None:
    """Go back a step, with NaN for every weight."""
    checkpoint = Checkpoint(partial / "checkpoint")
    saved = checkpoint.load()
    saved["state"]["step"] -= 1
    for tensor in saved["network"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    checkpoint.save(saved)


@pytest.fixture(scope="module")
def failed(lab, new_lab):
    """A run in which the student of naive goes on from NaN, after one that could not write what it had trained."""
    well = new_lab()
    assert well.run("--strategies", "naive").code == 0
    partial = lab.work / "stages" / "train" / f"{key_of_the_student(well)}.partial"
    (partial / "last.safetensors").mkdir(parents=True)
    assert lab.run("--strategies", "naive", "--checkpoint-seconds", "0.01").code == 6
    (partial / "last.safetensors").rmdir()
    poison(partial)
    return lab.run("--strategies", "naive,class_balanced")


def test_the_exit_code_is_5_and_the_one_line_names_the_arm_and_the_step(failed):
    assert failed.code == 5
    assert failed.err.count("\n") == 1
    assert "1 of the strategies failed, the others are finished; naive: loss nan" in failed.err
    assert "lower --learning-rate" in failed.err


def test_the_others_run_and_the_table_is_printed(lab, failed):
    assert "❌ naive failed: loss nan" in failed.out
    assert failed.out.index("❌ naive failed") < failed.out.index("class_balanced: iteration 1")
    assert "Naive against class-balanced" in failed.out
    assert lab.file("balanced_pseudolabel_ratio_30.json")["seeds"]["0"]["summary"]["f1"] is not None


def test_the_arm_and_the_invocation_are_failed_runs_and_the_arm_says_why(lab, failed):
    statuses = dict(lab.asked("SELECT name, status FROM runs WHERE name NOT LIKE 'pseudolabel%'"))
    assert statuses == {
        "supervised 30% s0": "FINISHED",
        "naive 30% s0": "FAILED",
        "naive 30% s0 it1": "FAILED",
        "class_balanced 30% s0": "FINISHED",
        "class_balanced 30% s0 it1": "FINISHED",
    }
    ((invocation,),) = lab.asked(
        "SELECT status FROM runs WHERE name LIKE 'pseudolabel%' ORDER BY start_time DESC LIMIT 1"
    )
    assert invocation == "FAILED"
    ((name, fault),) = lab.asked(
        "SELECT r.name, t.value FROM tags t JOIN runs r USING (run_uuid) "
        "WHERE t.key = 'cryossl.failure'"
    )
    assert name == "naive 30% s0"
    assert fault.startswith("loss nan")


def test_a_failed_arm_has_no_outcome_in_the_store_and_no_result_file(lab, failed):
    tagged = lab.asked(
        "SELECT r.name, t.key FROM tags t JOIN runs r USING (run_uuid) WHERE t.key IN "
        "('cryossl.best_iteration', 'cryossl.stop_reason', 'cryossl.verdict') ORDER BY t.key"
    )
    assert tagged == [
        ("class_balanced 30% s0", "cryossl.best_iteration"),
        ("class_balanced 30% s0", "cryossl.stop_reason"),
        ("class_balanced 30% s0", "cryossl.verdict"),
    ]
    reported = lab.asked(
        "SELECT DISTINCT r.name FROM metrics m JOIN runs r USING (run_uuid) "
        "WHERE m.key LIKE 'accepted/%'"
    )
    assert reported == [("class_balanced 30% s0",)]
    assert not (lab.results / "pseudolabel_balanced" / "naive_pseudolabel_ratio_30.json").exists()


def test_the_failed_student_has_its_selection_and_no_score(lab, failed):
    found = {
        name
        for (name,) in lab.asked(
            "SELECT m.key FROM metrics m JOIN runs r USING (run_uuid) "
            "WHERE r.name = 'naive 30% s0 it1'"
        )
    }
    assert "pseudo/count" in found
    assert not {name for name in found if name.startswith(("test/", "validation/", "gain/"))}


def test_a_sweep_keeps_what_the_other_arms_of_such_a_cell_came_to(lab, failed):
    at = lab.tiny.index("--ratio")
    done = lab.call(
        "sweep",
        *lab.places(),
        *lab.tiny[:at],
        *lab.tiny[at + 2 :],
        "--name",
        "grid",
        "--ratios",
        "30",
        "--seeds",
        "1",
        "--strategies",
        "naive,class_balanced",
    )
    assert done.code == 5
    assert "0 of 1 cells have finished, 1 failed" in done.out
    assert "Naive against class-balanced" in done.out
    gathered = json.loads((lab.results / "grid" / "balanced_pseudolabel_ratio_30.json").read_text())
    assert (
        gathered["seeds"]["0"]["summary"]
        == lab.file("balanced_pseudolabel_ratio_30.json")["seeds"]["0"]["summary"]
    )
    assert not (lab.results / "grid" / "naive_pseudolabel_ratio_30.json").exists()
