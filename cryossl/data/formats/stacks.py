"""The one picture of a TIFF, and how many frames the file holds.

A directory of a TIFF describes a picture, but programs also write a whole stack under one
directory, and say so only in metadata of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import tifffile

from cryossl.errors import DataError

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_DIRECTORIES = 64  # of a picture with its reduced copies
_STK_PLANES, _LSM = (33629, 33630), 34412
_SHAPE = re.compile(r'^\{?"?shape"?\s*[:=]\s*[\[(]([\d,\s]+)[\])]')
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_OME_SIZE = re.compile(r"""\bSize[ZCT]\s*=\s*["'](\d+)["']""")


def only_page(file: tifffile.TiffFile) -> tuple[Any, int, str]:
    """The page of a file's picture, the number of frames, and whose metadata say so, if any do.

    Reduced copies and masks are no frames, in directories and in subdirectories. If there are
    several frames the page is the first. Raises DataError for a file with thumbnails alone, and
    what tifffile raises on a damaged file.
    """
    pages = _pages(file)
    full = [page for page in pages if not page.subfiletype & (_REDUCED | _MASK)]
    if not full and len(pages) > 1:
        raise DataError(
            f"{file.filehandle.path}: only thumbnails and masks", cure="give the whole picture"
        )
    page = (full or pages)[0]
    counts = [(len(full), ""), (int(page.imagedepth), ""), *_told(page)]
    frames, source = max(counts, key=lambda one: one[0])
    return page, frames, source


def _pages(file: tifffile.TiffFile) -> list[Any]:
    """All directories and their subdirectories, or the first ones of a file with very many."""
    found: list[Any] = []
    for page in file.pages:
        found.append(page)
        for sub in getattr(page, "pages", None) or ():
            found.append(sub)
            if len(found) > _MOST_DIRECTORIES:
                return found
        if len(found) > _MOST_DIRECTORIES:
            return found
    return found


def _told(page: Any) -> Iterator[tuple[int, str]]:
    """The numbers of frames that metadata of known programs give for one directory."""
    samples = max(1, int(page.samplesperpixel))
    values = max(1, page.imagelength * page.imagewidth * samples)
    for text in (page.description, page.description1):
        if text.startswith(("ImageJ=", "SCIFIO=")):
            fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            axes = math.prod(_whole(fields.get(name)) for name in ("channels", "slices", "frames"))
            yield max(_whole(fields.get("images")), axes), text[:6]
        if shape := _SHAPE.match(text):
            sides = [_whole(side) for side in shape[1].split(",") if side.strip()]
            yield math.prod(sides) // values, "tifffile"
        sizes = [_OME_SIZE.findall(pixels) for pixels in _OME_PIXELS.findall(text)]
        yield sum(-(-math.prod(map(int, one)) // samples) for one in sizes), "OME"
    for tag in _STK_PLANES:
        if tag in page.tags:
            yield page.tags[tag].count, "MetaMorph"
    lsm = page.tags.valueof(_LSM)
    if isinstance(lsm, dict):
        sides = [lsm.get(f"Dimension{axis}", 1) for axis in ("Z", "Time", "Channels")]
        yield math.prod(map(int, sides)) // samples, "LSM"


def _whole(text: str | None) -> int:
    """A number of pictures; 1 where none is given. Raises OverflowError for endless digits."""
    try:
        return max(1, int(float(text or 1)))
    except ValueError:
        return 1
