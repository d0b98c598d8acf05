"""One HTML page of what a model picked: counts, their histogram, and micrographs with picks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from cryossl.data.images import normalise, resize
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.picking.importing.readings import CLEAR
from cryossl.picking.results import Result

SHOWN = 3
"""Micrographs shown of each kind."""
_LONGEST_PX = 720
_BARS = 24
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}"
    "figure{display:inline-block;margin:0 1rem 1rem 0;vertical-align:top}img{max-width:22rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f2f2f2}"
    "figcaption{max-width:22rem;font-size:13px;overflow-wrap:anywhere}rect{fill:#4477aa}"
)


@dataclass(frozen=True)
class Row:
    """A micrograph in the sheet: `score` is the mean score of its picks, 0 without any."""

    name: str
    picks: int
    score: float
    contrast: float | None

    @property
    def doubt(self) -> str:
        """Why a person should look at the micrograph; "" if nothing speaks against it."""
        if not self.picks:
            return "no pick"
        if self.contrast is not None and abs(self.contrast) < CLEAR:
            return "the picture shows nothing at its picks"
        return ""


def row_of(name: str, picked: Result, *, picks: int) -> Row:
    """The row of a micrograph of which the best `picks` candidates are picks."""
    scores = picked.picks.scores[:picks]
    mean = float(scores.mean()) / FULL_SCORE if picks else 0.0
    return Row(name, picks, mean, picked.contrast)


def shown(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Heading -> the micrographs to show: the best, median and worst by score, and the doubtful."""
    ranked = sorted((row for row in rows if not row.doubt), key=lambda row: (-row.score, row.name))
    middle = max(0, (len(ranked) - SHOWN) // 2)
    return {
        "Best": ranked[:SHOWN],
        "Median": ranked[SHOWN:-SHOWN][max(0, middle - SHOWN) :][:SHOWN],
        "Worst": ranked[SHOWN:][-SHOWN:],
        "Look at these": sorted(
            (row for row in rows if row.doubt), key=lambda row: (row.contrast or 0.0, row.name)
        )[:SHOWN],
    }


def drawn(
    picture: Float32[np.ndarray, "height width"],
    centres: Float32[np.ndarray, "n 2"],
    *,
    diameter_px: float,
) -> bytes:
    """A JPEG of a picture with a circle at each centre; centres are (y, x) in px of the picture."""
    factor = min(1.0, _LONGEST_PX / max(picture.shape))
    height, width = (max(1, round(side * factor)) for side in picture.shape)
    small = normalise(resize(picture, height_px=height, width_px=width))
    image = Image.fromarray(small).convert("RGB")
    draw = ImageDraw.Draw(image)
    radius = max(2.0, factor * diameter_px / 2)
    for y, x in centres * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(230, 120, 20))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return stream.getvalue()


def page(
    title: str,
    facts: Mapping[str, str],
    rows: Sequence[Row],
    faults: Mapping[str, str],
    picture_of: Callable[[Row], bytes | None],
) -> str:
    """The sheet. `picture_of` gives the JPEG of a row, or None if its file is gone."""
    counts = np.array([row.picks for row in rows], np.int64)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _list(facts),
        f"<p>{len(rows):,} micrographs, {int(counts.sum()):,} picks"
        + (f", {counts.mean():.1f} a micrograph" if len(rows) else "")
        + ".</p>",
        _histogram(counts),
    ]
    for heading, chosen in shown(rows).items():
        figures = [_figure(row, jpeg) for row in chosen if (jpeg := picture_of(row)) is not None]
        if figures:
            parts.append(f"<h2>{heading}</h2>{''.join(figures)}")
    doubtful = [row for row in rows if row.doubt]
    if faults:
        parts.append(f"<h2>Not picked</h2>{_list(faults)}")
    if doubtful:
        parts.append("<h2>Doubtful</h2>" + _list({row.name: row.doubt for row in doubtful}))
    body = "".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _list(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _figure(row: Row, jpeg: bytes) -> str:
    caption = f"{row.name}: {row.picks} picks, mean score {row.score:.2f}" + (
        f"; {row.doubt}" if row.doubt else ""
    )
    source = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="{html.escape(row.name)}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _histogram(counts: np.ndarray) -> str:
    """Micrographs by their number of picks, as an inline drawing."""
    if not len(counts):
        return ""
    heights, edges = np.histogram(counts, bins=min(_BARS, max(1, int(np.ptp(counts)) + 1)))
    width, most = 600 / len(heights), int(heights.max())
    bars = "".join(
        f'<rect x="{place * width:.1f}" y="{110 - 100 * int(height) / most:.1f}" '
        f'width="{width - 1:.1f}" height="{100 * int(height) / most:.1f}">'
        f"<title>{int(height)} micrographs with {low:.0f} to {high:.0f} picks</title></rect>"
        for place, (height, low, high) in enumerate(
            zip(heights, edges[:-1], edges[1:], strict=True)
        )
    )
    return (
        "<h2>Micrographs by number of picks</h2>"
        f'<svg viewBox="0 0 600 130" width="600" role="img">{bars}'
        f'<text x="0" y="126" font-size="12">{edges[0]:.0f}</text>'
        f'<text x="600" y="126" font-size="12" text-anchor="end">{edges[-1]:.0f} picks</text></svg>'
    )
