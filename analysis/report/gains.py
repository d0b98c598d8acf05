"""The main figure: what each strategy gained over the baseline, with its interval. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from analysis.report.plotting import Plot, looks, plotted, word, write_beside
from analysis.runs.arms import Arm, by_arm
from analysis.runs.counts import ModelCounts
from analysis.stats.contrasts import against_baseline, estimate
from cryossl.evaluation.verdict import SUCCESS_GAIN_POINTS
from cryossl.pages.palette import BLACK

ROW_INCHES = 0.42
FRAME_INCHES = 0.75  # title and axis of a panel


@dataclass(frozen=True)
class Gain:
    """What one strategy gained at one labelled part, in points.

    Attributes:
        ratio_percent: the labelled part.
        strategy: its name.
        seeds: the gain of each seed, one at least.
        interval: estimate, lower and upper bound; None if there is no interval.
        accepted: whether a student was accepted in any seed. If not, the gain is 0 by definition.
    """

    ratio_percent: float
    strategy: str
    seeds: tuple[float, ...]
    interval: tuple[float, float, float] | None
    accepted: bool = True

    @property
    def text(self) -> str:
        """`+1.76 [-0.40, +3.92]`."""
        if not self.accepted:
            return "no student accepted"
        if self.interval is None:
            return f"{sum(self.seeds) / len(self.seeds):+.2f}"
        return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*self.interval)


def gain_rows(
    arms: Sequence[Arm], counts: Mapping[str, ModelCounts], *, metric: str
) -> tuple[Gain, ...]:
    """A row per strategy and labelled part that has a gain; intervals as in the evidence."""
    rows = []
    for ratio, strategy, group in by_arm(arms):
        contrast = against_baseline(group, metric=metric)
        if strategy == "supervised" or not contrast.pairs:
            continue
        interval = estimate(contrast, counts, metric=metric).interval
        rows.append(
            Gain(
                ratio,
                strategy,
                tuple(100 * float(one) for one in contrast.differences),
                interval.points if interval else None,
                accepted=contrast.moved,
            )
        )
    return tuple(rows)


def gains(rows: Sequence[Gain], *, metric: str) -> Plot:
    """A row per strategy: a dot per seed, estimate and interval, and both as numbers.

    One scale for all panels. It fits the dots; an interval that is much wider ends in an arrow.
    """
    styles = looks(list(dict.fromkeys(row.strategy for row in rows)))
    panels = {
        ratio: [row for row in rows if row.ratio_percent == ratio]
        for ratio in sorted({row.ratio_percent for row in rows})
    }
    low, high = _limits(rows)

    def draw(axes: Axes, ratio: float) -> None:
        axes.axvline(0, color=BLACK, linewidth=0.8)
        axes.axvline(SUCCESS_GAIN_POINTS, color="#555555", linewidth=0.8, linestyle="--")
        for place, row in enumerate(panels[ratio]):
            if row.accepted:
                _draw_row(axes, row, place, styles[row.strategy], (low, high))
            write_beside(axes, place, row.text)
        names = [re.sub("([+-])", r"\n\1", row.strategy) for row in panels[ratio]]
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(low, high), ylim=(len(names) - 0.5, -0.5))
        axes.set_xlabel(f"gain in {word(metric)} (points)" if ratio == max(panels) else "")

    plot = plotted(
        "gains",
        f"Gain in {word(metric)} over the baseline",
        "Small: seeds, each against the baseline of the same seed. Large: the estimate with its "
        "95% interval, as in the table of evidence; an arrow where it goes on. "
        f"Dashed: the +{SUCCESS_GAIN_POINTS:g} points that count as success.",
        list(panels),
        draw,
        lacking=f"no finished arm has a gain in {metric}",
        height={
            ratio: FRAME_INCHES + ROW_INCHES * max(2, len(here)) for ratio, here in panels.items()
        },
        legend=False,
    )
    said = (f"{row.strategy} at {row.ratio_percent:g}%: {row.text}" for row in rows)
    return replace(plot, alt="; ".join(said))


def _draw_row(
    axes: Axes, row: Gain, place: int, look: tuple[str, str], limits: tuple[float, float]
) -> None:
    colour, marker = look
    axes.plot(
        row.seeds,
        [place + 0.24] * len(row.seeds),
        marker,
        color=colour,
        markersize=4,
        alpha=0.6,
        markeredgewidth=0,
    )
    if row.interval is None:
        return
    middle, lower, upper = row.interval
    shown = max(lower, limits[0]), min(upper, limits[1])
    axes.plot(shown, [place - 0.1] * 2, color=colour, linewidth=2, solid_capstyle="butt")
    for bound, end, arrow in ((lower, shown[0], "<"), (upper, shown[1], ">")):
        cut = bound != end
        axes.plot(
            end,
            place - 0.1,
            arrow if cut else "|",
            color=colour,
            markersize=7,
            markeredgewidth=0 if cut else 2,
            clip_on=False,
        )
    axes.plot(
        middle, place - 0.1, marker, color=colour, markersize=8, markeredgecolor="white", zorder=3
    )


def _limits(rows: Sequence[Gain]) -> tuple[float, float]:
    """The ends of the scale: of the intervals, but no further from the dots than these spread."""
    dots = [0.0, SUCCESS_GAIN_POINTS, *(gain for row in rows for gain in row.seeds)]
    bounds = [bound for row in rows if row.interval for bound in row.interval]
    spread = max(dots) - min(dots)
    low = max(min(dots) - spread, min([*dots, *bounds]))
    high = min(max(dots) + spread, max([*dots, *bounds]))
    return low - 0.04 * (high - low), high + 0.04 * (high - low)
