"""When a student becomes the teacher: the note's gate, and a stricter one.

Both compare validation counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from cryossl.errors import DataError
from cryossl.evaluation.metrics import Counts, pooled

RESAMPLES = 4999
LOWER_BOUND_CONFIDENCE = 0.90


def improved(best: Mapping[str, Counts], student: Mapping[str, Counts]) -> bool:
    """Whether the student's pooled F1 is higher, compared exactly.

    An undefined F1 counts as zero; an equal one is not higher.

    Both map validation micrograph -> counts, each at its own model's threshold. Raises ValueError
    unless both score the same micrographs.
    """
    _check_paired(best, student)
    return (pooled(student.values()).exact_f1() or 0) > (pooled(best.values()).exact_f1() or 0)


def confident(
    best: Mapping[str, Counts], student: Mapping[str, Counts], *, rng: np.random.Generator
) -> bool:
    """Whether the student's pooled F1 is higher with 90% confidence.

    Paired percentile bootstrap over validation micrographs (Efron and Tibshirani 1993, ch. 13;
    scipy.stats.bootstrap): the lower bound of the two-sided 80% interval, which is the one-sided
    90% bound, of the F1 difference is above 0. The thresholds are those chosen on all of
    validation; choosing them anew in each resample is not done, so the bound is a little too
    narrow.

    Raises ValueError unless both score the same micrographs, DataError if there are fewer than two.
    """
    _check_paired(best, student)
    if len(best) < 2:
        raise DataError(
            "accept=confident resamples validation micrographs and there is only one",
            cure="use accept=improved, or more validation micrographs",
        )
    ids = sorted(best)
    columns = [
        np.array([getattr(counts[item], name) for item in ids], dtype=np.int64)
        for counts in (best, student)
        for name in ("tp", "fp", "fn")
    ]
    bound = stats.bootstrap(
        columns,
        _f1_difference,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=500,
        confidence_level=LOWER_BOUND_CONFIDENCE,
        alternative="greater",
        method="percentile",
        rng=rng,
    )
    return bool(bound.confidence_interval.low > 0)


def _f1_difference(
    *columns: Int64[np.ndarray, "*shape"], axis: int
) -> Float64[np.ndarray, "*batch"]:
    """Pooled F1 of the student minus that of the best model, over `axis`.

    The columns are tp, fp and fn of the best model, then of the student.
    """
    sums = [np.asarray(column.sum(axis=axis)) for column in columns]
    difference: Float64[np.ndarray, "*batch"] = _f1(*sums[3:]) - _f1(*sums[:3])
    return difference


def _f1(
    tp: Int64[np.ndarray, "*batch"],
    fp: Int64[np.ndarray, "*batch"],
    fn: Int64[np.ndarray, "*batch"],
) -> Float64[np.ndarray, "*batch"]:
    total = 2 * tp + fp + fn
    f1: Float64[np.ndarray, "*batch"] = np.divide(
        2 * tp, total, out=np.zeros(total.shape), where=total > 0
    )
    return f1


def _check_paired(best: Mapping[str, Counts], student: Mapping[str, Counts]) -> None:
    if set(best) != set(student):
        raise ValueError("the two models were not scored on the same micrographs")
