"""What a model scores: from the evaluations of a model to the numbers and counts that are tracked.

Counts are added over micrographs first and divided last. Nothing here reads a file.

- `Evaluation`: what one model predicts on one part of the split, as counts.
- `Scored`: the evaluations on validation and test, with the thresholds chosen on validation.
- `gains`, `accepted_numbers`, `checkpoint_numbers`: numbers that are derived from scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from cryossl.evaluation import matching
from cryossl.evaluation.metrics import HALF, Counts, Numbers, best_threshold, counts_at, pooled
from cryossl.evaluation.picking import FULL_SCORE, Picks

WITHOUT_BORDER, WITH_BORDER = 0, 1

_ACCEPTED = (
    "test/f1",
    "test/precision",
    "test/recall",
    "test/particle_f1",
    "validation/f1",
    "gain/f1",
    "gain/recall",
    "gain/particle_f1",
)
_GAINS = {
    "gain/f1": "test/f1",
    "gain/recall": "test/recall",
    "gain/precision": "test/precision",
    "gain/validation_f1": "validation/f1",
    "gain/particle_f1": "test/particle_f1",
}


@dataclass(frozen=True, eq=False)
class Picked:
    """The picks of a model on one micrograph and the true centres, both without the border band.

    A pick and a true centre can be a pair if they are at most `limit_px` apart.
    """

    picks: Picks
    truths: Float64[np.ndarray, "truths 2"]
    limit_px: float


@dataclass(frozen=True)
class Evaluation:
    """What one model predicts on some micrographs, as histograms of pixels and as picks.

    Attributes:
        ids: of the micrographs.
        sources: of each micrograph.
        histograms: `[i, b, c, v]` counts the pixels of micrograph i with true class c (BACKGROUND,
            PARTICLE) and p8 = v. With b = 0 the unlabelled border band is left out; with b = 1 it
            counts as labelled.
        picked: by micrograph; empty if particles are not scored.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    histograms: Int64[np.ndarray, "micrographs 2 2 256"]
    picked: tuple[Picked, ...] = ()

    def pooled(self, *, border: int = WITHOUT_BORDER) -> Int64[np.ndarray, "2 256"]:
        """The sum of the histograms of all micrographs."""
        total: Int64[np.ndarray, "2 256"] = self.histograms[:, border].sum(axis=0)
        return total

    def decision_threshold(self) -> int:
        """The p8 at which pooled pixel F1 is highest, 1 to 255; used on validation only."""
        return best_threshold(self.pooled())

    def micrograph_counts(self, threshold8: int) -> tuple[Counts, ...]:
        """Pixel counts of each micrograph, without the border band."""
        return tuple(
            counts_at(histogram, threshold8) for histogram in self.histograms[:, WITHOUT_BORDER]
        )

    @cached_property
    def ranked(self) -> tuple[matching.Ranked, ...]:
        """The picks of each micrograph with their hits; computed once, at the first use."""
        return tuple(
            matching.rank(one.picks, one.truths, limit_px=one.limit_px) for one in self.picked
        )

    def pick_threshold(self) -> int:
        """The pick score at which pooled particle F1 is highest; used on validation only."""
        return matching.best_threshold(self.ranked)

    def particle_counts(self, threshold16: int) -> tuple[Counts, ...]:
        """Particle counts of each micrograph; empty if particles are not scored."""
        return tuple(one.counts_at(threshold16) for one in self.ranked)


@dataclass(frozen=True)
class Scored:
    """The evaluations of one model on validation and on test, with its decision thresholds.

    The thresholds are chosen on validation and used on both parts. `threshold8` is that of pixels,
    a p8 from 1 to 255.
    """

    validation: Evaluation
    test: Evaluation
    threshold8: int

    @cached_property
    def pick_threshold16(self) -> int:
        """The lowest score of a pick that counts, 0 to 65,535."""
        return self.validation.pick_threshold()

    def numbers(self) -> Numbers:
        """Scores as `validation/...` and `test/...`; thresholds as probabilities."""
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
        """Integer counts of each micrograph, from which intervals and tests are computed."""
        return {
            "schema": "cryossl-counts/1",
            "threshold8": self.threshold8,
            "pick_threshold16": self.pick_threshold16,
            "validation": self._rows(self.validation),
            "test": self._rows(self.test),
            "test_histogram": self.test.pooled().tolist(),
        }

    def _rows(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        """A row per micrograph; with particle counts if particles are scored."""
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


def scores(evaluation: Evaluation, threshold8: int) -> Numbers:
    """Pixel precision, recall and F1 in [0, 1], pooled and by source; None where undefined."""
    overall = _pooled_counts(evaluation, threshold8).scores()
    by_source = {
        source: counts.scores().f1
        for source, counts in source_counts(evaluation, threshold8).items()
    }
    defined = [f1 for f1 in by_source.values() if f1 is not None]
    return {
        "f1": overall.f1,
        "precision": overall.precision,
        "recall": overall.recall,
        "f1_at_half": _pooled_counts(evaluation, HALF).scores().f1,
        "f1_with_border": _pooled_counts(evaluation, threshold8, border=WITH_BORDER).scores().f1,
        "f1_source_mean": sum(defined) / len(defined) if defined else None,
        **{f"f1/{source}": f1 for source, f1 in by_source.items()},
    }


def particle_scores(evaluation: Evaluation, threshold16: int) -> Numbers:
    """Particle precision, recall, F1 and average precision; empty if particles are not scored."""
    if not evaluation.picked:
        return {}
    counts = evaluation.particle_counts(threshold16)
    overall = pooled(counts).scores()
    by_source = _by_source(evaluation.sources, counts)
    return {
        "particle_f1": overall.f1,
        "particle_precision": overall.precision,
        "particle_recall": overall.recall,
        "particle_ap": matching.average_precision(evaluation.ranked),
        **{f"particle_f1/{source}": one.scores().f1 for source, one in by_source.items()},
    }


def source_counts(evaluation: Evaluation, threshold8: int) -> dict[str, Counts]:
    """Source -> pixel counts of its micrographs together, sources in alphabetical order."""
    return _by_source(evaluation.sources, evaluation.micrograph_counts(threshold8))


def checkpoint_numbers(
    best_on_validation: Evaluation, best_on_test: Evaluation, *, step: int | None
) -> Numbers:
    """`best_step/...`: scores of the weights that were best on validation.

    They are tracked beside the scores of the last step, and have a decision threshold of their own.
    `step` is None for several networks, because each has its own.
    """
    threshold8 = best_on_validation.decision_threshold()
    return {
        "best_step/step": step,
        "best_step/validation_f1": _pooled_counts(best_on_validation, threshold8).scores().f1,
        "best_step/test_f1": _pooled_counts(best_on_test, threshold8).scores().f1,
    }


def gains(student: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> Numbers:
    """`gain/...`: student minus supervised baseline; None where either number is undefined."""
    found: Numbers = {}
    for gain, name in _GAINS.items():
        after, before = student.get(name), baseline.get(name)
        found[gain] = None if after is None or before is None else after - before
    return found


def accepted_numbers(numbers: Mapping[str, float | None]) -> Numbers:
    """`accepted/...`: the numbers of the accepted model under names of their own.

    The last `test/...` of an arm may be those of a student that was rejected.
    """
    return {f"accepted/{name.replace('/', '_')}": numbers.get(name) for name in _ACCEPTED}


def _pooled_counts(
    evaluation: Evaluation, threshold8: int, *, border: int = WITHOUT_BORDER
) -> Counts:
    """Pixel counts of all micrographs together."""
    return counts_at(evaluation.pooled(border=border), threshold8)


def _by_source(sources: Sequence[str], counts: Sequence[Counts]) -> dict[str, Counts]:
    totals = {source: Counts(0, 0, 0) for source in sorted(set(sources))}
    for source, one in zip(sources, counts, strict=True):
        totals[source] += one
    return totals
