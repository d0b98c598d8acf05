"""What `pick` is given -> the micrographs: files, folders, and STAR files that list micrographs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryossl.data.images import picture_format
from cryossl.errors import DataError
from cryossl.picking.formats import relion


@dataclass(frozen=True)
class Named:
    """A micrograph, and its name in what is written.

    The name is the path as it was given, or as a STAR file has it: RELION compares names as text.
    `pixel_size_angstrom` is what the STAR file says.
    """

    path: Path
    name: str
    pixel_size_angstrom: float | None = None


def micrographs_of(given: Sequence[Path]) -> list[Named]:
    """The micrographs, in the order of their names.

    Of a folder, every file whose first bytes are those of a picture; a file that is named is taken
    whatever it holds, so that a damaged one is reported.

    Raises DataError if there is none, one is missing, or two would be written to one place.
    """
    found: dict[str, Named] = {}
    for one in (each for path in given for each in _below(path)):
        stem = str(Path(one.name).with_suffix(""))
        twin = found.setdefault(stem, one)
        if twin.path != one.path:
            raise DataError(
                f"{twin.path} and {one.path} have one name without suffix",
                cure="pick one of them, or pick them into different folders",
            )
    if not found:
        raise DataError(
            f"no micrograph in {', '.join(map(str, given))}",
            cure="give MRC, TIFF, JPEG or PNG files, a folder, or a STAR file that lists them",
        )
    return [found[stem] for stem in sorted(found)]


def _below(path: Path) -> Iterator[Named]:
    if path.is_dir():
        inner = sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_file())
        yield from (Named(file, _name(file)) for file in inner if is_picture(file))
    elif path.suffix == ".star":
        project = path.absolute().parent
        for name, pixel_size in relion.read_micrographs(path):
            yield Named(_from_project(name, project, star=path), name, pixel_size)
    elif path.exists():
        yield Named(path, _name(path))
    else:
        raise DataError(f"{path}: no such file or folder", cure="check the path")


def _name(path: Path) -> str:
    """The path from the current folder, or the file's name alone if it lies elsewhere."""
    place, here = Path(os.path.normpath(path.absolute())), Path.cwd()
    return str(place.relative_to(here)) if place.is_relative_to(here) else place.name


def _from_project(name: str, folder: Path, *, star: Path) -> Path:
    """The file of a name in a STAR file: names start at the project, some folder above the file."""
    for above in (Path.cwd(), folder, *folder.parents):
        if (above / name).exists():
            return above / name
    raise DataError(
        f"{star}: the micrograph {name[:200]!r} is missing", cure="run from the RELION project"
    )


def is_picture(path: Path) -> bool:
    """Whether the first bytes of a file are those of a picture."""
    try:
        return picture_format(path) is not None
    except OSError:
        return False
