"""TIFF files: what is read, and one grey value for each pixel whatever the packing.

tifffile unpacks all of them. Its arrays have rows and samples as stored; what the tags of the
colours mean is applied here.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Float32, Shaped

from cryossl.data.formats.grey import checked_size, luma
from cryossl.data.formats.stacks import only_page
from cryossl.errors import DataError
from cryossl.system.pillow import opened

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _YCBCR: 3}
_ALPHA = (1, 2)  # associated or not
_PHOTOMETRIC_TAG = 262
_NONE, _CCITT, _LZW, _JPEG, _DEFLATE, _PACKBITS = 1, (2, 3, 4), 5, 7, (8, 32946), 32773
_JPEG_2000, _LZMA, _ZSTD, _WEBP = 34712, 34925, 50000, 50001
_STREAMS = {_JPEG: "JPEG", _JPEG_2000: "JPEG2000", _WEBP: "WEBP"}
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG and JPEG 2000
_PREDICTED = (_LZW, *_DEFLATE, _LZMA, _ZSTD)
_COMPRESSIONS = (_NONE, *_CCITT, _PACKBITS, *_PREDICTED, *_STREAMS)


def tiff_size(path: Path, *, max_megapixels: float) -> tuple[int, int]:
    """(height, width) in px, from the tags. Raises DataError, and what tifffile raises."""
    with tifffile.TiffFile(path) as file:
        page = _page(file, path, max_megapixels)
        return int(page.imagelength), int(page.imagewidth)


def read_tiff(path: Path, *, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    """The grey values of a TIFF.

    Zero-is-white is turned round, a colour table is applied, colour becomes luma; alpha and what
    concerns display alone (orientation, range, response curves, profiles) is not applied. Raises
    DataError, and what tifffile and imagecodecs raise on a damaged file.
    """
    with tifffile.TiffFile(path) as file:
        page = _page(file, path, max_megapixels)
        _check_segments(page, path, max_megapixels)
        samples, _, height, width, _ = page.shaped
        values = page.asarray(squeeze=False)
        # Samples last, however they are packed.
        stored = np.moveaxis(values, 0, -1) if samples > 1 else values[0]
        return _grey(stored.reshape(height, width, -1), page, path)


def _page(file: tifffile.TiffFile, path: Path, max_megapixels: float) -> Any:
    """The page of the one picture, if all its tags are understood. Raises DataError."""
    page, frames, source = only_page(file)
    size = int(page.imagelength), int(page.imagewidth)
    checked_size(size, frames, path, max_megapixels=max_megapixels, source=source)
    _check_packing(page, path)
    _check_samples(page, path)
    return page


def _check_packing(page: Any, path: Path) -> None:
    if page.compression not in _COMPRESSIONS:
        raise DataError(
            f"{path}: TIFF compression {_name(page.compression)}",
            cure="store it uncompressed or with LZW, deflate or Zstandard",
        )
    if page.predictor != 1 and page.compression not in (*_PREDICTED, *_STREAMS):
        raise DataError(
            f"{path}: a TIFF predictor without a compression that uses one, which programs read "
            "differently",
            cure="store it again",
        )
    # Of 17 to 31 bits, programs disagree on the order of the bytes.
    odd = isinstance(page.bitspersample, int) and 16 < page.bitspersample < 32
    if odd or page.dtype is None or page.dtype.kind not in "buif":
        raise DataError(
            f"{path}: pixels of {page.bitspersample} bits in TIFF sample format "
            f"{_name(page.sampleformat)}",
            cure="give integers of 1 to 16, 32 or 64 bits, or floats of 16, 32 or 64",
        )


def _check_samples(page: Any, path: Path) -> None:
    photometric = _photometric(page)
    colours = _COLOURS.get(photometric)
    if colours is None:
        raise DataError(
            f"{path}: TIFF colours of the kind {_name(page.photometric)}, which have no grey value "
            "of their own",
            cure="convert it to grey",
        )
    if photometric == _YCBCR and page.compression != _JPEG:
        raise DataError(f"{path}: YCbCr in a TIFF without JPEG", cure="convert it to grey")
    if isinstance(page.bitspersample, tuple):
        raise DataError(
            f"{path}: samples of {page.bitspersample} bits", cure="give all the same number"
        )
    # Of colours what follows is no colour. Of grey values it may be another picture.
    extra = tuple(int(kind) for kind in page.extrasamples)
    beyond = page.samplesperpixel - colours
    if not (beyond == 0 or (beyond == 1 and (colours == 3 or (extra and extra[0] in _ALPHA)))):
        raise DataError(
            f"{path}: {page.samplesperpixel} values a pixel", cure="give one grey picture a file"
        )


def _photometric(page: Any) -> int:
    """The kind of colours. A file without the tag has black at zero, or three colours."""
    if _PHOTOMETRIC_TAG in page.tags or page.photometric != _WHITE_IS_ZERO:
        return int(page.photometric)
    return _RGB if page.samplesperpixel >= 3 else _BLACK_IS_ZERO


def _check_segments(page: Any, path: Path, max_megapixels: float) -> None:
    """Raise DataError if strips or tiles are missing, cut, or would unpack to more than they may.

    The codecs of bytes (LZW, deflate ...) unpack into the room of one strip or tile and no further.
    The codecs of pictures unpack to the size that the packed picture declares.
    """
    file = page.parent.filehandle
    height, width = _segment_size(page)
    if height * width * max(1, page.tiledepth) > max_megapixels * 1e6:
        raise DataError(
            f"{path}: a tile of {height} x {width} px is more than max_megapixels = "
            f"{max_megapixels:g}",
            cure="store it in smaller tiles",
        )
    if page.is_contiguous:
        # Then the numbers of bytes are not used; some programs write wrong ones.
        segments = [(page.dataoffsets[0], page.nbytes)]
    else:
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if len(segments) < math.prod(page.chunked):
            segments.append((0, 0))
    for offset, count in segments:
        if not offset or not count:
            raise DataError(f"{path}: a strip or tile is missing", cure="restore the file")
        if offset + count > file.size:
            raise DataError(
                f"{path}: {file.size} bytes where the TIFF promises {offset + count}",
                cure="restore the file",
            )
        if page.compression in _STREAMS:
            file.seek(offset)
            _check_stream(file.read(count), page, path)


def _segment_size(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(page.rowsperstrip), int(page.imagewidth)


def _check_stream(content: bytes, page: Any, path: Path) -> None:
    """Raise DataError if the packed picture of a strip or tile is cut or of another size."""
    # Their decoders fill up what is cut off.
    if page.compression != _WEBP and not content.rstrip(b"\0").endswith(_END_OF_IMAGE):
        raise DataError(f"{path}: a strip or tile is cut off", cure="restore the file")
    height, width = _segment_size(page)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    # The last ones may be cut off at the edge of the picture.
    heights = {height, page.imagelength % height or height}
    widths = {width, page.imagewidth % width or width}
    with opened(io.BytesIO(content), (_STREAMS[page.compression],)) as packed:
        bands = len(packed.getbands())
        # WebP leaves out an alpha that is opaque everywhere.
        fits = bands == samples or (page.compression == _WEBP and (bands, samples) == (3, 4))
        if packed.height not in heights or packed.width not in widths or not fits:
            raise DataError(
                f"{path}: a strip or tile of {height} x {width} px and {samples} values a pixel "
                f"holds a picture of {packed.height} x {packed.width} px and {bands}",
                cure="store it again",
            )


def _grey(
    stored: Shaped[np.ndarray, "height width samples"], page: Any, path: Path
) -> Float32[np.ndarray, "height width"]:
    photometric = _photometric(page)
    if _COLOURS[photometric] == 3:
        return luma(stored)
    first = stored[..., 0]
    if photometric == _PALETTE:
        return _looked_up(first, page.colormap, path)
    if photometric == _WHITE_IS_ZERO:
        white = np.array(2**page.bitspersample - 1, first.dtype) if first.dtype.kind in "bu" else 0
        first = white ^ first if first.dtype.kind in "bu" else -first.astype(np.float64)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as not finite
        return first.astype(np.float32)


def _looked_up(
    indices: Shaped[np.ndarray, "height width"], table: object, path: Path
) -> Float32[np.ndarray, "height width"]:
    """The luma of a colour table's entries, in 0 to 255."""
    if not isinstance(table, np.ndarray) or table.ndim != 2 or indices.max() >= table.shape[1]:
        raise DataError(
            f"{path}: a TIFF whose colour table is missing or too short", cure="convert it to grey"
        )
    # Tables of 8 bits in the upper byte, as the standard wants it, or plain, as old programs wrote.
    table = table >> 8 if table.max() > 255 else table
    grey: np.ndarray = luma(table.T[None])[0][indices]
    return grey


def _name(value: object) -> str:
    """An entry of tifffile's enumerations, or the number that it does not know."""
    return str(getattr(value, "name", value))
