"""Evaluations -> the numbers that are tracked: counts are added over micrographs first and divided last. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from cryossl.evaluation import matching
from cryossl.evaluation.metrics import HALF, Counts, best_threshold, counts_at, pooled
from cryossl.evaluation.picking import FULL_SCORE, Picks

WITHOUT_BORDER, WITH_BORDER = 0, 1

Numbers = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Picked:
    """The picks of a model on one micrograph and its true centres, the border band left out of both.

    A pick can be one of the `truths` within `limit_px` of it.
    """

    picks: Picks
    truths: Float64[np.ndarray, "truths 2"]
    limit_px: float


@dataclass(frozen=True)
class Evaluation:
    """Probability histograms, and picks, of one model on some micrographs.

    `histograms[i, b, c, v]` counts the pixels of micrograph i whose true class is c (BACKGROUND,
    PARTICLE) and whose p8 is v; with b = 0 the unlabelled border band is left out, with b = 1 it
    counts as labelled. `picked` is by micrograph too, or empty where particles are not scored.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    histograms: Int64[np.ndarray, "micrographs 2 2 256"]
    picked: tuple[Picked, ...] = ()

    def pooled(self, *, border: int = WITHOUT_BORDER) -> Int64[np.ndarray, "2 256"]:
        """The histogram of all micrographs together."""
        total: Int64[np.ndarray, "2 256"] = self.histograms[:, border].sum(axis=0)
        return total

    def decision_threshold(self) -> int:
        """The p8 from which a pixel is called PARTICLE so that pooled F1 is highest.

        Only ever asked of validation.
        """
        return best_threshold(self.pooled())

    def micrograph_counts(self, threshold8: int) -> tuple[Counts, ...]:
        """True positives, false positives and false negatives of each micrograph, the border left out."""
        return tuple(
            counts_at(histogram, threshold8) for histogram in self.histograms[:, WITHOUT_BORDER]
        )

    @cached_property
    def ranked(self) -> tuple[matching.Ranked, ...]:
        """The picks of each micrograph with the particles they hit; computed when first asked for."""
        return tuple(
            matching.rank(one.picks, one.truths, limit_px=one.limit_px) for one in self.picked
        )

    def pick_threshold(self) -> int:
        """The score of a pick from which pooled particle F1 is highest.

        Only ever asked of validation.
        """
        return matching.best_threshold(self.ranked)

    def particle_counts(self, threshold16: int) -> tuple[Counts, ...]:
        """Particles found, invented and missed on each micrograph; empty where particles are not scored."""
        return tuple(one.counts_at(threshold16) for one in self.ranked)


def scores(evaluation: Evaluation, threshold8: int) -> Numbers:
    """Pixel precision, recall and F1 (percent-free, in [0, 1];

    None where undefined) under the names they are tracked by.
    """
    overall = counts_at(evaluation.pooled(), threshold8).scores()
    numbers: Numbers = {"f1": overall.f1, "precision": overall.precision, "recall": overall.recall}
    numbers["f1_at_half"] = counts_at(evaluation.pooled(), HALF).scores().f1
    numbers["f1_with_border"] = (
        counts_at(evaluation.pooled(border=WITH_BORDER), threshold8).scores().f1
    )
    by_source = source_counts(evaluation, threshold8)
    per_source = {source: counts.scores().f1 for source, counts in by_source.items()}
    defined = [f1 for f1 in per_source.values() if f1 is not None]
    numbers["f1_source_mean"] = sum(defined) / len(defined) if defined else None
    numbers.update({f"f1/{source}": f1 for source, f1 in per_source.items()})
    return numbers


def particle_scores(evaluation: Evaluation, threshold16: int) -> Numbers:
    """Particle precision, recall, F1 and average precision, as `scores`; nothing where particles are not scored."""
    if not evaluation.picked:
        return {}
    counts = evaluation.particle_counts(threshold16)
    found = pooled(counts).scores()
    by_source = _by_source(evaluation.sources, counts)
    return {
        "particle_f1": found.f1,
        "particle_precision": found.precision,
        "particle_recall": found.recall,
        "particle_ap": matching.average_precision(evaluation.ranked),
        **{f"particle_f1/{source}": one.scores().f1 for source, one in by_source.items()},
    }


def source_counts(evaluation: Evaluation, threshold8: int) -> dict[str, Counts]:
    """Source -> counts added over its micrographs, sources in alphabetical order."""
    return _by_source(evaluation.sources, evaluation.micrograph_counts(threshold8))


def _by_source(sources: Sequence[str], counts: Sequence[Counts]) -> dict[str, Counts]:
    totals = {source: Counts(0, 0, 0) for source in sorted(set(sources))}
    for source, one in zip(sources, counts, strict=True):
        totals[source] += one
    return totals


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
