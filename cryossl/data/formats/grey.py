"""What all picture formats share: the check of a picture's size, and the grey value of a colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from cryossl.errors import DataError

# ITU-R 601, as in JPEG.
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)


def checked_size(
    size: tuple[int, int], frames: int, path: Path, *, max_megapixels: float, source: str = ""
) -> tuple[int, int]:
    """(height, width) in px if a file holds one picture that is neither empty nor too large.

    `source` says where the number of frames was found, if not in the structure of the file. Raises
    DataError.
    """
    height, width = size
    if height < 1 or width < 1:
        raise DataError(
            f"{path}: the picture has no pixels ({height} x {width})", cure="restore the file"
        )
    if frames > 1:
        raise DataError(
            f"{path}: {frames} frames in one file{source and f', by its {source} metadata'}",
            cure="give the motion-corrected sum alone",
        )
    if height * width > max_megapixels * 1e6:
        raise DataError(
            f"{path}: {height} x {width} px are more than max_megapixels = {max_megapixels:g}",
            cure="raise max_megapixels if the picture is genuine",
        )
    return height, width


def luma(
    values: Shaped[np.ndarray, "height width samples"],
) -> Float32[np.ndarray, "height width"]:
    """0.299 R + 0.587 G + 0.114 B of the first three samples, not rounded."""
    # In float64, so that equal samples give exactly their value.
    grey = np.zeros(values.shape[:2])
    for sample, weight in enumerate(_LUMA_WEIGHTS):
        grey += np.multiply(values[..., sample], weight, dtype=np.float64)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as not finite
        return grey.astype(np.float32)
