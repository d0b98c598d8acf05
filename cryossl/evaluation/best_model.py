"""Which of an experiment's models is used where none is named: the best one on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryossl.evaluation.metrics import Numbers
from cryossl.strategy_names import FULL, without_pseudo_labels

METRICS = (
    "validation/particle_f1_views8",
    "validation/particle_f1",
    "validation/f1_views8",
    "validation/f1",
)
"""What decides: the first of these by which all models that may be chosen were scored.

By eight views first, because a model that was scored so picks so.
"""


@dataclass(frozen=True)
class Best:
    """The chosen model.

    Attributes:
        number: its place in the sequence that was given.
        score: its value of the metric, in [0, 1].
        metric: one of METRICS.
        passed_over: place of a `full` that scored higher, or None.
    """

    number: int
    score: float
    metric: str
    passed_over: int | None


def best_of(models: Sequence[tuple[str, Numbers]], *, fitted: bool) -> Best | None:
    """The best of models given as (strategy, scores); of equals the first.

    Args:
        models: the baseline, the controls and the accepted students of an experiment.
        fitted: whether the scores are of the micrographs that the models learned from, because
            there are no other labels (`validation_from=labelled`). Such a score shows how well a
            model fits its labels, and who learned from nothing else fits them best: students are
            then chosen before models without pseudo-labels.

    Only a model that learned from the labelled part, with or without pseudo-labels, is chosen. The
    control `full` learned from the labels that an experiment hides: it is a ceiling, it exists only
    where everything was labelled by hand before, and it says nothing about a strategy. Whoever
    wants to pick with it names it.

    Returns None if no model may be chosen or none of them is scored.
    """
    honest = [number for number, (strategy, _) in enumerate(models) if strategy != FULL]
    students = [number for number in honest if not without_pseudo_labels(models[number][0])]
    if fitted and students:
        honest = students
    for metric in METRICS:
        scores = [_value(numbers.get(metric)) for _, numbers in models]
        known = {number: score for number, score in enumerate(scores) if score is not None}
        able = [number for number in honest if number in known]
        if able and (able == honest or metric == METRICS[-1]):
            best = max(able, key=lambda number: (known[number], -number))
            higher = [
                number
                for number, (strategy, _) in enumerate(models)
                if strategy == FULL and known.get(number, 0.0) > known[best]
            ]
            return Best(best, known[best], metric, passed_over=next(iter(higher), None))
    return None


def _value(score: float | None) -> float | None:
    """A score; None where it is missing or NaN, as tables have it."""
    return None if score is None or score != score else float(score)
