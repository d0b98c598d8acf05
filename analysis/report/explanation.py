"""Where one number of the comparison comes from: runs, counts and formula. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.report.abstract import span
from analysis.runs.arms import Arm, by_arm, reference_name, reference_text
from analysis.runs.counts import ModelCounts
from analysis.stats.bootstrap import FORMULA
from analysis.stats.contrasts import SCORES, against_baseline, counts_behind, estimate
from analysis.tables.comparison import Comparison
from cryossl.errors import ConfigError
from cryossl.evaluation.scorings import plain
from cryossl.strategy_names import BASELINE, without_pseudo_labels

FORMULAS = {
    "test/f1": "F1 = 2 tp / (2 tp + fp + fn)",
    "test/precision": "precision = tp / (tp + fp)",
    "test/recall": "recall = tp / (tp + fn)",
}
FORMULAS |= {
    metric.replace("test/", "test/particle_"): formula for metric, formula in FORMULAS.items()
}


def metric_called(name: str) -> str:
    """`F1` -> `test/f1`; a full name stays as it is."""
    return name if "/" in name else f"test/{name.lower()}"


def explain(comparison: Comparison, *, strategy: str, ratio: float | None) -> str:
    """The runs, counts and formula behind a strategy's score and gain, at one ratio or at each.

    Raises ConfigError for a strategy or ratio without a finished arm.
    """
    arms = [
        arm
        for arm in comparison.arms
        if arm.strategy == strategy and ratio in (None, arm.ratio_percent)
    ]
    if not any(arm.state == "finished" for arm in arms):
        done = (arm for arm in comparison.arms if arm.state == "finished")
        there = sorted({f"{arm.strategy} at {arm.ratio_percent:g}%" for arm in done})
        raise ConfigError(
            f"no finished arm {strategy!r}" + (f" at {ratio:g}%" if ratio is not None else ""),
            cure=f"there are: {', '.join(there)}",
        )
    return "\n".join(_at_ratio(comparison, name, at, group) for at, name, group in by_arm(arms))


def _at_ratio(comparison: Comparison, strategy: str, ratio: float, arms: Sequence[Arm]) -> str:
    metric = comparison.metric
    lines = [f"{metric} of {strategy} at {ratio:g}% labelled", ""]
    if plain(metric) in FORMULAS:
        counted = "particles" if metric.startswith("test/particle_") else "pixels"
        lines += [
            f"{FORMULAS[plain(metric)]}, {counted} of all test micrographs summed first (tp found, "
            "fp invented, fn missed)",
            "",
        ]
    for arm in arms:
        lines += _arm_lines(arm, comparison)
    known = [value for arm in arms if (value := arm.value(metric)) is not None]
    if known:
        plural = "s" if known[1:] else ""
        mean = f"mean over {len(known)} seed{plural} = {np.mean(known):.6f}"
        spread = f", standard deviation {np.std(known, ddof=1):.6f} (n - 1)" if known[1:] else ""
        lines += ["", mean + spread]
    contrast = against_baseline(arms, metric=metric)
    if strategy != "supervised" and contrast.pairs:
        gain = 100 * contrast.differences.mean()
        lines += [
            "",
            f"gain = score - score of {_base(arms, comparison)} of the same seed; mean {gain:+.4f} "
            "points",
        ]
        guess = estimate(contrast, comparison.counts, metric=metric)
        if guess.interval is not None:
            why = f" ({guess.why})" if guess.why else ""
            lines.append(f"95% interval over {guess.method}{why}: {span(guess.interval)}")
        lines.append("formulas: docs/statistics.md")
    return "\n".join(lines) + "\n"


def _arm_lines(arm: Arm, comparison: Comparison) -> list[str]:
    metric = comparison.metric
    if arm.final is None:
        return [f"seed {arm.seed}: {arm.state} ({arm.note}): in no mean"]
    alone = not (arm.final.iteration or without_pseudo_labels(arm.strategy))
    stayed = " (no student was accepted: the supervised baseline)" if alone else ""
    kept = f"iteration {arm.final.iteration}{stayed}"
    lines = [f"seed {arm.seed}: {kept}"]
    models = [("model", arm.final)]
    if arm.reference and arm.reference is not arm.final:
        name = reference_name(arm, comparison.arms)
        models.append(("baseline" if name == BASELINE else name, arm.reference))
    for word, model in models:
        value = model.metrics.get(metric)
        shown = f"{value:.6f}" if value is not None else "not recorded"
        lines.append(
            f"  {word:8} run {model.run_id}: "
            f"{shown}{_counted(comparison.counts.get(model.run_id), metric)}"
        )
    return lines


def _base(arms: Sequence[Arm], comparison: Comparison) -> str:
    """The reference of the gains in words; it is the same for all arms of a ratio."""
    better = [text for arm in arms if (text := reference_text(arm, comparison.arms))]
    return f"{better[0]}," if better else "the baseline"


def _counted(counts: ModelCounts | None, metric: str) -> str:
    rows = None if counts is None or plain(metric) not in SCORES else counts_behind(counts, metric)
    if counts is None or rows is None:
        return ""
    summed = rows.sum(axis=0)
    tp, fp, fn = (int(number) for number in summed)
    above, below = (int(summed @ np.array(weights)) for weights in FORMULA[SCORES[plain(metric)]])
    result = f"{above / below:.6f}" if below else "undefined"
    return (
        f"; tp {tp}, fp {fp}, fn {fn} in {len(counts.ids)} micrographs: {above} / {below} = "
        f"{result}"
    )
