"""The truths of the loop, with models that are plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cryossl.data.splits import Split
from cryossl.selftraining.loop import IterationResult, Outcome, self_train

SPLIT = Split(labelled=("a", "b"), unlabelled=("c", "d", "e"), validation=("v",), test=("t",))
Model = tuple[tuple[str, ...], int]


@dataclass(frozen=True)
class Chosen:
    """Pseudo-labels that remember which teacher made them."""

    ids: tuple[str, ...]
    teacher: Model

    def __len__(self) -> int:
        return len(self.ids)


Result = IterationResult[Model, Chosen, float]


class Laboratory:
    """Steps that write down what they were called with.

    A model is (what it was trained on, its iteration).
    """

    def __init__(
        self, scores: tuple[float, ...], *, selected: tuple[tuple[str, ...], ...] = ()
    ) -> None:
        self.scores = scores
        self.selected = selected
        self.teachers: list[Model] = []
        self.pools: list[tuple[str, ...]] = []
        self.gate: list[tuple[int, int]] = []
        self.trained: list[int] = []

    def fit(self, labelled: tuple[str, ...], pseudo_labels: Chosen | None, iteration: int) -> Model:
        self.trained.append(iteration)
        return labelled + (() if pseudo_labels is None else pseudo_labels.ids), iteration

    def pseudo_label(self, teacher: Model, unlabelled: tuple[str, ...], iteration: int) -> Chosen:
        self.teachers.append(teacher)
        self.pools.append(unlabelled)
        return Chosen(self.selected[iteration - 1] if self.selected else ("c",), teacher)

    def evaluate(self, model: Model) -> float:
        return self.scores[model[1]]

    def accept(self, best: Result, student: Result) -> bool:
        self.gate.append((best.iteration, student.iteration))
        return student.validation > best.validation

    def run(self, iterations: int) -> tuple[list[Result], Outcome[Model, Chosen, float]]:
        outcome = self_train(
            SPLIT,
            iterations=iterations,
            fit=self.fit,
            pseudo_label=self.pseudo_label,
            evaluate=self.evaluate,
            accept=self.accept,
        )
        return list(outcome.results), outcome


def test_zero_iterations_yield_just_the_supervised_baseline() -> None:
    laboratory = Laboratory((0.7,))
    results, outcome = laboratory.run(0)
    assert results == [IterationResult(0, (("a", "b"), 0), None, 0.7, accepted=True)]
    assert outcome == Outcome((results[0],), "iterations done")
    assert outcome.best is results[0]
    assert laboratory.teachers == []


def test_the_baseline_is_the_same_whatever_follows() -> None:
    assert Laboratory((0.7,)).run(0)[0][0] == Laboratory((0.7, 0.8, 0.6, 0.9)).run(3)[0][0]


def test_an_accepted_student_is_the_next_teacher() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.7, 0.8))
    results, outcome = laboratory.run(3)
    assert laboratory.teachers == [result.model for result in results[:-1]]
    assert [result.accepted for result in results] == [True] * 4
    assert (outcome.best, outcome.stop_reason, outcome.empty) == (
        results[3],
        "iterations done",
        None,
    )


def test_a_rejected_student_ends_the_loop_and_the_best_stays() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.55, 0.9))
    results, outcome = laboratory.run(3)
    assert [result.iteration for result in results] == [0, 1, 2]
    assert [result.accepted for result in results] == [True, True, False]
    assert (outcome.best, outcome.stop_reason, outcome.empty) == (results[1], "not accepted", None)
    assert laboratory.trained == [0, 1, 2]


def test_an_equal_student_is_what_the_gate_says_it_is() -> None:
    results, outcome = Laboratory((0.5, 0.5)).run(3)
    assert not results[1].accepted
    assert outcome.best is results[0]


def test_no_pseudo_label_ends_the_loop_without_training() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.7), selected=(("c",), ()))
    results, outcome = laboratory.run(3)
    assert laboratory.trained == [0, 1]
    assert (outcome.best, outcome.stop_reason) == (results[1], "no pseudo-label")
    assert outcome.empty == Chosen((), results[1].model)


def test_each_student_learns_from_the_labels_and_only_this_iterations_pseudo_labels() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.7), selected=(("c", "d"), ("e",)))
    results, _ = laboratory.run(2)
    assert [result.model[0] for result in results] == [
        ("a", "b"),
        ("a", "b", "c", "d"),
        ("a", "b", "e"),
    ]


def test_each_result_carries_the_pseudo_labels_it_was_trained_on() -> None:
    results, _ = Laboratory((0.5, 0.6, 0.4), selected=(("c", "d"), ("e",))).run(2)
    assert [result.pseudo_labels and len(result.pseudo_labels) for result in results] == [
        None,
        2,
        1,
    ]


def test_the_teacher_is_shown_the_unlabelled_part_and_nothing_else() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.7))
    laboratory.run(2)
    assert laboratory.pools == [("c", "d", "e")] * 2


def test_the_gate_compares_each_student_with_the_best_so_far_once() -> None:
    laboratory = Laboratory((0.5, 0.6, 0.7, 0.1))
    laboratory.run(3)
    assert laboratory.gate == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("stop", [lambda lab: lab.run(1), lambda lab: lab.run(5)])
def test_results_are_numbered_without_a_gap(
    stop: Callable[[Laboratory], tuple[list[Result], object]],
) -> None:
    results, _ = stop(Laboratory((0.1, 0.2, 0.3, 0.4, 0.5, 0.6)))
    assert [result.iteration for result in results] == list(range(len(results)))
