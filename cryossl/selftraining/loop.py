"""Teacher -> pseudo-labels -> student: the loop, on one page. The steps come in as functions."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from cryossl.data.splits import Split
from cryossl.pseudolabels.summary import SelectionSummary

Model = TypeVar("Model")
Validation = TypeVar("Validation")

StopReason = Literal["not accepted", "collapsed", "no pseudo-label", "iterations done"]


@runtime_checkable
class PseudoLabels(Protocol):
    """Pseudo-labels that were selected, and what there is to tell of them."""

    def __len__(self) -> int:
        """How many images were selected."""
        ...

    def summary(self) -> SelectionSummary:
        """What was selected and how."""
        ...


Pseudo = TypeVar("Pseudo", bound=PseudoLabels)
ModelOut = TypeVar("ModelOut", covariant=True)
ModelIn = TypeVar("ModelIn", contravariant=True)
PseudoOut = TypeVar("PseudoOut", covariant=True)
PseudoIn = TypeVar("PseudoIn", contravariant=True)


@dataclass(frozen=True)
class IterationResult(Generic[Model, Validation]):
    """One trained model.

    Iteration 0 is the supervised baseline: always accepted, and without a selection.
    """

    iteration: int
    model: Model
    validation: Validation
    summary: SelectionSummary | None
    accepted: bool


@dataclass(frozen=True)
class Outcome(Generic[Model, Validation]):
    """How the loop ended. `best` is the last accepted result: the model to report.

    `empty`: the summary of the selection that found nothing, if that is why the loop stopped; no
    model belongs to it.
    """

    best: IterationResult[Model, Validation]
    stop_reason: StopReason
    empty: SelectionSummary | None = None


@runtime_checkable
class Fit(Protocol[ModelOut, PseudoIn]):
    """Train a network, from fresh weights, on labelled items and pseudo-labels (None for the baseline)."""

    def __call__(
        self, labelled: tuple[str, ...], pseudo_labels: PseudoIn | None, *, iteration: int
    ) -> ModelOut:
        """The trained model."""
        ...


@runtime_checkable
class PseudoLabel(Protocol[ModelIn, PseudoOut]):
    """Let the teacher label the pool and select what to believe.

    It is given ids, never a true label.
    """

    def __call__(
        self, teacher: ModelIn, unlabelled: tuple[str, ...], *, iteration: int
    ) -> PseudoOut:
        """The selected pseudo-labels."""
        ...


def self_train(
    split: Split,
    *,
    iterations: int,
    fit: Fit[Model, Pseudo],
    pseudo_label: PseudoLabel[Model, Pseudo],
    evaluate: Callable[[Model], Validation],
    accept: Callable[
        [IterationResult[Model, Validation], IterationResult[Model, Validation]], bool
    ],
) -> Generator[IterationResult[Model, Validation], None, Outcome[Model, Validation]]:
    """Yield the supervised baseline, then one result per student, until one is not accepted; return the outcome.

    Every result is yielded as soon as it is known. The teacher of an iteration is the best model so
    far, which is the last accepted one. `evaluate` scores on validation; `accept(best, student)` is
    asked once per student.
    """
    baseline = fit(split.labelled, None, iteration=0)
    best = IterationResult(0, baseline, evaluate(baseline), summary=None, accepted=True)
    yield best
    for iteration in range(1, iterations + 1):
        selected = pseudo_label(best.model, split.unlabelled, iteration=iteration)
        if len(selected) == 0:
            return Outcome(best, "no pseudo-label", empty=selected.summary())
        student = fit(split.labelled, selected, iteration=iteration)
        result = IterationResult(
            iteration, student, evaluate(student), selected.summary(), accepted=False
        )
        if not accept(best, result):
            yield result
            return Outcome(best, "not accepted")
        best = replace(result, accepted=True)
        yield best
    return Outcome(best, "iterations done")


def follow(
    loop: Generator[IterationResult[Model, Validation], None, Outcome[Model, Validation]],
    tell: Callable[[IterationResult[Model, Validation]], None],
) -> Outcome[Model, Validation]:
    """Run the loop to its end, tell each result as it comes, and return the outcome."""
    while True:
        try:
            result = next(loop)
        except StopIteration as end:
            outcome: Outcome[Model, Validation] = end.value
            return outcome
        tell(result)
