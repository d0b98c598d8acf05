"""The figures from counts: precision against recall, and calibration. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes

from analysis.report.plotting import Plot, looks, plotted
from analysis.runs.arms import Arm, by_arm
from analysis.runs.counts import ModelCounts, lacking_text
from cryossl.strategy_names import BASELINE

Histogram = Int64[np.ndarray, "2 256"]
# Strategy, its (colour, marker), histogram and (tp, fp, fn) in px, both summed over seeds.
Pooled = tuple[str, tuple[str, str], Histogram, Int64[np.ndarray, "3"]]
BINS = 10
LEAST_PIXELS = 100  # a bin with fewer is not drawn
LINE_LETTERS = 60  # that fit below a panel
_TOP = 4


def precision_recall(arms: Sequence[Arm], counts: Mapping[str, ModelCounts]) -> Plot:
    """Precision against recall over all thresholds, with the chosen threshold; seeds pooled."""

    def draw(axes: Axes, models: Sequence[Pooled]) -> None:
        least = 1.0
        for strategy, (colour, marker), histogram, (tp, fp, fn) in models:
            recall, precision = _curve(histogram)
            axes.plot(100 * recall, 100 * precision, color=colour, **_line(strategy))
            if tp:
                axes.plot(
                    100 * tp / (tp + fn),
                    100 * tp / (tp + fp),
                    marker,
                    color=colour,
                    markersize=8,
                    markeredgecolor="white",
                    label=strategy,
                    zorder=_TOP,
                )
                least = min(least, tp / (tp + fn), tp / (tp + fp))
        low = max(0.0, 100 * np.floor(10 * (least - 0.15)) / 10)
        _equal_f1(axes, low)
        axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(low, 100), ylim=(low, 100))

    caption = (
        "Test pixels of all seeds together, at every threshold. Dot: the threshold that was "
        "chosen. Dashed: the supervised baseline. Grey: lines of equal F1."
    )
    return _from_counts("precision_recall", "Precision against recall", caption, arms, counts, draw)


def calibration(arms: Sequence[Arm], counts: Mapping[str, ModelCounts]) -> Plot:
    """Share of particle pixels among those predicted with a probability, in ten bins."""

    def draw(axes: Axes, models: Sequence[Pooled]) -> None:
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
        errors = []
        for strategy, (colour, marker), histogram, _ in models:
            said, found, pixels = reliability(histogram)
            error = float(np.sum(pixels * np.abs(said - found)) / pixels.sum())
            shown = pixels >= LEAST_PIXELS
            axes.plot(
                said[shown],
                found[shown],
                marker=marker,
                color=colour,
                markersize=5,
                label=strategy,
                **_line(strategy),
            )
            errors.append(f"{strategy} {100 * error:.1f}%")
        # Below the panel, for inside it a list of many strategies would cover the curves.
        below = fill(f"ECE: {', '.join(errors)}", LINE_LETTERS)
        axes.set(
            xlabel=f"predicted probability\n{below}",
            ylabel="share of particle pixels",
            xlim=(0, 1),
            ylim=(0, 1),
        )

    caption = (
        "Test pixels of all seeds together: of those predicted with a probability, the share that "
        "is particle; on the dotted diagonal the probability is right. Bins under "
        f"{LEAST_PIXELS} px are left out. ECE: mean distance from the diagonal, weighted by "
        "pixels, hence ruled by background."
    )
    return _from_counts("calibration", "Calibration", caption, arms, counts, draw)


def reliability(
    histogram: Histogram,
) -> tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"], Int64[np.ndarray, "_"]]:
    """Mean predicted probability, share of particle pixels, and pixels, of each bin with any."""
    p = np.arange(256) / 255
    bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    every = histogram.sum(axis=0)
    pixels = np.bincount(bins, every, BINS)
    filled = pixels > 0
    said, found = (
        np.bincount(bins, weights, BINS)[filled] / pixels[filled]
        for weights in (every * p, histogram[1])
    )
    return said, found, pixels[filled].astype(np.int64)


def _from_counts(
    name: str,
    title: str,
    caption: str,
    arms: Sequence[Arm],
    counts: Mapping[str, ModelCounts],
    draw: Callable[[Axes, Sequence[Pooled]], None],
) -> Plot:
    """A figure of the final models of each strategy; `draw` is called with those of one ratio.

    Seeds without counts are left out, and strategies whose models are all the baseline.
    """
    found, same = [], []
    for ratio, strategy, group in by_arm(arms):
        done = [arm.final for arm in group if arm.final]
        models = [counts[one.run_id] for one in done if one.run_id in counts]
        if not any(model.histogram.any() for model in models):
            continue
        if strategy != BASELINE and not any(one.iteration for one in done):
            same.append(f"{strategy} at {ratio:g}%")
        else:
            found.append((ratio, strategy, models))
    if same:
        caption += f" Not drawn, for no student was accepted: {', '.join(same)}."
    styles = looks(list(dict.fromkeys(strategy for _, strategy, _ in found)))
    pooled: dict[float, list[Pooled]] = {}
    for ratio, strategy, models in found:
        histogram = np.sum([model.histogram for model in models], axis=0)
        pixels = np.sum([model.counts.sum(axis=0) for model in models], axis=0)
        pooled.setdefault(ratio, []).append((strategy, styles[strategy], histogram, pixels))
    return plotted(
        name,
        title,
        caption,
        list(pooled),
        lambda axes, ratio: draw(axes, pooled[ratio]),
        lacking=lacking_text([arm.final.run_id for arm in arms if arm.final is not None], counts)
        or "no run has counts",
        height=3.6,
    )


def _line(strategy: str) -> dict[str, Any]:
    """The baseline is dashed and on top: others that lie on it would hide it."""
    return (
        {"linewidth": 1.2, "linestyle": "--", "zorder": _TOP - 1}
        if strategy == BASELINE
        else {"linewidth": 1.8}
    )


def _curve(histogram: Histogram) -> tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]:
    """Recall and precision at each threshold at which any pixel is predicted."""
    fp, tp = np.cumsum(histogram[:, ::-1], axis=1).astype(np.float64)
    predicted = tp + fp > 0
    recall = tp[predicted] / max(1.0, tp[-1])
    return recall, tp[predicted] / (tp + fp)[predicted]


def _equal_f1(axes: Axes, low: float) -> None:
    for f1 in range(10 * int(low // 10), 100, 10):
        recall = np.linspace(max(low, f1 / 2 + 0.1, 1), 100, 200)
        precision = f1 * recall / (2 * recall - f1)
        inside = (precision >= low) & (precision <= 100)
        # The label of a line that only touches the corner would cover the numbers of the axes.
        if recall[inside].max(initial=low) > low:
            axes.plot(recall[inside], precision[inside], color="#cccccc", linewidth=0.7, zorder=0)
            axes.annotate(
                f"{f1}",
                (recall[inside][-1], precision[inside][-1]),
                fontsize=7,
                color="#777777",
                ha="right",
            )
