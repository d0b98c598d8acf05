"""The figure of a sensitivity: lines over one setting, a heat map over two. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from analysis.report.figures import LEAST_SEEDS, fit_to_lines
from analysis.report.plotting import Plot, looks, plotted, short, word
from analysis.runs.chosen_settings import ChosenSetting, Value, shown_value
from analysis.runs.families import RATIO
from analysis.runs.levels import Level, Series
from analysis.stats.statistics import Interval, seed_interval
from analysis.tables.sensitivity import Sensitivity
from analysis.tables.sensitivity_text import sentences
from cryossl.pages.palette import BLACK, BLUE
from cryossl.strategy_names import without_pseudo_labels

NAME = "sensitivity"
SPREAD = 20  # ratio of the largest value to the smallest from which on an axis is logarithmic
_ALL_RATIOS = "all labelled parts"
_CELL_INCHES = 0.42
_FRAME_INCHES = 1.1  # title, ticks and axis of a heat map
_DARK = 0.6  # share of the scale from which on numbers are white
_BLUES = LinearSegmentedColormap.from_list("blues", ["#dce8f3", BLUE])  # white is "not run"


def sensitivity_figure(found: Sensitivity) -> Plot:
    """Lines with bands for one setting, heat maps for two."""
    plot = _lines(found) if len(found.axes) == 1 else _maps(found)
    return replace(plot, alt=" ".join(sentences(found)))


def _lines(found: Sensitivity) -> Plot:
    """A panel for each labelled part: mean and interval of each strategy over the values."""
    (axis,) = found.axes
    metric, values = found.metric, found.family.values_of(axis)
    places = _places(values)
    panels: dict[str, list[Series]] = {}
    for one in found.series:
        if one.finished(metric):
            panels.setdefault(_panel(one), []).append(one)
    styles = looks([one.strategy for one in found.series])

    def draw(axes: Axes, panel: str) -> None:
        for one in panels[panel]:
            _draw_series(axes, one, places, styles[one.strategy], metric)
        fit_to_lines(axes)
        _mark_default(axes, axis, places)
        if _is_logarithmic(values):
            axes.set_xscale("log")
        ticks = [places[value] for value in values]
        axes.set_xticks(ticks, [short(shown_value(value)) for value in values])
        axes.minorticks_off()
        unit = " (%)" if axis.setting == RATIO else ""
        axes.set(xlabel=f"{axis.name}{unit}", ylabel=f"{word(metric)} (%)")

    return plotted(
        NAME,
        f"{word(metric)} by {axis.name}",
        "Mean of the accepted model over the seeds that all values have; from three seeds on with "
        "a 95% interval (Student's t), cut where it leaves the panel, below with each seed as a "
        "dot. The interval shows how sure the differences between values are: what differs between "
        "seeds at all values alike is taken out (Morey 2008). Dashed: strategies that learn from "
        "labels alone. Without markers: the same numbers at all values. Dotted: the default.",
        list(panels),
        draw,
        lacking=f"no finished arm has {metric}",
    )


def _panel(series: Series) -> str:
    return f"{series.labelled} labelled" if series.labelled else _ALL_RATIOS


def _draw_series(
    axes: Axes,
    series: Series,
    places: dict[Value, float],
    look: tuple[str, str],
    metric: str,
) -> None:
    """The line of a strategy; a level one where all values give the same numbers."""
    colour, marker = look
    levels = series.finished(metric)
    at = np.array([places[level.values[0]] for level in levels])
    scores = [_scores(series, level, metric) for level in levels]
    line: dict[str, Any] = {"linestyle": "--" if without_pseudo_labels(series.strategy) else "-"}
    axes.plot(
        at,
        [float(one.mean()) for one in scores],
        color=colour,
        linewidth=1.2 if series.same else 2.0,
        marker="" if series.same else marker,
        markersize=6,
        markeredgecolor="white",
        label=series.strategy,
        zorder=3,
        **line,
    )
    if series.same:
        return
    known = _intervals(np.array(scores)) if len(series.everywhere(metric)) >= LEAST_SEEDS else []
    if known:
        axes.fill_between(
            at,
            [one.lower for one in known],
            [one.upper for one in known],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        return
    for place, one in zip(at, scores, strict=True):
        axes.plot([place] * len(one), one, ".", color=colour, alpha=0.6, markersize=4)


def _intervals(scores: np.ndarray[Any, np.dtype[np.float64]]) -> list[Interval]:
    """The interval of each value's mean, without what differs between seeds at all values alike.

    Each seed's scores are moved to the common mean; the correction for that is of Morey (2008),
    *Confidence intervals from normalized data*.

    Args:
        scores: values x seeds, in percent.
    """
    values = len(scores)
    if values == 1:
        moved, correction = scores, 1.0
    else:
        moved = scores - scores.mean(axis=0) + scores.mean()
        correction = math.sqrt(values / (values - 1))
    centres = moved.mean(axis=1, keepdims=True)
    found = [seed_interval(one) for one in centres + correction * (moved - centres)]
    return [one for one in found if one is not None]


def _scores(series: Series, level: Level, metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The score of each seed in percent: of seeds that all levels have, or of all if none is.

    While a sweep runs, levels have different seeds; their means would show the seeds' differences.
    """
    done = level.done(metric)
    values = (done[seed].value(metric) for seed in series.everywhere(metric) or sorted(done))
    return np.array([100 * value for value in values if value is not None])


def _places(values: Sequence[Value]) -> dict[Value, float]:
    """Where each value is drawn: numbers at themselves, words one beside the other."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {value: float(value) for value in values if isinstance(value, int | float)}
    return {value: float(place) for place, value in enumerate(values)}


def _is_logarithmic(values: Sequence[Value]) -> bool:
    numbers = list(_places(values).values())
    words = numbers == list(range(len(values))) and not isinstance(values[0], int | float)
    return not words and min(numbers) > 0 and max(numbers) >= SPREAD * min(numbers)


def _mark_default(axes: Axes, axis: ChosenSetting, places: dict[Value, float]) -> None:
    if axis.default in places:
        axes.axvline(
            places[axis.default],
            color="#555555",
            linewidth=0.9,
            linestyle=":",
            label=f"default, {shown_value(axis.default)}",
            zorder=1,
        )


def _maps(found: Sensitivity) -> Plot:
    """A heat map for each strategy and labelled part, the first setting from left to right."""
    panels = {
        _title(one): one for one in found.series if not one.same and one.finished(found.metric)
    }
    across, down = found.axes
    columns, rows = found.family.values_of(across), found.family.values_of(down)

    def draw(axes: Axes, panel: str) -> None:
        _draw_map(axes, panels[panel], columns, rows, found)
        axes.set_xticks(range(len(columns)), [short(shown_value(one)) for one in columns])
        axes.set_yticks(range(len(rows)), [short(shown_value(one)) for one in rows])
        axes.set(xlabel=across.name, ylabel=down.name)

    left_out = [one.name for one in found.series if one.same]
    return plotted(
        NAME,
        f"{word(found.metric)} by {across.name} and {down.name}",
        f"Mean {word(found.metric)} of the accepted model over the seeds that all values have, in "
        "percent; each panel has colours of its own, the darkest is its highest. Framed: the "
        "default values. Empty: not run or not finished."
        + (
            f" Not drawn, for it is the same at all values: {'; '.join(left_out)}." * bool(left_out)
        ),
        list(panels),
        draw,
        lacking="all strategies have the same numbers at all values",
        height=_FRAME_INCHES + _CELL_INCHES * max(2, len(rows)),
        legend=False,
    )


def _title(series: Series) -> str:
    return f"{series.strategy}, {_panel(series)}" if series.labelled else series.strategy


def _draw_map(
    axes: Axes,
    series: Series,
    columns: Sequence[Value],
    rows: Sequence[Value],
    found: Sensitivity,
) -> None:
    means = np.full((len(rows), len(columns)), np.nan)
    for level in series.finished(found.metric):
        across, down = level.values
        place = rows.index(down), columns.index(across)
        means[place] = _scores(series, level, found.metric).mean()
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    axes.imshow(means, cmap=_BLUES, vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for y, x in np.ndindex(*means.shape):
        mean = float(means[y, x])
        if np.isfinite(mean):
            dark = mean - low > _DARK * (high - low) and high > low
            axes.text(
                x,
                y,
                f"{mean:.2f}",
                ha="center",
                va="center",
                color="white" if dark else BLACK,
            )
    across_default, down_default = found.family.default
    if across_default in columns and down_default in rows:
        corner = columns.index(across_default) - 0.5, rows.index(down_default) - 0.5
        axes.add_patch(
            Rectangle(
                corner, 1, 1, fill=False, edgecolor=BLACK, linewidth=2, clip_on=False, zorder=3
            )
        )
