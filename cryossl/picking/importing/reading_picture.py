"""One picture of two readings of the same labels, side by side, for a person to decide."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw

from cryossl.data.images import normalise, resize
from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z

SIDE_PX = 1024
_CAPTION_PX = 24
_GAP_PX = 8
_RING = (213, 94, 0)
_SHOWN_Z = 3.0


def draw(
    picture: Float32[np.ndarray, "height width"],
    readings: dict[str, tuple[Float64[np.ndarray, "_ 2"], float]],
) -> bytes:
    """A PNG with the picture once a reading: caption -> centres (y, x) and diameter in px."""
    height, width = picture.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    grey = _grey(resize(picture, height_px=size[0], width_px=size[1]))
    step = size[1] + _GAP_PX
    canvas = Image.new("RGB", (step * len(readings) - _GAP_PX, size[0] + _CAPTION_PX), "white")
    pen = ImageDraw.Draw(canvas)
    for place, (caption, (centres, diameter_px)) in enumerate(readings.items()):
        panel = Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))
        rings = ImageDraw.Draw(panel)
        for y, x in centres * scale:
            radius = diameter_px * scale / 2
            rings.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_RING, width=2)
        canvas.paste(panel, (place * step, _CAPTION_PX))
        pen.text((place * step + 4, 6), caption, fill="black")
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    return stream.getvalue()


def _grey(reduced: Float32[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    z = normalise(reduced).astype(np.float32) / LEVELS_PER_Z - LARGEST_Z
    shown = np.clip((z + _SHOWN_Z) * (255 / (2 * _SHOWN_Z)), 0, 255)
    return np.asarray(shown, dtype=np.uint8)
