"""Everything that is tracked of one trained model, as names and values; docs/tracking.md lists them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryossl.evaluation.metrics import counts_at
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.evaluation.scores import Evaluation, Numbers, particle_scores, scores


@dataclass(frozen=True)
class Scored:
    """A model's evaluations, and the thresholds that validation chose for it: of pixels (p8, 1 to 255), and of picks."""

    validation: Evaluation
    test: Evaluation
    threshold8: int

    @cached_property
    def pick_threshold16(self) -> int:
        """Least score of a pick that counts."""
        return self.validation.pick_threshold()

    def numbers(self) -> Numbers:
        """`validation/...` and `test/...` scores and the thresholds as probabilities."""
        found: Numbers = {"threshold/decision": self.threshold8 / 255}
        if self.validation.picked:
            found["threshold/pick"] = self.pick_threshold16 / FULL_SCORE
        for part, evaluation in (("validation", self.validation), ("test", self.test)):
            numbers = scores(evaluation, self.threshold8) | particle_scores(
                evaluation, self.pick_threshold16
            )
            found.update({f"{part}/{name}": value for name, value in numbers.items()})
        return found

    def counts(self) -> dict[str, Any]:
        """Integer counts per micrograph at the chosen thresholds: what intervals and tests are computed from."""
        return {
            "schema": "cryossl-counts/1",
            "threshold8": self.threshold8,
            "pick_threshold16": self.pick_threshold16,
            "validation": self._rows(self.validation),
            "test": self._rows(self.test),
            "test_histogram": self.test.pooled().tolist(),
        }

    def _rows(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        """A row per micrograph; particles beside pixels where they are scored."""
        rows: list[dict[str, Any]] = [
            {"id": name, "source": source, "tp": counts.tp, "fp": counts.fp, "fn": counts.fn}
            for name, source, counts in zip(
                evaluation.ids,
                evaluation.sources,
                evaluation.micrograph_counts(self.threshold8),
                strict=True,
            )
        ]
        if evaluation.picked:
            for row, counts in zip(
                rows, evaluation.particle_counts(self.pick_threshold16), strict=True
            ):
                row |= {
                    "particle_tp": counts.tp,
                    "particle_fp": counts.fp,
                    "particle_fn": counts.fn,
                }
        return rows


def checkpoint_numbers(
    best_on_validation: Evaluation, best_on_test: Evaluation, *, step: int
) -> Numbers:
    """Scores of the weights that were best on validation, beside those of the last step; its own threshold."""
    threshold8 = best_on_validation.decision_threshold()
    return {
        "best_step/step": step,
        "best_step/validation_f1": counts_at(best_on_validation.pooled(), threshold8).scores().f1,
        "best_step/test_f1": counts_at(best_on_test.pooled(), threshold8).scores().f1,
    }


def accepted_numbers(numbers: Mapping[str, float | None]) -> Numbers:
    """`accepted/...`: what an arm reports.

    Its `test/...` by iteration end with a student that may have been rejected.
    """
    wanted = (
        "test/f1",
        "test/precision",
        "test/recall",
        "test/particle_f1",
        "validation/f1",
        "gain/f1",
        "gain/recall",
        "gain/particle_f1",
    )
    return {f"accepted/{name.replace('/', '_')}": numbers.get(name) for name in wanted}


def gains(student: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> Numbers:
    """Differences to the supervised baseline of the numbers a verdict rests on;

    None where either is undefined.
    """
    wanted = {
        "gain/f1": "test/f1",
        "gain/recall": "test/recall",
        "gain/precision": "test/precision",
        "gain/validation_f1": "validation/f1",
        "gain/particle_f1": "test/particle_f1",
    }
    return {
        gain: _difference(student.get(name), baseline.get(name)) for gain, name in wanted.items()
    }


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
