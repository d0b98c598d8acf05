"""The verdict on an arm: success, partial success or failure, health signs, and next steps.

The criteria are those of a note that counts in percent of pixels and in pseudo-labels at 258
labelled micrographs. Here every bound is a fraction of the target particle ratio or of the labelled
count, so that it holds for other data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from cryossl.strategy_names import BASELINE, BASELINES, fixes_its_count, without_pseudo_labels

Outcome = Literal["success", "partial", "failure", "control", "unknown"]

SUCCESS_GAIN_POINTS = 2.0
PARTIAL_GAIN_POINTS = 1.0
RECALL_LOSS_POINTS = 1.0
HEALTHY_RATIO = (0.75, 1.25)  # "3-5% particles" of 4%
GOOD_RATIO = (0.875, 1.125)  # "3.5-4.5%"
BAD_RATIO = (0.5, 1.5)  # "under 2% or over 6%"
HEALTHY_COUNT = (500 / 258, 4.0)  # "500-1,000 at 258", "2-4:1"
BAD_COUNT = 2000 / 258  # "over 2,000"
# Tolerance, so that a gain of exactly 2.0 points is not below the bound by a rounding error.
SLACK = 1e-9
COUNT = "pseudo-label count"

Metrics = Mapping[str, float | None]
"""Metric name in the tracking store -> value; None, or no entry: not measured."""


@dataclass(frozen=True)
class Measures:
    """The measurements of one arm at one seed; scores, gains and ratios are fractions.

    None means not measured. The gains are over the reference (`reference_of`); `supervised_f1` is
    that of the supervised baseline. The pseudo-labels are those of the
    accepted student, or of the last student if none was accepted. `accepted_iteration` 0 is the
    baseline itself; `rejected_gain_f1` is then the gain of the last student.
    """

    f1: float | None
    supervised_f1: float | None
    gain_f1: float | None
    gain_recall: float | None
    particle_ratio: float | None = None
    target_ratio: float | None = None
    per_labelled: float | None = None
    accepted_iteration: int = 0
    rejected_gain_f1: float | None = None


@dataclass(frozen=True)
class Criterion:
    """One criterion: the wanted and the measured value in words, and whether it is met.

    `short` is the measured value for a short line. `value` is a fraction or a count; `value` and
    `met` are None if nothing was measured.
    """

    name: str
    wanted: str
    measured: str
    short: str
    value: float | None
    met: bool | None


@dataclass(frozen=True)
class Sign:
    """A health sign: good, bad, or neither (None)."""

    name: str
    text: str
    good: bool | None


@dataclass(frozen=True)
class Verdict:
    """The outcome of an arm with one sentence, its criteria, health signs and next steps.

    `remark` says what the criteria cannot show; it is empty if there is nothing.
    """

    outcome: Outcome
    sentence: str
    remark: str
    criteria: tuple[Criterion, ...]
    signs: tuple[Sign, ...]
    next_steps: str
    seeds: int


def measures_of(
    final: Metrics,
    reference: Metrics,
    *,
    supervised: Metrics,
    pseudo: Metrics,
    accepted_iteration: int,
    last_student: Metrics | None = None,
) -> Measures:
    """What one arm measured, from metrics under their names in the tracking store.

    Args:
        final: of the model that the arm reports; empty where there is none yet.
        reference: of the model that gains are counted from (`reference_of`).
        supervised: of the supervised baseline, whichever the reference is.
        pseudo: of the pseudo-labels that the arm reports: those of the accepted student, else of
            the last student, else of the selection that found nothing.
        accepted_iteration: iteration of the reported model; 0: the baseline.
        last_student: of the last student, where none was accepted.
    """
    return Measures(
        f1=_known(final.get("test/f1")),
        supervised_f1=_known(supervised.get("test/f1")),
        gain_f1=_gain(final, reference, "test/f1"),
        gain_recall=_gain(final, reference, "test/recall"),
        particle_ratio=_known(pseudo.get("pseudo/particle_ratio")),
        target_ratio=_known(pseudo.get("pseudo/target_ratio")),
        per_labelled=_known(pseudo.get("pseudo/per_labelled")),
        accepted_iteration=accepted_iteration,
        rejected_gain_f1=_gain(last_student or {}, reference, "test/f1"),
    )


def reference_of(strategy: str, validation_f1: Mapping[str, float | None]) -> str:
    """The baseline that the gain of a strategy is counted from.

    It is the one of `supervised`, `supervised_long` and `supervised_noise` with the highest F1 on
    validation, so that the best baseline is to beat and the test part does not choose it. The gains
    of these three themselves are counted from `supervised`.

    Args:
        strategy: whose gain is counted.
        validation_f1: name of a baseline that was trained -> its F1 on validation; None: undefined.
    """
    if strategy in BASELINES:
        return BASELINE
    scores = {
        name: score for name in BASELINES if (score := _known(validation_f1.get(name))) is not None
    }
    return max(scores, key=lambda name: scores[name], default=BASELINE)


def judge(
    measures: Sequence[Measures],
    *,
    strategy: str,
    ratio_percent: float,
    gain_lower: float | None = None,
    recall_lower: float | None = None,
) -> Verdict:
    """The verdict on one arm, at one seed or over seeds.

    At one seed, the estimates alone decide. Over seeds, "+2 points" also needs `gain_lower` above
    0, and "recall not lower" means `recall_lower` above -1 point.

    Args:
        measures: one per seed that finished.
        strategy: its name. The baseline and the controls have no pseudo-labels. A strategy whose
            definition fixes its number of pseudo-labels has no criterion on that number.
        ratio_percent: labelled part, for the words.
        gain_lower: over several seeds, the lower 95% bound of the mean F1 gain, a fraction.
        recall_lower: likewise of the mean recall gain.
    """
    several = len(measures) > 1
    gain = mean_of(measure.gain_f1 for measure in measures)
    per_labelled = mean_of(measure.per_labelled for measure in measures)
    fixed = fixes_its_count(strategy)
    criteria = (
        _gain_criterion(gain, gain_lower, several=several),
        _recall_criterion(
            mean_of(measure.gain_recall for measure in measures), recall_lower, several=several
        ),
        _ratio_criterion(measures),
        *([] if fixed else [_count_criterion(per_labelled)]),
    )
    if without_pseudo_labels(strategy):
        shown = tuple(replace(criterion, met=None) for criterion in criteria[:2])
        return Verdict("control", _control_sentence(gain), "", shown, (), "", len(measures))
    outcome = _outcome(gain, measures, criteria)
    signs = health(
        mean_of(_relative(measure) for measure in measures), None if fixed else per_labelled, gain
    )
    remark = _rejected(measures)
    sentence = "; ".join(part for part in (_sentence(gain, criteria), remark) if part)
    return Verdict(
        outcome,
        sentence,
        remark,
        criteria,
        signs,
        _next_steps(outcome, measures, ratio_percent),
        len(measures),
    )


def health(
    relative_ratio: float | None, per_labelled: float | None, gain: float | None
) -> tuple[Sign, ...]:
    """The health signs; a sign without a measurement is left out.

    Args:
        relative_ratio: particle ratio of the pseudo-labels / target.
        per_labelled: pseudo-labels per labelled item.
        gain: of F1, a fraction.
    """
    signs = []
    if relative_ratio is not None:
        good, bad = _within(relative_ratio, GOOD_RATIO), not _within(relative_ratio, BAD_RATIO)
        word = (
            "close to the target"
            if good
            else "still imbalanced"
            if bad
            else "somewhat off the target"
        )
        signs.append(
            Sign(
                "particle ratio",
                f"{relative_ratio:.2f} of the target: {word}",
                _mark(good=good, bad=bad),
            )
        )
    if per_labelled is not None:
        good, bad = _within(per_labelled, HEALTHY_COUNT), per_labelled > BAD_COUNT + SLACK
        word = "as intended" if good else "too many, likely diluted" if bad else "outside 2 to 4"
        signs.append(
            Sign(
                "count",
                f"{per_labelled:.1f} pseudo-labels per labelled: {word}",
                _mark(good=good, bad=bad),
            )
        )
    if gain is not None:
        signs.append(Sign("improvement", f"F1 {_points(gain)} points over the baseline", gain > 0))
    return tuple(signs)


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] - SLACK <= value <= bounds[1] + SLACK


def _mark(*, good: bool, bad: bool) -> bool | None:
    return True if good else False if bad else None


def _gain(model: Metrics, reference: Metrics, metric: str) -> float | None:
    mine, base = _known(model.get(metric)), _known(reference.get(metric))
    return None if mine is None or base is None else mine - base


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _relative(measure: Measures) -> float | None:
    if measure.particle_ratio is None or not measure.target_ratio:
        return None
    return measure.particle_ratio / measure.target_ratio


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _gain_criterion(gain: float | None, lower: float | None, *, several: bool) -> Criterion:
    wanted = f"{SUCCESS_GAIN_POINTS:+g} points or more" + (
        ", lower 95% bound above 0" if several else ""
    )
    if gain is None:
        return Criterion("F1 gain", wanted, "not measured", "F1 not measured", None, None)
    met = 100 * gain >= SUCCESS_GAIN_POINTS - SLACK
    text = f"{_points(gain)} points"
    if several:
        met = met and lower is not None and lower > 0
        text += _bound(lower)
    return Criterion("F1 gain", wanted, text, f"F1 {_points(gain)}", gain, met)


def _recall_criterion(gain: float | None, lower: float | None, *, several: bool) -> Criterion:
    wanted = f"lower 95% bound above -{RECALL_LOSS_POINTS:g} point" if several else "not lower"
    if gain is None:
        return Criterion("recall", wanted, "not measured", "recall not measured", None, None)
    met = 100 * gain >= -SLACK
    if several:
        met = lower is not None and 100 * lower > -RECALL_LOSS_POINTS
    text = f"{_points(gain)} points" + (_bound(lower) if several else "")
    return Criterion("recall", wanted, text, f"recall {_points(gain)}", gain, met)


def _bound(lower: float | None) -> str:
    return ", no interval" if lower is None else f", lower bound {_points(lower)}"


def _ratio_criterion(measures: Sequence[Measures]) -> Criterion:
    wanted = "within 25% of the target"
    target = mean_of(measure.target_ratio for measure in measures)
    ratio = mean_of(measure.particle_ratio for measure in measures)
    relative = mean_of(_relative(measure) for measure in measures)
    if target is None or ratio is None or relative is None:
        return Criterion(
            "pseudo-label particle ratio",
            wanted,
            "not measured",
            "particles not measured",
            None,
            None,
        )
    return Criterion(
        "pseudo-label particle ratio",
        wanted,
        f"{100 * ratio:.2f}%, target {100 * target:.2f}%",
        f"particles {100 * ratio:.2f}/{100 * target:.2f}%",
        ratio,
        _within(relative, HEALTHY_RATIO),
    )


def _count_criterion(per_labelled: float | None) -> Criterion:
    wanted = "2 to 4 per labelled"
    if per_labelled is None:
        return Criterion(COUNT, wanted, "not measured", "count not measured", None, None)
    met = _within(per_labelled, HEALTHY_COUNT)
    return Criterion(
        COUNT,
        wanted,
        f"{per_labelled:.2f} per labelled",
        f"count {per_labelled:.1f}:1",
        per_labelled,
        met,
    )


def _outcome(
    gain: float | None, measures: Sequence[Measures], criteria: Sequence[Criterion]
) -> Outcome:
    if gain is None:
        return "unknown"
    relative = mean_of(_relative(measure) for measure in measures)
    if 100 * gain < PARTIAL_GAIN_POINTS - SLACK or (
        relative is not None and relative < BAD_RATIO[0] - SLACK
    ):
        return "failure"
    return "success" if all(criterion.met for criterion in criteria) else "partial"


def _sentence(gain: float | None, criteria: Sequence[Criterion]) -> str:
    if gain is None:
        return "no verdict: no finished run has a test F1 and a baseline"
    start = f"F1 {criteria[0].measured} over the baseline"
    missed = [criterion for criterion in criteria if criterion.met is not True]
    if not missed:
        return f"{start}; every criterion is met"
    first = f", wanted {criteria[0].wanted}" if criteria[0] in missed else ""
    rest = [
        f"{one.name} {one.measured}, wanted {one.wanted}"
        for one in missed
        if one is not criteria[0]
    ]
    return "; ".join([start + first, *rest])


def _rejected(measures: Sequence[Measures]) -> str:
    """The remark if no student was accepted, else an empty text."""
    if not measures or any(measure.accepted_iteration for measure in measures):
        return ""
    gain = mean_of(measure.rejected_gain_f1 for measure in measures)
    tail = f", the last one would have made {_points(gain)} points" if gain is not None else ""
    return "no student was accepted" + tail


def _control_sentence(gain: float | None) -> str:
    return "no pseudo-labels" + (
        f", F1 {_points(gain)} points over the baseline" if gain is not None else ""
    )


def _next_steps(outcome: Outcome, measures: Sequence[Measures], ratio_percent: float) -> str:
    """The next steps in words, by outcome."""
    if outcome == "success":
        seeds = (
            "Run more seeds (6 for a claim, 10 for a paper) before writing that it works"
            if len(measures) < 6
            else "Write it up with its interval and p-value"
        )
        return (
            f"{seeds}. Compare with another picker on the same test part, CryoTransformer for one."
        )
    if outcome == "partial":
        return (
            "Look at the criteria that are not met first. Try other strategies (curriculum "
            "learning, weighted "
            "loss); if it stays so, report a modest benefit, with its interval over seeds."
        )
    if outcome == "failure":
        f1 = mean_of(measure.supervised_f1 for measure in measures)
        supervised = (
            f" ({100 * f1:.1f}% F1 with {ratio_percent:g}% labels)" if f1 is not None else ""
        )
        return (
            f"Report the supervised result{supervised}, keep this run in the ablation table as a "
            "negative result, "
            "and ask when self-training does not help: particle ratio and F1 cap of the "
            "pseudo-labels say where it "
            "broke."
        )
    return "Finish or restart the runs that are missing; the same command resumes them."


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the numbers that are not None; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
