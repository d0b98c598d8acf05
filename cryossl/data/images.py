"""Picture files (JPEG, PNG, TIFF, MRC) -> grey arrays, reduced and normalised.

The format follows from the first bytes, never from the name. Rows are in the order of the file: the
first row of an MRC is row 0, so labels drawn on an MRC fit the MRC and labels drawn on a jpg fit
the jpg. An orientation (EXIF, TIFF) is not applied, because annotation programs count pixels as
they are stored. docs/data.md has the rules for all other tags; they hold for every packing.
"""

from __future__ import annotations

import logging
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from cryossl.data.formats.mrc import HEADER_BYTES, is_mrc, mrc_size, read_mrc
from cryossl.data.formats.pillow import pillow_size, read_pillow
from cryossl.data.formats.tiff import read_tiff, tiff_size
from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z, NEUTRAL
from cryossl.errors import DataError, one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".mrc")

_MAD_TO_SIGMA = 1.4826  # standard deviation / median absolute deviation of a normal distribution
_MEAN_DEVIATION_TO_SIGMA = 1.2533  # sqrt(pi / 2), the same for the mean absolute deviation
_MARKS = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}

# These decoders warn of faults that are checked here anyway. The filter is set once for the
# process, because pictures are read in threads: `catch_warnings` changes the filters of all
# threads, and two overlapping calls can leave the wrong filters in place.
warnings.filterwarnings("ignore", module=r"(mrcfile|tifffile)(\.|$)")
# A damaged file gives one DataError; tifffile would log a dozen lines beside it.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_size(path: Path, *, max_megapixels: float) -> tuple[int, int]:
    """(height, width) in px, from the header; no pixel is decoded.

    Raises DataError if the file is missing, not a regular file, of another format, empty, larger
    than `max_megapixels`, or holds several frames.
    """
    with _door(path):
        match _format(path):
            case "tiff":
                return tiff_size(path, max_megapixels=max_megapixels)
            case "mrc":
                return mrc_size(path, max_megapixels=max_megapixels)
            case _:
                return pillow_size(path, max_megapixels=max_megapixels)


def read_picture(path: Path, *, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    """The grey values as stored: 0 to 255 for 8 bits, 0 to 65535 for 16, floats unchanged.

    Colour becomes luma. Raises DataError as `read_size` does, and if the file is damaged or a value
    is not finite.
    """
    with _door(path):
        match _format(path):
            case "tiff":
                picture = read_tiff(path, max_megapixels=max_megapixels)
            case "mrc":
                picture = read_mrc(path, max_megapixels=max_megapixels)
            case _:
                picture = read_pillow(path, max_megapixels=max_megapixels)
    bad = picture.size - int(np.count_nonzero(np.isfinite(picture)))
    if bad:
        raise DataError(
            f"{path}: {bad} of {picture.size} pixels are not finite numbers",
            cure="repair the picture or take it out of the data set",
        )
    return picture


def picture_format(path: Path) -> str | None:
    """`jpeg`, `png`, `tiff` or `mrc` by the first bytes of a file, never by its name, else None.

    None also for what is not a regular file. Raises OSError if the file cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return None
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    for name, marks in _MARKS.items():
        if head.startswith(marks):
            return name
    return "mrc" if is_mrc(head, size_bytes=status.st_size) else None


def resize(
    picture: Float32[np.ndarray, "height width"], *, height_px: int, width_px: int
) -> Float32[np.ndarray, "height_px width_px"]:
    """The picture at another size, low-pass filtered before it is subsampled. Not for label maps.

    A reduction by whole numbers is binning (the mean of each block), as cryo-EM programs do it. Any
    other one is Pillow's bilinear filter, whose support grows with the reduction, so that noise
    does not alias. Raises ValueError for a size below 1.
    """
    height, width = picture.shape
    if height_px < 1 or width_px < 1:
        raise ValueError(f"a picture cannot be resized to {height_px} x {width_px} px")
    if (height, width) == (height_px, width_px):
        return picture
    binning = height % height_px == 0 and width % width_px == 0
    method = Image.Resampling.BOX if binning else Image.Resampling.BILINEAR
    resized = Image.fromarray(np.ascontiguousarray(picture)).resize((width_px, height_px), method)
    return np.array(resized, dtype=np.float32)


def normalise(picture: Float32[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Robust z scores as bytes: z = (x - median) / (1.4826 MAD) in [-5, 5], stored as 25.5 (z + 5).

    The result is rounded to 0..255; the median becomes 128. Ice crystals, carbon edges and dead
    pixels give a few percent of a micrograph values many sigma away. They change a mean and a
    standard deviation, and also percentiles if they cover more than the percentile, but hardly the
    median and the median absolute deviation (MAD). 25.5 levels per sigma are finer than the noise.

    If more than half of the pixels are equal, MAD is 0 and the mean absolute deviation is used. A
    constant picture has no signal and becomes 128 everywhere.
    """
    peak = float(np.abs(picture).max())
    # Differences of values beyond 1e30 could overflow float32.
    work = picture / np.float32(peak) if peak > 1e30 else picture.copy()
    work -= np.float32(np.median(work))
    deviation = np.abs(work)
    sigma = _MAD_TO_SIGMA * float(np.median(deviation))
    if sigma == 0:
        sigma = _MEAN_DEVIATION_TO_SIGMA * float(deviation.mean(dtype=np.float64))
    if sigma == 0:
        return np.full(picture.shape, NEUTRAL, dtype=np.uint8)
    # Float64, because a sigma among float32's denormals has an inverse beyond float32.
    z = np.clip(work / np.float64(sigma), -LARGEST_Z, LARGEST_Z)
    return np.rint((z + LARGEST_Z) * LEVELS_PER_Z).astype(np.uint8)


@contextmanager
def _door(path: Path) -> Iterator[None]:
    """Turn every exception of a decoder on a damaged file into one DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    # Decoders raise OSError, ValueError, SyntaxError, struct.error, KeyError and more on damaged
    # input.
    except Exception as error:
        reason = one_line(str(error).replace(str(path), "the file"))[:160] or type(error).__name__
        raise DataError(
            f"{path}: the picture cannot be read ({reason})",
            cure="restore the file or take it out of the data set",
        ) from None


def _format(path: Path) -> str:
    """`jpeg`, `png`, `tiff` or `mrc`. Raises DataError."""
    # Opening a FIFO would block for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path}: not a regular file", cure="take it out of the data set")
    found = picture_format(path)
    if found is not None:
        return found
    if not path.stat().st_size:
        raise DataError(
            f"{path}: the file is empty", cure="restore it or take it out of the data set"
        )
    raise DataError(
        f"{path}: neither JPEG, PNG, TIFF nor MRC by its first bytes",
        cure="restore it, convert it or take it out of the data set",
    )
