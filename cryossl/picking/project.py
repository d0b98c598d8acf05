"""Where micrographs and coordinate files are: those that a STAR file names, those of a folder."""

from __future__ import annotations

import re
from pathlib import Path

from cryossl.data.images import picture_format
from cryossl.errors import DataError

_POWER_SPECTRUM = re.compile(r"_PS$|_PSD$|_ctf$|_powerspectrum$|_thumbnail$", re.IGNORECASE)


def named_file(name: str, star: Path, *, what: str) -> Path:
    """The file that a STAR file names.

    RELION writes names from its project's folder, and no file says which folder that is. It is the
    first of the STAR file's folder, those above it, and the current folder, from which the name
    leads to a file.

    Args:
        name: as the STAR file has it; an absolute one is taken as it is.
        star: path of the STAR file.
        what: the file is, for the error, as `micrograph`.

    Raises DataError if there is no such file, and for a name with `..`.
    """
    folder = star.absolute().parent
    for place in () if ".." in name.split("/") else (folder, *folder.parents, Path.cwd()):
        try:
            if (place / name).is_file():
                return place / name
        except (OSError, ValueError):  # too long, or with a zero byte
            break
    raise DataError(
        f"{star}: the {what} {name[:80]!r} is missing",
        cure="keep the STAR file inside its RELION project, or run from the project's folder",
    )


def pictures_in(folder: Path) -> list[Path]:
    """The micrographs in a folder and the folders in it, sorted: files that begin as pictures do.

    Power spectra and thumbnails that programs write beside micrographs are left out. Links to
    folders are not followed.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if not _POWER_SPECTRUM.search(path.stem) and path.is_file() and _is_picture(path)
    )


def _is_picture(path: Path) -> bool:
    try:
        return picture_format(path) is not None
    except OSError:
        return False
