"""Picks in the forms that other programs read, written micrograph by micrograph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryossl.errors import StorageError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco, cryolo, eman, relion, tables
from cryossl.system.files import publish, write_durably

Pieces = Callable[[Iterable[Coordinates]], Iterator[str]]

EACH: Mapping[str, tuple[str, Callable[[Coordinates], str]]] = {
    "star": ("_autopick.star", relion.micrograph_text),
    "box": (".box", eman.text),
    "cbox": (".cbox", cryolo.text),
}
"""Formats with a file for each micrograph: what follows its name, and the content."""
TOGETHER: Mapping[str, tuple[str, Pieces]] = {
    "csv": ("picks.csv", tables.csv_text),
    "topaz": ("picks.txt", tables.topaz_text),
}
"""Formats with one file for all micrographs."""
FORMATS = ("star", "particles", "box", "cbox", "csv", "topaz", "coco")


def write_all(
    folder: Path,
    formats: Sequence[str],
    picks: Callable[[], Iterator[Coordinates]],
    *,
    pixel_size_angstrom: float | None,
) -> list[Path]:
    """Write the picks in these formats, each file whole or not at all; returns the main files.

    `star`: `NAME_autopick.star` for each micrograph at its own path below the folder, and
    `autopick.star`, which lists them, with paths from the current folder.

    Args:
        folder: of the files.
        formats: of `FORMATS`.
        picks: called once for each format; gives the micrographs one by one.
        pixel_size_angstrom: of the micrographs, for `particles`.

    Raises:
        StorageError: a file cannot be written.
    """
    written = []
    for form in formats:
        try:
            written.append(_write(folder, form, picks, pixel_size_angstrom=pixel_size_angstrom))
        except OSError as error:
            raise unwritten(error, folder) from None
    return written


def unwritten(error: OSError, path: Path) -> StorageError:
    """The fault of a file of a pick that cannot be written; `path` where the error names none."""
    return StorageError(
        f"cannot write {error.filename or path}: {error.strerror}",
        cure="free space, or choose another folder with --to",
    )


def place_of(folder: Path, micrograph: str, ending: str) -> Path:
    """Where the file of a micrograph lies below the folder; an absolute name stays below it too."""
    return folder / f"{Path(micrograph.lstrip('/')).with_suffix('')}{ending}"


def _write(
    folder: Path,
    form: str,
    picks: Callable[[], Iterator[Coordinates]],
    *,
    pixel_size_angstrom: float | None,
) -> Path:
    if form in EACH:
        ending, text = EACH[form]
        listed = []
        for one in picks():
            path = place_of(folder, one.micrograph, ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text(one).encode())
            listed.append((one.micrograph, os.path.relpath(path)))
        if form != "star":
            return folder
        write_durably(folder / "autopick.star", relion.index_text(listed).encode())
        return folder / "autopick.star"
    name, pieces = _together(form, pixel_size_angstrom)
    with _replacing(folder / name) as write:
        for piece in pieces(picks()):
            write(piece)
    return folder / name


def _together(form: str, pixel_size_angstrom: float | None) -> tuple[str, Pieces]:
    if form == "particles":
        return "particles.star", lambda picks: relion.particles_text(
            picks, pixel_size_angstrom=pixel_size_angstrom
        )
    if form == "coco":
        return "picks.json", coco.text
    return TOGETHER[form]


@contextmanager
def _replacing(path: Path) -> Iterator[Callable[[str], object]]:
    """A function that appends text to a file, which replaces the old one when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        yield stream.write
        stream.flush()
        os.fsync(stream.fileno())
    publish(temporary, path)
