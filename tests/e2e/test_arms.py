"""Arms through the real command: the order of their runs, and what store, files and output hold of each way an arm ends.

All runs share one lab, so that the baseline is trained once where the settings allow it. A run is
found again by the experiment's fingerprint, which its result files name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from typed_commands import Done

# One epoch is too short for a student: it scores less than the baseline on validation.
SETTINGS = ("--baseline-epochs", "20", "--student-epochs", "1", "--validations", "1")
ACCEPTED = (
    "test/f1",
    "test/precision",
    "test/recall",
    "test/particle_f1",
    "validation/f1",
    "gain/f1",
    "gain/recall",
    "gain/particle_f1",
)
GAINS = {
    "gain/f1": "test/f1",
    "gain/recall": "test/recall",
    "gain/precision": "test/precision",
    "gain/validation_f1": "validation/f1",
    "gain/particle_f1": "test/particle_f1",
}


@dataclass(frozen=True)
class Run:
    """A run as the tracking store holds it; metrics are {(name, step): value}."""

    id: str
    name: str
    status: str
    tags: dict[str, str]
    metrics: dict[tuple[str, int], float]

    @property
    def kind(self) -> str:
        return self.tags["cryossl.kind"]

    def at(self, step: int, *, prefixes: tuple[str, ...] = ("test/", "validation/", "gain/")):
        """The metrics of an iteration whose names start so; a model's run has its own at step 0."""
        return {
            name: value
            for (name, one), value in self.metrics.items()
            if one == (step if self.kind == "arm" else 0) and name.startswith(prefixes)
        }

    def accepted(self) -> dict[tuple[str, int], float]:
        return {key: value for key, value in self.metrics.items() if key[0].startswith("accepted/")}


class Ended:
    """A command that ended: what it printed, its runs in the order of their creation, and its result files."""

    def __init__(self, lab, done: Done, name: str) -> None:
        self.done, self.name, self._lab = done, name, lab
        self.fingerprint = lab.file("finished.json", of=name)["fingerprint"]
        tagged = "SELECT run_uuid FROM tags WHERE key = 'cryossl.experiment_fingerprint' AND value"
        self.runs = [
            self._run(*row)
            for row in lab.asked(
                "SELECT run_uuid, name, status FROM runs WHERE run_uuid IN "
                f"({tagged} = '{self.fingerprint}') ORDER BY rowid"
            )
        ]

    def _run(self, run_id: str, name: str, status: str) -> Run:
        tags = dict(self._lab.asked(f"SELECT key, value FROM tags WHERE run_uuid = '{run_id}'"))
        rows = self._lab.asked(
            f"SELECT key, step, value FROM metrics WHERE run_uuid = '{run_id}' AND NOT is_nan"
        )
        points = {(key, step): value for key, step, value in rows}
        assert len(points) == len(rows)
        return Run(run_id, name, status, tags, points)

    def arm(self, strategy: str) -> Run:
        (found,) = [
            run
            for run in self.runs
            if run.kind == "arm" and run.tags["cryossl.strategy"] == strategy
        ]
        return found

    def models(self, strategy: str) -> list[Run]:
        """The runs of the trained models of a strategy."""
        return [
            run
            for run in self.runs
            if run.kind == "iteration" and run.tags["cryossl.strategy"] == strategy
        ]

    def baseline(self) -> Run:
        (found,) = self.models("supervised")
        return found

    def filed(self, strategy: str) -> dict[str, Any]:
        """The arm in its result file."""
        prefix = strategy.replace("class_balanced", "balanced")
        (arm,) = self._lab.file(f"{prefix}_pseudolabel_ratio_30.json", of=self.name)[
            "seeds"
        ].values()
        found: dict[str, Any] = arm
        return found


@pytest.fixture(scope="module")
def command(lab):
    """Runs the command under a name with more options."""

    def run(name: str, *options: str) -> Ended:
        done = lab.run(*SETTINGS, "--name", name, *options)
        assert (done.code, done.err) == (0, "")
        return Ended(lab, done, name)

    return run


@pytest.fixture(scope="module")
def accepting(command) -> Ended:
    """Two strategies and a control, the control named first; every student is accepted."""
    return command(
        "accepting",
        "--strategies",
        "supervised_long,naive,class_balanced",
        "--accept",
        "always",
        "--max-iterations",
        "2",
    )


@pytest.fixture(scope="module")
def rejecting(command) -> Ended:
    """Two strategies whose first student is not accepted, where a second one would be allowed."""
    return command("rejecting", "--strategies", "class_balanced,naive", "--max-iterations", "2")


@pytest.fixture(scope="module")
def selecting_nothing(command) -> Ended:
    """A threshold that no image reaches; the other strategy has thresholds of its own."""
    return command(
        "nothing",
        "--strategies",
        "naive,class_balanced",
        "--naive-threshold",
        "1",
        "--accept",
        "always",
    )


@pytest.fixture(scope="module")
def collapsing(command) -> Ended:
    """Hardly a pixel is particle, but nearly all are said to be: the watch ends every student, and the gate is open."""
    return command(
        "collapsing",
        "--strategies",
        "naive",
        "--particle-radius-fraction",
        "0.4",
        "--target-particle-ratio",
        "0.99",
        "--student-epochs",
        "4",
        "--validations",
        "4",
        "--accept",
        "always",
        "--max-iterations",
        "2",
    )


def check_curve(ended: Ended, strategy: str) -> None:
    """The arm repeats the metrics of all its models, each at its iteration, and its file holds the same."""
    arm, models = ended.arm(strategy), [ended.baseline(), *ended.models(strategy)]
    filed = ended.filed(strategy)["iterations"]
    assert [entry["mlflow_run_id"] for entry in filed] == [model.id for model in models]
    for iteration, (model, entry) in enumerate(zip(models, filed, strict=True)):
        assert model.tags["cryossl.iteration"] == str(iteration) == str(entry["iteration"])
        assert model.tags["cryossl.accepted"] == str(entry["accepted"]).lower()
        found = model.at(iteration)
        assert found
        assert arm.at(iteration) == found
        numbers = {name: one for name, one in entry["numbers"].items() if name in found}
        assert numbers == found


def check_gains(ended: Ended, strategy: str) -> None:
    """Each gain is the student's number minus the baseline's, on the test part but for the one of validation."""
    before = ended.baseline().at(0)
    assert not any(name.startswith("gain/") for name in before)
    for iteration, student in enumerate(ended.models(strategy), 1):
        after = student.at(iteration)
        assert set(GAINS) <= set(after)
        for gain, number in GAINS.items():
            assert after[gain] == after[number] - before[number]


def check_accepted(ended: Ended, strategy: str, *, iteration: int) -> None:
    """What the arm reports: the last accepted model's numbers as `accepted/...`, the same in tags and summary."""
    arm, baseline = ended.arm(strategy), ended.baseline()
    best = ([baseline, *ended.models(strategy)])[iteration].at(iteration)
    assert arm.accepted() == {
        (f"accepted/{name.replace('/', '_')}", 0): best[name]
        for one in ACCEPTED
        for name in (one, f"{one}_views8")
        if name in best
    }
    assert "test/f1_views8" in best
    assert ("gain/f1" in best) == (iteration > 0)
    assert arm.tags["cryossl.best_iteration"] == str(iteration)
    summary = ended.filed(strategy)["summary"]
    assert summary["best_iteration"] == iteration
    assert summary["baseline_f1"] == baseline.at(0)["test/f1"]
    assert summary["f1"] == best["test/f1"]
    assert summary["gain_f1"] == best.get("gain/f1", 0.0)
    assert summary["verdict"] == arm.tags["cryossl.verdict"]


def check_stop(ended: Ended, strategy: str, reason: str) -> None:
    """Tag, page and file give the same reason."""
    arm = ended.arm(strategy)
    assert arm.tags["cryossl.stop_reason"] == reason
    assert f"The loop stopped: {reason}." in arm.tags["mlflow.note.content"]
    assert ended.filed(strategy)["summary"]["stop_reason"] == reason


# --- every student accepted


def test_the_baseline_comes_first_then_the_strategies_as_named_and_the_control_last(accepting):
    assert [
        (run.kind, run.tags.get("cryossl.strategy"), run.tags.get("cryossl.iteration"))
        for run in accepting.runs
    ] == [
        ("experiment", None, None),
        ("iteration", "supervised", "0"),
        ("arm", "naive", None),
        ("iteration", "naive", "1"),
        ("iteration", "naive", "2"),
        ("arm", "class_balanced", None),
        ("iteration", "class_balanced", "1"),
        ("iteration", "class_balanced", "2"),
        ("arm", "supervised_long", None),
        ("iteration", "supervised_long", "1"),
    ]


def test_the_lines_that_are_printed_follow_the_same_order(accepting):
    out = accepting.done.out
    places = [
        out.index(f"{title}: ")
        for title in (
            "   supervised",
            "   naive iteration 1",
            "   naive iteration 2",
            "   class_balanced iteration 1",
            "   class_balanced iteration 2",
            "   supervised_long iteration 1",
        )
    ]
    assert places == sorted(places)


def test_all_runs_are_children_of_the_invocation_and_finished(accepting):
    parent, *children = accepting.runs
    assert "mlflow.parentRunId" not in parent.tags
    assert {run.tags["mlflow.parentRunId"] for run in children} == {parent.id}
    assert {run.status for run in accepting.runs} == {"FINISHED"}


@pytest.mark.parametrize("strategy", ["naive", "class_balanced"])
def test_an_arm_whose_students_are_accepted_reports_the_last_one(accepting, strategy):
    check_curve(accepting, strategy)
    check_gains(accepting, strategy)
    check_accepted(accepting, strategy, iteration=2)
    check_stop(accepting, strategy, "iterations done")
    assert [run.tags["cryossl.accepted"] for run in accepting.models(strategy)] == ["true"] * 2
    assert [run.tags["cryossl.collapsed"] for run in accepting.models(strategy)] == ["false"] * 2
    assert accepting.filed(strategy)["empty_selection"] is None
    assert accepting.done.out.count(f"   {strategy} iteration 2: F1 on validation ") == 1
    assert "not accepted" not in accepting.done.out


def test_a_student_learns_from_what_the_model_before_it_selected(accepting):
    """Its run has the numbers of the selection, at its iteration; the baseline and the control have none."""
    for strategy in ("naive", "class_balanced"):
        for student in accepting.models(strategy):
            count = student.metrics["pseudo/count", 0]
            assert count > 0
            noun = "class-balanced" if strategy == "class_balanced" else strategy
            assert f"Generated {count:.0f} {noun} pseudo-labels" in accepting.done.out
            assert f"{count:.0f} pseudo-labels" in student.tags["mlflow.note.content"]
    for run in (accepting.baseline(), *accepting.models("supervised_long")):
        assert not any(name.startswith("pseudo/") for name, _ in run.metrics)


def test_a_control_trains_as_long_as_the_longest_student_and_is_no_verdict(accepting):
    check_curve(accepting, "supervised_long")
    check_gains(accepting, "supervised_long")
    check_accepted(accepting, "supervised_long", iteration=1)
    check_stop(accepting, "supervised_long", "iterations done")
    students = [run for name in ("naive", "class_balanced") for run in accepting.models(name)]
    longest = max(
        value for run in students for (key, _), value in run.metrics.items() if key == "train/steps"
    )
    (control,) = accepting.models("supervised_long")
    assert control.metrics["train/steps", 0] == longest
    assert accepting.arm("supervised_long").tags["cryossl.verdict"] == "control"


# --- a student that is not accepted


@pytest.mark.parametrize("strategy", ["naive", "class_balanced"])
def test_a_student_that_is_not_accepted_ends_its_arm_and_the_baseline_is_reported(
    rejecting, strategy
):
    (student,) = rejecting.models(strategy)
    assert student.tags["cryossl.accepted"] == "false"
    assert student.at(1)["validation/f1"] <= rejecting.baseline().at(0)["validation/f1"]
    check_curve(rejecting, strategy)
    check_gains(rejecting, strategy)
    check_accepted(rejecting, strategy, iteration=0)
    check_stop(rejecting, strategy, "not accepted")
    assert rejecting.done.out.count("❌ not accepted, the loop stops") == 2


def test_an_arm_that_ends_early_stops_no_other(rejecting):
    assert [run.tags["cryossl.strategy"] for run in rejecting.runs if run.kind == "arm"] == [
        "class_balanced",
        "naive",
    ]
    assert {run.status for run in rejecting.runs} == {"FINISHED"}


# --- a selection that is empty


def test_an_arm_that_selects_nothing_has_no_student_and_reports_the_baseline(selecting_nothing):
    arm, filed = selecting_nothing.arm("naive"), selecting_nothing.filed("naive")
    assert selecting_nothing.models("naive") == []
    check_curve(selecting_nothing, "naive")
    check_accepted(selecting_nothing, "naive", iteration=0)
    check_stop(selecting_nothing, "naive", "no pseudo-label")
    assert arm.metrics["pseudo/count", 1] == 0
    assert filed["empty_selection"]["count"] == 0
    assert filed["empty_selection"]["pool"] > 0
    assert f"Generated 0 naive pseudo-labels of {filed['empty_selection']['pool']} " in (
        selecting_nothing.done.out
    )
    assert arm.status == "FINISHED"


def test_the_strategy_after_an_empty_selection_has_its_student(selecting_nothing):
    (student,) = selecting_nothing.models("class_balanced")
    assert student.metrics["pseudo/count", 0] > 0
    check_accepted(selecting_nothing, "class_balanced", iteration=1)


# --- a student that collapses


def test_a_student_that_collapses_is_never_accepted_and_the_reason_is_the_collapse(collapsing):
    (student,) = collapsing.models("naive")
    assert student.tags["cryossl.collapsed"] == "true"
    assert student.tags["cryossl.accepted"] == "false"
    check_curve(collapsing, "naive")
    check_gains(collapsing, "naive")
    check_accepted(collapsing, "naive", iteration=0)
    check_stop(collapsing, "naive", "collapsed")
    assert "naive iteration 1 collapsed" in collapsing.done.out
    assert f"ended at step {student.metrics['train/steps', 0]:.0f}" in collapsing.done.out
    assert "iteration 1: F1 on validation" not in collapsing.done.out
    assert {run.status for run in collapsing.runs} == {"FINISHED"}
