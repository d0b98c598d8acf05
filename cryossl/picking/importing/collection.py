"""The micrographs that labels belong to: their files, sizes and pixel sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cryossl.data.images import SUFFIXES, read_size
from cryossl.errors import DataError
from cryossl.picking.formats.relion import read_micrographs
from cryossl.picking.project import named_file, pictures_in
from cryossl.progress.events import OnProgress, Progress

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Picture:
    """A micrograph file; `name` is its path in the collection, with `/`.

    `pixel_size_angstrom` is what the MRC header says, or the micrographs STAR; else None.
    """

    name: str
    path: Path
    height_px: int
    width_px: int
    pixel_size_angstrom: float | None

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.height_px, self.width_px


def read_collection(
    place: Path, *, max_megapixels: float, report: OnProgress
) -> tuple[Picture, ...]:
    """The micrographs in a folder, or those that a micrographs STAR lists, sorted by name.

    Only headers are read. Power spectra that programs write beside micrographs are left out. Raises
    DataError for a micrograph that cannot be read, and if there is none.
    """
    listed = _in_folder(place) if place.is_dir() else _listed(place)
    if not listed:
        raise DataError(f"{place}: no micrograph", cure=f"give a folder with {', '.join(SUFFIXES)}")
    found = []
    for done, (name, (path, pixel_size)) in enumerate(sorted(listed.items())):
        report(Progress("micrographs", done, len(listed), "micrograph"))
        if _FORBIDDEN.search(name):
            raise DataError(f"{place}: {name[:80]!r} is no plain name", cure="rename the file")
        height, width = read_size(path, max_megapixels=max_megapixels)
        found.append(Picture(name, path, height, width, _header_pixel_size(path) or pixel_size))
    report(Progress("micrographs", len(listed), len(listed), "micrograph"))
    return tuple(found)


_Listed = dict[str, tuple[Path, float | None]]


def _in_folder(folder: Path) -> _Listed:
    return {path.relative_to(folder).as_posix(): (path, None) for path in pictures_in(folder)}


def _listed(star: Path) -> _Listed:
    if not star.exists():
        raise DataError(f"{star}: no such folder", cure="give the folder of the micrographs")
    return {
        name.lstrip("/"): (named_file(name, star, what="micrograph"), pixel_size)
        for name, pixel_size in read_micrographs(star)
    }


def _header_pixel_size(path: Path) -> float | None:
    """The pixel size in an MRC header, in angstrom; None where 0 or 1 stand for an unknown one."""
    with path.open("rb") as file:
        head = file.read(HEADER_DTYPE.itemsize)
    if len(head) < HEADER_DTYPE.itemsize or head[208:212] != b"MAP ":
        return None
    order = ">" if head[212:213] == b"\x11" else "<"
    header = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
    intervals, length = int(header["mx"]), float(header["cella"]["x"])
    size = length / intervals if intervals > 0 else 0.0
    return size if 0 < size < 1000 and abs(size - 1) > 1e-4 else None
