"""Teacher -> pseudo-labels -> student: the method, on one page.

Its steps (train, label and select, score, accept) are functions that the caller passes in.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from cryossl.data.splits import Split

Model = TypeVar("Model")
Pseudo = TypeVar("Pseudo", bound=Sized)
Validation = TypeVar("Validation")

StopReason = Literal["not accepted", "no pseudo-label", "iterations done"]


@dataclass(frozen=True)
class IterationResult(Generic[Model, Pseudo, Validation]):
    """One trained model, the pseudo-labels it learned from, and its scores on validation.

    Iteration 0 is the supervised baseline: it learned from no pseudo-label and is always accepted.
    """

    iteration: int
    model: Model
    pseudo_labels: Pseudo | None
    validation: Validation
    accepted: bool


@dataclass(frozen=True)
class Outcome(Generic[Model, Pseudo, Validation]):
    """All results in the order of iterations, and why the loop stopped.

    `empty` is the selection that found nothing, if that is why; no model belongs to it.
    """

    results: tuple[IterationResult[Model, Pseudo, Validation], ...]
    stop_reason: StopReason
    empty: Pseudo | None = None

    @property
    def best(self) -> IterationResult[Model, Pseudo, Validation]:
        """The last accepted result: the model to report."""
        return [result for result in self.results if result.accepted][-1]


def self_train(
    split: Split,
    *,
    iterations: int,
    fit: Callable[[tuple[str, ...], Pseudo | None, int], Model],
    pseudo_label: Callable[[Model, tuple[str, ...], int], Pseudo],
    evaluate: Callable[[Model], Validation],
    accept: Callable[
        [
            IterationResult[Model, Pseudo, Validation],
            IterationResult[Model, Pseudo, Validation],
        ],
        bool,
    ],
) -> Outcome[Model, Pseudo, Validation]:
    """Train the supervised baseline, then one student after another, until one is not accepted.

    The teacher of an iteration is the best model so far, which is the last accepted one.

    Args:
        split: ids of labelled and unlabelled items.
        iterations: most students in a row; 0: the supervised baseline alone.
        fit: (labelled ids, pseudo-labels or None, iteration) -> a model.
        pseudo_label: (teacher, unlabelled ids, iteration) -> the selected pseudo-labels. It gets
            ids and never a true label.
        evaluate: scores a model on validation.
        accept: (best so far, student) -> whether the student is the next teacher.
    """
    # Iteration 0: the supervised baseline is the first teacher.
    baseline = fit(split.labelled, None, 0)
    best = IterationResult[Model, Pseudo, Validation](
        0, baseline, None, evaluate(baseline), accepted=True
    )
    results = [best]
    for iteration in range(1, iterations + 1):
        # The teacher labels the pool, and the strategy selects what to believe.
        selected = pseudo_label(best.model, split.unlabelled, iteration)
        if len(selected) == 0:
            return Outcome(tuple(results), "no pseudo-label", empty=selected)
        # A student learns from labels and pseudo-labels.
        student = fit(split.labelled, selected, iteration)
        result = IterationResult(iteration, student, selected, evaluate(student), accepted=False)
        # An accepted student is the next teacher; one that is not ends the loop.
        if not accept(best, result):
            return Outcome((*results, result), "not accepted")
        best = replace(result, accepted=True)
        results.append(best)
    return Outcome(tuple(results), "iterations done")
