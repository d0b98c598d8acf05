"""Pictures of predictions with their errors, and of pseudo-labels with their quality.

The colours of errors differ in lightness too, so they stay apart in grey print. What is not scored
is grey and hatched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from cryossl.data.labels import IGNORE, PARTICLE, LabelMap
from cryossl.data.tiling import micrograph_of
from cryossl.evaluation.answer import Found
from cryossl.evaluation.metrics import Counts, audit
from cryossl.evaluation.scores import Scored
from cryossl.evaluation.scorings import EIGHT, WORDS
from cryossl.pages import palette
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.selection import Assessment
from cryossl.selftraining.models import Predictor
from cryossl.selftraining.steps import Experiment

Colour = tuple[int, int, int]
Rgb = UInt8[np.ndarray, "rows columns 3"]
AnyRgb = UInt8[np.ndarray, "_ _ 3"]  # of several, each has a size of its own
Mask = Bool[np.ndarray, "height width"]

BLUE: Colour = palette.rgb(palette.BLUE)
YELLOW: Colour = palette.rgb(palette.YELLOW)
VERMILLION: Colour = palette.rgb(palette.VERMILLION)
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = BLUE, YELLOW, VERMILLION
MASK = BLUE
HATCH: Colour = (200, 200, 200)
VEIL = 120
CURVES_INCHES, CURVES_DPI = (7.0, 4.2), 110
PAPER: Colour = (24, 24, 24)
INK: Colour = (235, 235, 235)

OPACITY = 0.7
HATCH_PERIOD_PX = 8
LINE_PX = 16
GAP_PX = 4
FONT_PX = 12
LEAST_WIDTH_PX = 480
"""Of a picture of predictions, so that its legend is whole."""
ERRORS = (
    ("true positive", TRUE_POSITIVE),
    ("false positive", FALSE_POSITIVE),
    ("false negative", FALSE_NEGATIVE),
    ("not scored", HATCH),
)


@dataclass(frozen=True)
class PseudoLabelExample:
    """One pseudo-label to show: the picture, its label map, and the terms of its quality."""

    name: str
    picture: UInt8[np.ndarray, "height width"]
    label_map: LabelMap
    assessment: Assessment


def prediction_picture(
    picture: UInt8[np.ndarray, "height width"],
    truth: LabelMap,
    probabilities: UInt8[np.ndarray, "height width"],
    *,
    threshold8: int,
    name: str,
    side_px: int,
    pixel_size_angstrom: float | None = None,
) -> Rgb:
    """Image | truth | prediction | errors, between two strips of words.

    Above stand the name and the pixel scores at p8 >= threshold8, below a scale bar and the legend.
    Each panel is `side_px` wide or high, whichever side is longer; pictures are reduced but never
    enlarged. Prediction is shown everywhere; errors only where the truth is valid, its IGNORE
    pixels are veiled and hatched. The scale bar is in nm if the size of a pixel is known, else in
    px of the picture.
    """
    predicted, there, ignored = probabilities >= threshold8, truth == PARTICLE, truth == IGNORE
    grey = _contrast(_reduce(picture.astype(np.float32), side_px))
    panels = [
        _paint(grey, []),
        _hatch(_paint(grey, [(there, MASK)]), ignored),
        _paint(grey, [(predicted, MASK)]),
        _hatch(
            _paint(
                grey,
                [
                    (predicted & there, TRUE_POSITIVE),
                    (predicted & ~there & ~ignored, FALSE_POSITIVE),
                    (~predicted & there, FALSE_NEGATIVE),
                ],
            ),
            ignored,
        ),
    ]
    scores = audit(predicted.astype(np.uint8), truth).scores()
    numbers = "  ".join(
        f"{word} {_percent(value)}"
        for word, value in (
            ("F1", scores.f1),
            ("precision", scores.precision),
            ("recall", scores.recall),
        )
    )
    width = max(LEAST_WIDTH_PX, sum(panel.shape[1] for panel in panels) + 3 * GAP_PX)
    above, below = _Strip(width, lines=2), _Strip(width, lines=1)
    above.text(0, 0, f"{numbers}  at p >= {threshold8 / 255:.3f}   {name}")
    step = panels[0].shape[1] + GAP_PX
    for place, title in enumerate(("image", "truth", "prediction", "errors")):
        above.text(place * step, 1, title, width_px=step)
    length, text = scale_bar(
        picture.shape[1], shown_px=grey.shape[1], pixel_size_angstrom=pixel_size_angstrom
    )
    below.legend(below.bar(length, text), 0, ERRORS)
    return _stack([above.pixels(), _beside(panels), below.pixels()])


def scale_bar(
    width_px: int, *, shown_px: int, pixel_size_angstrom: float | None
) -> tuple[int, str]:
    """Length in shown px and label of a scale bar.

    It stands for the longest of 1, 2 or 5 times a power of ten that is at most a third of the
    picture, and for one unit at least.

    Args:
        width_px: of the picture.
        shown_px: how wide it is drawn.
        pixel_size_angstrom: of a pixel of the picture; None: the bar is in px.
    """
    unit, per_px = ("px", 1.0) if pixel_size_angstrom is None else ("nm", pixel_size_angstrom / 10)
    most = max(1.0, width_px * per_px / 3)
    power = 10.0 ** math.floor(math.log10(most))
    size = max(step for step in (1, 2, 5) if step * power <= most) * power
    return max(1, round(size / per_px * shown_px / width_px)), f"{size:g} {unit}"


def pseudo_label_sheet(
    best: Sequence[PseudoLabelExample], worst: Sequence[PseudoLabelExample], *, side_px: int
) -> Rgb:
    """The best pseudo-labels on the left, the worst on the right, each above its quality terms.

    PARTICLE is coloured, doubtful (IGNORE) pixels are hatched. Raises ValueError if there is
    nothing to show.
    """
    if not best and not worst:
        raise ValueError("there is no pseudo-label to draw")
    columns = [
        _column(title, examples, side_px)
        for title, examples in (("best", best), ("worst", worst))
        if examples
    ]
    return _beside(columns, gap_px=4 * GAP_PX)


def worst_median_best(counts: Mapping[str, Counts]) -> dict[str, str]:
    """`worst`, `median`, `best` -> the micrograph with that F1; ties go by id.

    A micrograph whose F1 is undefined is left out.

    Empty if no F1 is defined. With fewer than three micrographs one may have several places.
    """
    exact = {item: count.exact_f1() for item, count in counts.items()}
    ranked = [
        item for _, item in sorted((f1, item) for item, f1 in exact.items() if f1 is not None)
    ]
    if not ranked:
        return {}
    return {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}


class _Strip:
    """A dark strip of text lines."""

    def __init__(self, width_px: int, *, lines: int) -> None:
        self._image = Image.new("RGB", (width_px, lines * LINE_PX), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(FONT_PX)

    def text(self, x_px: int, line: int, text: str, *, width_px: int | None = None) -> None:
        """Write, shortened in the middle to what fits."""
        room = (self._image.width - x_px if width_px is None else width_px) - 4
        shown, kept = text, len(text)
        while kept > 1 and self._draw.textlength(shown, font=self._font) > room:
            kept -= 1
            shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        self._draw.text((x_px + 2, line * LINE_PX + 1), shown, fill=INK, font=self._font)

    def bar(self, length_px: int, text: str) -> int:
        """Draw a scale bar at the left of the first line; returns where its label ends, in px."""
        self._draw.rectangle((2, 6, 1 + length_px, 9), fill=INK)
        self._draw.text((6 + length_px, 1), text, fill=INK, font=self._font)
        return 22 + length_px + int(self._draw.textlength(text, font=self._font))

    def legend(self, x_px: int, line: int, entries: Sequence[tuple[str, Colour]]) -> None:
        """A coloured square before each word."""
        for word, colour in entries:
            top = line * LINE_PX + 4
            self._draw.rectangle((x_px + 2, top, x_px + 10, top + 8), fill=colour)
            self._draw.text((x_px + 14, line * LINE_PX + 1), word, fill=INK, font=self._font)
            x_px += 22 + int(self._draw.textlength(word, font=self._font))

    def pixels(self) -> Rgb:
        """The strip as drawn."""
        return np.asarray(self._image)


def _column(title: str, examples: Sequence[PseudoLabelExample], side_px: int) -> Rgb:
    heading = _Strip(2 * side_px + GAP_PX, lines=1)
    heading.text(0, 0, title)
    return _stack([heading.pixels(), *(_cell(example, side_px) for example in examples)])


def _cell(example: PseudoLabelExample, side_px: int) -> Rgb:
    grey = _contrast(_reduce(example.picture.astype(np.float32), side_px))
    labels = _hatch(
        _paint(grey, [(example.label_map == PARTICLE, MASK)]), example.label_map == IGNORE
    )
    found = example.assessment
    caption = _Strip(2 * side_px + GAP_PX, lines=3)
    caption.text(0, 0, example.name)
    caption.text(
        0,
        1,
        f"quality {found.quality:.3f}  confidence {found.mean_confidence:.3f}  "
        f"balance {found.balance:.3f}",
    )
    caption.text(
        0,
        2,
        f"particle {found.particle_confidence:.3f}  background {found.background_confidence:.3f}  "
        f"ratio {_percent(found.particle_ratio)}%  ignored {_percent(found.ignored_fraction)}%",
    )
    return _stack([_beside([_paint(grey, []), labels]), caption.pixels()])


def _reduce(
    picture: Float32[np.ndarray, "height width"], side_px: int
) -> Float32[np.ndarray, "rows columns"]:
    """Box average to at most side_px on the longer side; as it is if it is no larger."""
    height, width = picture.shape
    scale = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced: Float32[np.ndarray, "rows columns"] = np.asarray(
        Image.fromarray(picture).resize(size, Image.Resampling.BOX), dtype=np.float32
    )
    return reduced


def _contrast(grey: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "rows columns"]:
    """Stretch the middle 98% of the grey values over 0..255, for display only.

    A constant picture becomes mid grey.
    """
    low, high = np.percentile(grey, [1, 99])
    if high <= low:
        return np.full_like(grey, 128)
    stretched: Float32[np.ndarray, "rows columns"] = np.interp(grey, [low, high], [0, 255]).astype(
        np.float32
    )
    return stretched


def _paint(grey: Float32[np.ndarray, "rows columns"], layers: Sequence[tuple[Mask, Colour]]) -> Rgb:
    """Tint a grey picture by the share of each mask in a pixel, so that thin parts stay visible."""
    colours: Float32[np.ndarray, "rows columns 3"] = np.repeat(grey[:, :, None], 3, axis=2)
    for mask, colour in layers:
        share = OPACITY * _reduce(mask.astype(np.float32), max(grey.shape))[:, :, None]
        colours = colours * (1 - share) + share * np.array(colour, dtype=np.float32)
    painted: Rgb = np.rint(colours).astype(np.uint8)
    return painted


def _hatch(colours: Rgb, mask: Mask) -> Rgb:
    """A grey veil with diagonal lines where most of a pixel is in the mask."""
    rows, columns = np.indices(colours.shape[:2])
    covered = _reduce(mask.astype(np.float32), max(colours.shape[:2])) > 0.5
    hatched = colours.copy()
    hatched[covered] = colours[covered] // 4 + np.uint8(3 * VEIL // 4)
    hatched[covered & ((rows + columns) % HATCH_PERIOD_PX < 2)] = HATCH
    return hatched


def _beside(pictures: Sequence[AnyRgb], *, gap_px: int = GAP_PX) -> Rgb:
    """Pictures from left to right, aligned at the top, on dark paper."""
    return _place(pictures, gap_px=gap_px, axis=1)


def _stack(pictures: Sequence[AnyRgb]) -> Rgb:
    """Pictures from top to bottom, aligned at the left, on dark paper."""
    return _place(pictures, gap_px=0, axis=0)


def _place(pictures: Sequence[AnyRgb], *, gap_px: int, axis: int) -> Rgb:
    along = sum(picture.shape[axis] for picture in pictures) + gap_px * (len(pictures) - 1)
    across = max(picture.shape[1 - axis] for picture in pictures)
    sheet: Rgb = np.empty((along, across, 3) if axis == 0 else (across, along, 3), dtype=np.uint8)
    sheet[:] = PAPER
    start = 0
    for picture in pictures:
        end = start + picture.shape[axis]
        if axis == 0:
            sheet[start:end, : picture.shape[1]] = picture
        else:
            sheet[: picture.shape[0], start:end] = picture
        start = end + gap_px
    return sheet


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{100 * share:.1f}"


SIDE_PX = 384
SHOWN = 4


def prediction_pictures(
    experiment: Experiment, model: Predictor, scored: Scored
) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """`worst`, `median`, `best` validation micrograph -> its picture with truth and errors."""
    counts = dict(
        zip(
            scored.validation.ids,
            scored.validation.micrograph_counts(scored.threshold8),
            strict=True,
        )
    )
    places = worst_median_best(counts)
    maps = dict(experiment.probabilities(model, sorted(set(places.values()))))
    return {
        place: prediction_picture(
            experiment.store.picture(name),
            experiment.store.truth(name, border=True),
            maps[name],
            threshold8=scored.threshold8,
            name=name,
            side_px=SIDE_PX,
            pixel_size_angstrom=_pixel_size(experiment, name),
        )
        for place, name in places.items()
    }


def _pixel_size(experiment: Experiment, name: str) -> float | None:
    """Of a pixel of the store, in Angstrom, if that of the micrograph is known."""
    stored = experiment.store.micrographs[name]
    original = stored.pixel_size_angstrom
    return original / stored.scale if original else None


def curves_picture(found: Sequence[Found]) -> AnyRgb:
    """Test F1 (%) of the headline's scoring by iteration, a curve per strategy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=CURVES_INCHES, dpi=CURVES_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=palette.LINES)
    for one in found:
        known = {step: 100 * f1 for step, f1 in one.curve.items() if f1 is not None}
        axes.plot(list(known), list(known.values()), marker="o", label=one.strategy)
    last = max((step for one in found for step in one.curve), default=0)
    by = f" by {WORDS[EIGHT]}" if any(one.views == EIGHT for one in found) else ""
    axes.set_xticks(range(last + 1))
    axes.set(xlabel="iteration (0 = supervised baseline)", ylabel=f"test F1{by} (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return np.asarray(Image.open(stream).convert("RGB"))


def selection_sheet(experiment: Experiment, selected: Selected) -> UInt8[np.ndarray, "_ _ 3"]:
    """The best and the worst selected pseudo-labels with the terms of their quality."""
    ordered = sorted(selected.ids, key=lambda item: (-selected.assessments[item].quality, item))
    best = ordered[:SHOWN]
    worst = [item for item in ordered[-SHOWN:] if item not in best]
    return pseudo_label_sheet(
        [_example(experiment, selected, item) for item in best],
        [_example(experiment, selected, item) for item in worst],
        side_px=SIDE_PX // 2,
    )


def _example(experiment: Experiment, selected: Selected, item: str) -> PseudoLabelExample:
    micrograph = micrograph_of(item)
    return PseudoLabelExample(
        item,
        experiment.pool.cut(item, experiment.store.picture(micrograph)),
        experiment.pool.cut(item, selected.labels(micrograph)),
        selected.assessments[item],
    )
