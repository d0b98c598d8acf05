"""What `pick` is given -> the micrographs: files, folders, and STAR files that list micrographs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryossl.errors import DataError
from cryossl.picking.formats import relion
from cryossl.picking.project import named_file, pictures_in


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

    Of a folder, the pictures in it and in its folders; a file that is named is taken whatever it
    holds, so that a damaged one is reported.

    Raises DataError if there is none, one is missing, or two would be written to one place.
    """
    found: dict[str, Named] = {}
    for one in (each for path in given for each in _below(path)):
        stem = str(Path(one.name.lstrip("/")).with_suffix(""))
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
        yield from (Named(file, _name(file, below=path)) for file in pictures_in(path))
    elif path.suffix == ".star":
        for name, pixel_size in relion.read_micrographs(path):
            yield Named(named_file(name, path, what="micrograph"), name, pixel_size)
    elif path.exists():
        yield Named(path, _name(path, below=path.parent))
    else:
        raise DataError(f"{path}: no such file or folder", cure="check the path")


def _name(path: Path, *, below: Path) -> str:
    """The path from the current folder, or `below` the given one if it lies elsewhere."""
    place, here = Path(os.path.normpath(path.absolute())), Path.cwd()
    return str(place.relative_to(here) if place.is_relative_to(here) else path.relative_to(below))
