"""MRC files: the header that decides, and the grey values."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from jaxtyping import Float32
from mrcfile.mrcinterpreter import MrcInterpreter

from cryossl.data.formats.grey import checked_size
from cryossl.errors import DataError

HEADER_BYTES = 1024

_EXTENDED = slice(92, 96)  # the length of the extended header
_BITS = {0: 8, 1: 16, 2: 32, 3: 32, 4: 64, 6: 16, 12: 16, 101: 4}  # mode -> bits of a pixel
_READ = (0, 1, 2, 6, 12)
_IMOD_STAMP, _IMOD_FLAGS = 1146047817, slice(152, 160)
_IMOD_SIGNED, _IMOD_NIBBLES = 1, 16
_STANDARD_OF_2014 = 20140


def is_mrc(head: bytes, *, size_bytes: int) -> bool:
    """Whether a file with these first 1024 bytes is an MRC: by its mark, or without one by sizes.

    MRC files from before 2000 have no mark. Their header begins with sizes and a mode, in either
    order of bytes, and the file is as long as these say.
    """
    if head[208:212] == b"MAP ":
        return True
    if len(head) < HEADER_BYTES:
        return False
    for order in "<>":
        nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
        (extended,) = struct.unpack_from(f"{order}i", head, _EXTENDED.start)
        bits = _BITS.get(mode)
        if bits is not None and min(nx, ny, nz) >= 1 and extended >= 0:
            row_bytes = -(-nx * bits // 8)
            if size_bytes >= HEADER_BYTES + extended + row_bytes * ny * nz:
                return True
    return False


def mrc_size(path: Path, *, max_megapixels: float) -> tuple[int, int]:
    """(height, width) in px, from the header. Raises DataError, and what mrcfile raises."""
    return _checked(_header(path), path, max_megapixels)


def read_mrc(path: Path, *, max_megapixels: float) -> Float32[np.ndarray, "height width"]:
    """The values as stored; integers are signed or not as the header says.

    Raises DataError, and what mrcfile raises on a damaged file.
    """
    header = _header(path)
    size = _checked(header, path, max_megapixels)
    with mrcfile.open(path, permissive=True) as file:
        if file.data is None:
            raise DataError(f"{path}: the MRC data block is damaged", cure="restore the file")
        values = np.asarray(file.data).reshape(size)
    if int(header.mode) in (0, 1):
        values = _as_signed_or_not(values, header, path)
    return values.astype(np.float32)


def _header(path: Path) -> Any:
    """The header only, because mrcfile reserves memory for an extended header of any length."""
    with path.open("rb") as file:
        head = bytearray(file.read(HEADER_BYTES))
    promised, head[_EXTENDED] = bytes(head[_EXTENDED]), bytes(4)
    with MrcInterpreter(io.BytesIO(head), permissive=True, header_only=True) as opened:
        header = opened.header
        header.nsymbt = np.frombuffer(promised, header.dtype["nsymbt"])[0]
        return header.copy()


def _checked(header: Any, path: Path, max_megapixels: float) -> tuple[int, int]:
    """(height, width) in px of a header that describes one picture. Raises DataError."""
    height, width = int(header.ny), int(header.nx)
    size = checked_size((height, width), int(header.nz), path, max_megapixels=max_megapixels)
    mode = int(header.mode)
    if mode not in _READ:
        raise DataError(
            f"{path}: MRC mode {mode}", cure="give mode 0, 1, 2, 6 or 12 (integers or floats)"
        )
    if mode == 0 and (_imod_flags(header) or 0) & _IMOD_NIBBLES:
        raise DataError(
            f"{path}: MRC mode 0 with two pixels in a byte (IMOD's flag for 4 bits)",
            cure="convert it to mode 1 or 2",
        )
    axes = int(header.mapc), int(header.mapr), int(header.maps)
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise DataError(
            f"{path}: the axes of the MRC are in the order {axes}, which programs read differently",
            cure="write it with the order (1, 2, 3)",
        )
    start = HEADER_BYTES + max(int(header.nsymbt), 0)
    frame_bytes = height * width * _BITS[mode] // 8
    held = (path.stat().st_size - start) // frame_bytes
    if held < 1:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes where the MRC header promises "
            f"{start + frame_bytes}",
            cure="restore the file",
        )
    # The number of frames in the header may be wrong, for example if the writer was interrupted.
    return checked_size(size, held, path, max_megapixels=max_megapixels)


def _imod_flags(header: Any) -> int | None:
    """IMOD's flags, or None in a file that IMOD or SerialEM has not stamped."""
    stamp, flags = np.frombuffer(header.tobytes()[_IMOD_FLAGS], header.dtype["nx"])
    return int(flags) if int(stamp) == _IMOD_STAMP else None


def _as_signed_or_not(values: np.ndarray, header: Any, path: Path) -> np.ndarray:
    """Integers of mode 0 or 1 as signed or unsigned ones.

    mode 0: IMOD's flag decides; without one the minimum and maximum in the header; if these leave
    it open, the values are signed in a file after the standard of 2014. mode 1: signed, unless
    minimum and maximum say otherwise. Raises DataError if a value depends on what is left open.
    """
    half = 2 ** (8 * values.itemsize - 1)
    lowest, highest = float(header.dmin), float(header.dmax)
    flags = _imod_flags(header) if values.itemsize == 1 else None
    unsigned = values.view(np.dtype(f"u{values.itemsize}").newbyteorder(values.dtype.byteorder))
    if flags is not None:
        return values if flags & _IMOD_SIGNED else unsigned
    if lowest >= 0 and half <= highest < 2 * half:
        return unsigned
    said = -half <= lowest < 0 and highest < half
    if said or values.itemsize > 1 or int(header.nversion) >= _STANDARD_OF_2014:
        return values
    if int(values.min()) >= 0:
        return values
    raise DataError(
        f"{path}: MRC mode 0, and the header does not say whether its bytes are signed (minimum "
        f"{lowest:g}, maximum {highest:g})",
        cure="write minimum and maximum into the header, or give mode 1, 2 or 6",
    )
