"""Picture files (JPEG, PNG, TIFF, MRC) -> grey arrays, reduced and normalised.

The format follows from the first bytes, never from the name. Rows are in the order of the file: the
first row of an MRC is row 0, so labels drawn on an MRC fit the MRC and labels drawn on a jpg fit
the jpg. An EXIF orientation is not applied, because annotation programs count pixels as they are
stored.
"""

from __future__ import annotations

import io
import logging
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import tifffile
from jaxtyping import Float32, UInt8
from mrcfile.mrcinterpreter import MrcInterpreter
from PIL import Image

from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z, NEUTRAL
from cryossl.errors import DataError, one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".mrc")

_MAD_TO_SIGMA = 1.4826  # standard deviation / median absolute deviation of a normal distribution
_MEAN_DEVIATION_TO_SIGMA = 1.2533  # sqrt(pi / 2), the same for the mean absolute deviation
_MRC_HEADER_BYTES = 1024
_MRC_EXTENDED = slice(92, 96)  # the length of the extended header
_MOST_SAMPLES = 4  # red, green, blue and alpha
_MRC_BITS = {0: 8, 1: 16, 2: 32, 3: 32, 4: 64, 6: 16, 12: 16, 101: 4}  # mode -> bits of a pixel
_MARKS = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_PILLOW_LIMIT = threading.Lock()
_GREY_MODES = ("L", "I;16", "I;16L", "I;16B", "I", "F")

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
                with tifffile.TiffFile(path) as file:
                    return _tiff_size(file, path, max_megapixels)
            case "mrc":
                return _mrc_size(path, max_megapixels)
            case _:
                with _pillow(path, ("JPEG", "PNG")) as picture:
                    return _pillow_size(picture, path, max_megapixels)


def read_picture(path: Path, *, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    """The grey values as stored: 0 to 255 for 8 bits, 0 to 65535 for 16, floats unchanged.

    Colour becomes luma. Raises DataError as `read_size` does, and if the file is damaged or a value
    is not finite.
    """
    with _door(path):
        match _format(path):
            case "tiff":
                picture = _read_tiff(path, max_megapixels)
            case "mrc":
                picture = _read_mrc(path, max_megapixels)
            case _:
                with _pillow(_whole(path), ("JPEG", "PNG")) as opened:
                    _pillow_size(opened, path, max_megapixels)
                    picture = _pillow_grey(opened)
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
        head = file.read(_MRC_HEADER_BYTES)
    for name, marks in _MARKS.items():
        if head.startswith(marks):
            return name
    return "mrc" if head[208:212] == b"MAP " or _is_old_mrc(head, status.st_size) else None


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


def _is_old_mrc(head: bytes, size_bytes: int) -> bool:
    """Whether a file without a mark has the header of an MRC, in either order of bytes.

    MRC files from before 2000 have no mark. Their header begins with sizes and a mode, and the file
    is as long as these say.
    """
    if len(head) < _MRC_HEADER_BYTES:
        return False
    for order in "<>":
        nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
        (extended,) = struct.unpack_from(f"{order}i", head, _MRC_EXTENDED.start)
        bits = _MRC_BITS.get(mode)
        if bits is not None and min(nx, ny, nz) >= 1 and extended >= 0:
            row_bytes = -(-nx * bits // 8)
            if size_bytes >= _MRC_HEADER_BYTES + extended + row_bytes * ny * nz:
                return True
    return False


def _checked_size(
    size: tuple[int, int], frames: int, path: Path, max_megapixels: float
) -> tuple[int, int]:
    height, width = size
    if height < 1 or width < 1:
        raise DataError(
            f"{path}: the picture has no pixels ({height} x {width})", cure="restore the file"
        )
    if frames > 1:
        raise DataError(
            f"{path}: {frames} frames in one file", cure="give the motion-corrected sum alone"
        )
    if height * width > max_megapixels * 1e6:
        raise DataError(
            f"{path}: {height} x {width} px are more than max_megapixels = {max_megapixels:g}",
            cure="raise max_megapixels if the picture is genuine",
        )
    return height, width


def _whole(path: Path) -> io.BytesIO:
    """The file in memory.

    For a file on disk Pillow reserves as many bytes as a chunk declares, before it reads them.
    """
    return io.BytesIO(path.read_bytes())


@contextmanager
def _pillow(source: Path | io.BytesIO, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    # Pillow's own limit (89 Mpx, a global) would refuse valid super-resolution pictures; our limit
    # is checked on the header directly after. Without the lock one thread could restore the value
    # that another one has set.
    with _PILLOW_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            picture = Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with picture:
        yield picture


def _pillow_size(picture: Image.Image, path: Path, max_megapixels: float) -> tuple[int, int]:
    width, height = picture.size
    return _checked_size((height, width), getattr(picture, "n_frames", 1), path, max_megapixels)


def _pillow_grey(picture: Image.Image) -> Float32[np.ndarray, "height width"]:
    grey = picture if picture.mode in _GREY_MODES else picture.convert("L")
    return np.asarray(grey).astype(np.float32)


def _tiff_size(file: tifffile.TiffFile, path: Path, max_megapixels: float) -> tuple[int, int]:
    page: Any = file.pages.first
    # A small file may declare 65,535 samples, and all are decoded at once.
    if page.samplesperpixel > _MOST_SAMPLES:
        raise DataError(
            f"{path}: {page.samplesperpixel} values a pixel", cure="give one grey picture a file"
        )
    return _checked_size(
        (int(page.imagelength), int(page.imagewidth)),
        max(len(file.pages), int(page.imagedepth)),
        path,
        max_megapixels,
    )


def _read_tiff(path: Path, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    with tifffile.TiffFile(path) as file:
        _tiff_size(file, path, max_megapixels)
        page: Any = file.pages.first
        promised = max(page.databytecounts, default=0)
        # tifffile reserves memory for all declared bytes before it reads them.
        if promised > path.stat().st_size:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes where the TIFF promises {promised}",
                cure="restore the file",
            )
        try:
            values = np.asarray(page.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            # LZW and JPEG inside TIFF: Pillow's libtiff reads them, tifffile needs another package.
            with _pillow(_whole(path), ("TIFF",)) as picture:
                return _pillow_grey(picture)
        # 0 is white in such files.
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    grey = _luma(values, path)
    return grey.max() - grey if inverted else grey


def _luma(values: np.ndarray, path: Path) -> Float32[np.ndarray, "height width"]:
    if values.dtype.kind not in "buif":
        raise DataError(
            f"{path}: pixels of type {values.dtype}", cure="give integer or float pixels"
        )
    if values.ndim == 3 and values.shape[-1] in (3, 4):
        # ITU-R 601, the weights Pillow uses for JPEG and PNG.
        return np.asarray(values[..., :3] @ np.array([0.299, 0.587, 0.114]), dtype=np.float32)
    if values.ndim != 2:
        raise DataError(
            f"{path}: an array of shape {values.shape}", cure="give one grey picture a file"
        )
    return values.astype(np.float32)


def _mrc_header(path: Path) -> Any:
    """The header only, because mrcfile reserves memory for an extended header of any length."""
    with path.open("rb") as file:
        head = bytearray(file.read(_MRC_HEADER_BYTES))
    promised, head[_MRC_EXTENDED] = bytes(head[_MRC_EXTENDED]), bytes(4)
    with MrcInterpreter(io.BytesIO(head), permissive=True, header_only=True) as opened:
        header = opened.header
        header.nsymbt = np.frombuffer(promised, header.dtype["nsymbt"])[0]
        return header.copy()


def _mrc_size(path: Path, max_megapixels: float) -> tuple[int, int]:
    header = _mrc_header(path)
    size = _checked_size((int(header.ny), int(header.nx)), int(header.nz), path, max_megapixels)
    mode = int(header.mode)
    pixel_bytes = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}.get(mode)
    if pixel_bytes is None:
        raise DataError(
            f"{path}: MRC mode {mode}", cure="give mode 0, 1, 2, 6 or 12 (integers or floats)"
        )
    expected = _MRC_HEADER_BYTES + max(int(header.nsymbt), 0) + size[0] * size[1] * pixel_bytes
    if path.stat().st_size < expected:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes where the MRC header promises {expected}",
            cure="restore the file",
        )
    return size


def _read_mrc(path: Path, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    size = _mrc_size(path, max_megapixels)
    with mrcfile.open(path, permissive=True) as file:
        if file.data is None:
            raise DataError(f"{path}: the MRC data block is damaged", cure="restore the file")
        return np.asarray(file.data).reshape(size).astype(np.float32)
