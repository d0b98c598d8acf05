"""One HTML page of what a model picked: counts, their histogram, and micrographs with picks."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from cryossl.data.images import normalise, resize
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.pages import palette
from cryossl.pages.page import data_uri, render
from cryossl.picking.importing.readings import CLEAR
from cryossl.picking.results import Result

SHOWN = 3
"""Micrographs shown of each kind."""
_LONGEST_PX = 720
_BARS = 24
_TEMPLATE = Path(__file__).with_name("contact_sheet.html.j2")


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
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), outline=palette.rgb(palette.ORANGE)
        )
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
    summary = f"{len(rows):,} micrographs, {int(counts.sum()):,} picks"
    pictures = {
        heading: [
            (row, data_uri("image/jpeg", jpeg))
            for row in chosen
            if (jpeg := picture_of(row)) is not None
        ]
        for heading, chosen in shown(rows).items()
    }
    return render(
        _TEMPLATE,
        title=title,
        facts=facts,
        summary=summary + (f", {counts.mean():.1f} a micrograph." if len(rows) else "."),
        pictures={heading: found for heading, found in pictures.items() if found},
        faults=faults,
        doubtful=[(row.name, row.doubt) for row in rows if row.doubt],
        **_histogram(counts),
    )


def _histogram(counts: np.ndarray) -> dict[str, Any]:
    """Micrographs by their number of picks, as bars of a drawing of 600 by 110."""
    if not len(counts):
        return {"bars": []}
    heights, edges = np.histogram(counts, bins=min(_BARS, max(1, int(np.ptp(counts)) + 1)))
    width, tallest = 600 / len(heights), int(heights.max())
    bars = [
        {
            "x": f"{place * width:.1f}",
            "y": f"{110 - 100 * int(height) / tallest:.1f}",
            "width": f"{width - 1:.1f}",
            "height": f"{100 * int(height) / tallest:.1f}",
            "title": f"{int(height)} micrographs with {low:.0f} to {high:.0f} picks",
        }
        for place, (height, low, high) in enumerate(
            zip(heights, edges[:-1], edges[1:], strict=True)
        )
    ]
    least, most = f"{edges[0]:.0f}", f"{edges[-1]:.0f}"
    alt = f"Histogram of the picks of a micrograph, {least} to {most}"
    return {"bars": bars, "bars_alt": alt, "least": least, "most": most}
