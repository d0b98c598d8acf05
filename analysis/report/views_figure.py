"""The figure of both scorings: what averaging over views gives to each strategy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from matplotlib.axes import Axes

from analysis.report.gains import FRAME_INCHES, ROW_INCHES
from analysis.report.plotting import Plot, looks, plotted, word, write_beside
from analysis.runs.arms import Arm, by_arm
from analysis.tables.second import SecondScoring, by_views, paired_scores
from cryossl.evaluation.scorings import scored_by


@dataclass(frozen=True)
class Shift:
    """Mean scores of a strategy at one labelled part by fewer and by more views, in percent."""

    ratio_percent: float
    strategy: str
    fewer: float
    more: float

    @property
    def text(self) -> str:
        """`66.44 to 68.81`."""
        return f"{self.fewer:.2f} to {self.more:.2f}"


def shifts(
    arms: Sequence[Arm], second: SecondScoring, *, metric: str, views: int
) -> tuple[Shift, ...]:
    """A row per strategy and labelled part, over the seeds that have both scores.

    Args:
        arms: by the headline.
        second: the other scoring.
        metric: of the headline.
        views: of the headline.
    """
    fewer, more = by_views(arms, second, metric=metric, views=views)
    rows = []
    for ratio, strategy, _ in by_arm(arms):
        pairs = paired_scores(ratio, (fewer, strategy), (more, strategy))
        if pairs:
            means = (100 * fmean(scores) for scores in zip(*pairs.values(), strict=True))
            rows.append(Shift(ratio, strategy, *means))
    return tuple(rows)


def views_figure(arms: Sequence[Arm], second: SecondScoring, *, metric: str, views: int) -> Plot:
    """A row per strategy: its mean score by fewer and by more views, on one scale."""
    rows = shifts(arms, second, metric=metric, views=views)
    styles = looks(list(dict.fromkeys(row.strategy for row in rows)))
    panels = {
        ratio: [row for row in rows if row.ratio_percent == ratio]
        for ratio in sorted({row.ratio_percent for row in rows})
    }
    scores = [score for row in rows for score in (row.fewer, row.more)] or [0.0]
    margin = 0.05 * (max(scores) - min(scores)) or 0.5
    scale = min(scores) - margin, max(scores) + margin
    fewest, most = sorted((views, second.views))
    title = f"{word(scored_by(metric, 1))} by {_count(fewest)} and by {_count(most)}"

    def draw(axes: Axes, ratio: float) -> None:
        for place, row in enumerate(panels[ratio]):
            colour, marker = styles[row.strategy]
            axes.plot((row.fewer, row.more), (place, place), color=colour, linewidth=2, alpha=0.5)
            for at, fill in ((row.fewer, "white"), (row.more, colour)):
                axes.plot(
                    at, place, marker, markersize=8, markerfacecolor=fill, markeredgecolor=colour
                )
            write_beside(axes, place, row.text)
        names = [row.strategy for row in panels[ratio]]
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=scale, ylim=(len(names) - 0.5, -0.5))
        axes.set_xlabel(f"{word(scored_by(metric, 1))} (%)" if ratio == max(panels) else "")

    plot = plotted(
        "views",
        title,
        f"Means over seeds. Hollow: {_count(fewest)}, filled: the mean of {_count(most)}. What the "
        "baseline gains by averaging, a strategy does not have to teach it.",
        list(panels),
        draw,
        lacking="no finished arm has both scores",
        height={
            ratio: FRAME_INCHES + ROW_INCHES * max(2, len(here)) for ratio, here in panels.items()
        },
        legend=False,
    )
    said = (f"{row.strategy} at {row.ratio_percent:g}%: {row.text}" for row in rows)
    return replace(plot, alt="; ".join(said))


def _count(views: int) -> str:
    return "one view" if views == 1 else f"{views} views"
