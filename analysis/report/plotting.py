"""How figures look: colours and markers, one panel per labelled part, PNG and SVG.

Every figure of the report is made with it; `report --log` and the documentation take those files.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cryossl.evaluation.scorings import plain
from cryossl.pages.palette import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
)

# Yellow is missing: it is hard to see on white paper.
_FIXED = {
    "supervised": (BLACK, "X"),
    "supervised_long": (ORANGE, "D"),
    "supervised_noise": (GREY, "d"),
    "ensemble": (GREY, "*"),
    "full": (GREEN, "p"),
    "naive": (VERMILLION, "s"),
    "class_balanced": (BLUE, "o"),
}
# The colours that no usual strategy has come first.
_OTHERS = (
    (PURPLE, "v"),
    (SKY, "P"),
    (GREEN, "^"),
    (ORANGE, "<"),
    (BLACK, ">"),
    (GREEN, "h"),
    (PURPLE, "d"),
)

FURTHER = ("cost", "calibration", "quality")
Point = tuple[float, float]
Key = TypeVar("Key", float, str)
WIDTH_INCHES = 5.2  # 374 pt: about a phone's width, so that 9 pt stay readable there
PANEL_INCHES = 3.0
# SVG holds paths instead of text, so it needs no fonts. With a fixed salt the same data give the
# same file.
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.fonttype": "path",
    "svg.hashsalt": "cryossl",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "text.usetex": False,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """One figure of a report; if `figure` is None, `reason` says what data it lacks.

    `alt` says what it shows to a reader who cannot see it. A further one is for readers who ask
    for more.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    reason: str = ""
    alt: str = ""

    @property
    def further(self) -> bool:
        """Whether a page shows it on demand only."""
        return self.name in FURTHER


def looks(strategies: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Strategy -> (colour, marker); the usual ones always look the same."""
    free = iter(_OTHERS * (1 + len(strategies) // len(_OTHERS)))
    return {name: _FIXED[name] if name in _FIXED else next(free) for name in strategies}


def plotted(
    name: str,
    title: str,
    caption: str,
    keys: Sequence[Key],
    draw: Callable[[Axes, Key], None],
    *,
    lacking: str,
    height: float | Mapping[Key, float] = PANEL_INCHES,
    legend: bool = True,
) -> Plot:
    """A figure with its panels one below the other, and one legend at the end.

    Args:
        name: of the plot, for files.
        title: of the plot.
        caption: of the plot.
        keys: what each panel shows, its labelled part in percent or its title; without any there
            is no figure.
        draw: called with the axes of each panel and its key.
        lacking: why there is no figure, if there is none.
        height: of each panel, in inches.
        legend: whether a legend is drawn.
    """
    if not keys:
        return Plot(name, title, caption, None, lacking)
    with mpl.rc_context(STYLE):
        heights = [height[key] if isinstance(height, Mapping) else height for key in keys]
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.4), layout="constrained")
        grid = figure.subplots(len(keys), 1, squeeze=False, height_ratios=heights)
        for key, axes in zip(keys, grid[:, 0], strict=True):
            axes.set_title(key if isinstance(key, str) else f"{key:g}% labelled")
            draw(axes, key)
        if legend:
            handles = {
                label: handle
                for axes in grid[:, 0]
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            figure.legend(
                handles.values(),
                handles.keys(),
                loc="outside lower center",
                ncols=min(3, max(1, len(handles))),
            )
    return Plot(name, title, caption, figure)


def thin_line(axes: Axes, points: Sequence[tuple[float, float | None]], colour: str) -> None:
    """A thin line through the points, y a fraction shown in percent; a single point is a dot."""
    known = [(x, 100 * y) for x, y in points if y is not None]
    if known:
        axes.plot(
            *zip(*known, strict=True),
            color=colour,
            linewidth=0.7,
            alpha=0.5,
            marker="." if len(known) == 1 else "",
        )


def write_beside(axes: Axes, row: float, text: str) -> None:
    """Write a text to the right of a panel, at a row of its y axis."""
    axes.text(
        1.02,
        row,
        text,
        transform=axes.get_yaxis_transform(),
        verticalalignment="center",
        fontsize=8,
    )


def short(text: str) -> str:
    """At most 24 letters of a name."""
    return text if len(text) <= 24 else f"{text[:23]}…"


def word(metric: str) -> str:
    """The usual name of a metric."""
    words = {
        "test/f1": "F1",
        "test/recall": "recall",
        "test/precision": "precision",
        "test/particle_f1": "particle F1",
        "test/particle_recall": "particle recall",
        "test/particle_precision": "particle precision",
        "test/particle_ap": "particle average precision",
    }
    known = words.get(plain(metric))
    return metric if known is None else known + " by eight views" * (metric != plain(metric))


def image(figure: Figure, form: str, facts: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """The figure as `png` or `svg`, the same bytes for the same data.

    `facts` are words that a PNG carries with it.
    """
    stream = io.BytesIO()
    nameless: dict[str, str | None] = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format=form, metadata={**nameless, **facts})
    return stream.getvalue()
