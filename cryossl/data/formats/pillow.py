"""PNG and JPEG files."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import Float32
from PIL import Image

from cryossl.data.formats.grey import checked_size, luma
from cryossl.errors import DataError
from cryossl.system.pillow import opened

FORMATS = ("JPEG", "PNG")

_GREY_MODES = ("L", "I;16", "I;16L", "I;16B", "I", "F")
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # the bytes of a PNG that hold the bits of a sample and the kind


def pillow_size(path: Path, *, max_megapixels: float) -> tuple[int, int]:
    """(height, width) in px, from the header. Raises DataError, and what Pillow raises."""
    with opened(path, FORMATS) as picture:
        return _checked(picture, path, max_megapixels)


def read_pillow(path: Path, *, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    """The grey values of a PNG or JPEG.

    A colour table is applied, alpha is not. PNGs of 1, 2 and 4 bits are spread over 0 to 255.
    Raises DataError, and what Pillow and imagecodecs raise on a damaged file.
    """
    # From memory: for a file on disk Pillow reserves as many bytes as a chunk declares, before it
    # reads them.
    content = path.read_bytes()
    with opened(io.BytesIO(content), FORMATS) as picture:
        _checked(picture, path, max_megapixels)
        if picture.format == "PNG" and content[_PNG_DEPTH] == 16 and content[_PNG_COLOUR]:
            # Pillow would keep only the upper 8 of the 16 bits of a sample.
            values = imagecodecs.png_decode(content)
            return luma(values) if values.shape[2] > 2 else values[..., 0].astype(np.float32)
        if picture.mode in _GREY_MODES:
            return np.asarray(picture).astype(np.float32)
        if picture.mode in ("1", "LA"):
            return np.asarray(picture.convert("L")).astype(np.float32)
        # (299 R + 587 G + 114 B) / 1000, not rounded.
        return np.array(picture.convert("RGB").convert("F"), dtype=np.float32)


def _checked(picture: Image.Image, path: Path, max_megapixels: float) -> tuple[int, int]:
    if picture.mode == "CMYK":
        raise DataError(
            f"{path}: CMYK, whose grey values depend on the inks", cure="convert it to grey"
        )
    width, height = picture.size
    frames = getattr(picture, "n_frames", 1)
    return checked_size((height, width), frames, path, max_megapixels=max_megapixels)
