"""The figures from counts: precision against recall, and calibration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes

from analysis.report.plotting import Plot, looks, panels
from analysis.runs.arms import Arm, by_arm
from analysis.runs.counts import ModelCounts

Histogram = Int64[np.ndarray, "2 256"]
BINS = 10
LEAST_PIXELS = 100  # a bin with fewer is not drawn
LINE_LETTERS = 60  # that fit below a panel


def precision_recall(arms: Sequence[Arm], counts: Mapping[str, ModelCounts]) -> Plot:
    """Precision against recall over all thresholds, with the chosen threshold; seeds pooled."""
    title = "Precision against recall"
    caption = (
        "Test pixels of all seeds together, at every threshold. Dot: the threshold that was "
        "chosen. Grey: lines of "
        "equal F1."
    )
    pooled = _pooled(arms, counts)
    if not pooled:
        return Plot("precision_recall", title, caption, None, "no run has counts")
    styles = looks(list(dict.fromkeys(strategy for _, strategy in pooled)))

    def draw(axes: Axes, ratio: float) -> None:
        least = 1.0
        for (at, strategy), models in pooled.items():
            if at != ratio:
                continue
            colour, marker = styles[strategy]
            recall, precision = _curve(np.sum([model.histogram for model in models], axis=0))
            axes.plot(100 * recall, 100 * precision, color=colour, linewidth=1.5)
            tp, fp, fn = np.sum([model.counts.sum(axis=0) for model in models], axis=0)
            if tp:
                axes.plot(
                    100 * tp / (tp + fn),
                    100 * tp / (tp + fp),
                    marker,
                    color=colour,
                    markersize=8,
                    markeredgecolor="white",
                    label=strategy,
                )
                least = min(least, tp / (tp + fn), tp / (tp + fp))
        low = max(0.0, 100 * np.floor(10 * (least - 0.15)) / 10)
        _equal_f1(axes, low)
        axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(low, 100), ylim=(low, 100))

    return Plot(
        "precision_recall",
        title,
        caption,
        panels(sorted({ratio for ratio, _ in pooled}), draw, height=3.6),
    )


def calibration(arms: Sequence[Arm], counts: Mapping[str, ModelCounts]) -> Plot:
    """Share of particle pixels among those predicted with a probability, in ten bins."""
    title = "Calibration"
    caption = (
        "Test pixels of all seeds together: of those predicted with a probability, the share that "
        "is particle; on the "
        f"diagonal the probability is right. Bins under {LEAST_PIXELS} px are left out. "
        "ECE: mean distance "
        "from the diagonal, weighted by pixels, hence ruled by background."
    )
    pooled = _pooled(arms, counts)
    if not pooled:
        return Plot("calibration", title, caption, None, "no run has counts")
    styles = looks(list(dict.fromkeys(strategy for _, strategy in pooled)))

    def draw(axes: Axes, ratio: float) -> None:
        axes.plot([0, 1], [0, 1], color="#555555", linewidth=0.8, linestyle="--")
        errors = []
        for (at, strategy), models in pooled.items():
            if at == ratio:
                colour, marker = styles[strategy]
                said, found, pixels = reliability(
                    np.sum([model.histogram for model in models], axis=0)
                )
                error = float(np.sum(pixels * np.abs(said - found)) / pixels.sum())
                shown = pixels >= LEAST_PIXELS
                axes.plot(
                    said[shown],
                    found[shown],
                    marker=marker,
                    color=colour,
                    linewidth=1.5,
                    markersize=5,
                    label=strategy,
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

    return Plot(
        "calibration",
        title,
        caption,
        panels(sorted({ratio for ratio, _ in pooled}), draw, height=3.6),
    )


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


def _pooled(
    arms: Sequence[Arm], counts: Mapping[str, ModelCounts]
) -> dict[tuple[float, str], list[ModelCounts]]:
    """(ratio, strategy) -> the counts of its final models; seeds without counts are left out."""
    found = {
        (ratio, strategy): [
            counts[arm.final.run_id] for arm in group if arm.final and arm.final.run_id in counts
        ]
        for ratio, strategy, group in by_arm(arms)
    }
    return {
        key: models
        for key, models in found.items()
        if models and sum(int(one.histogram.sum()) for one in models)
    }


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
