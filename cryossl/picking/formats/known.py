"""Which format a coordinate file has: its content decides, then its suffix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from cryossl.errors import DataError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco, cryolo, cryosparc, eman, relion, tables

READERS: Mapping[str, Callable[[Path], list[Coordinates]]] = {
    "star": relion.read,
    "cbox": cryolo.read,
    "box": eman.read,
    "table": tables.read,
    "cs": cryosparc.read,
    "coco": coco.read,
}

_SUFFIXES = {
    ".star": "star",
    ".cbox": "cbox",
    ".box": "box",
    ".cs": "cs",
    ".json": "coco",
    ".csv": "table",
    ".tsv": "table",
    ".txt": "table",
}
_HEAD_BYTES = 2**16
_KNOWN = "known are RELION's STAR, .box, .cbox, Topaz's TSV, CSV with a header, .cs and COCO JSON"
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
_LONGEST_BOX = 200  # the pattern takes time with the square of a line's length
_BOX = re.compile(rf"\s*{_NUMBER}(\s+{_NUMBER}){{3,4}}\s*", re.IGNORECASE)


def read(path: Path) -> list[Coordinates]:
    """The coordinates of a file of any known format, by micrograph.

    Raises DataError, in one line, for a file that is no coordinate file, is damaged, or is larger
    than coordinates are.
    """
    found = READERS[format_of(path)](path)
    if not found:
        raise DataError(f"{path}: no coordinates in it", cure="give a file with particles")
    return found


def format_of(path: Path) -> str:
    """The key of `READERS`. Raises DataError for a file that is none of them."""
    head = _head(path)
    if head.startswith((cryosparc.MAGIC, *cryosparc.COMPRESSED)):
        return "cs"
    start = re.sub(r"\r\n?", "\n", head.decode("utf-8-sig", "replace"))
    lines = [line for line in start.split("\n") if line.strip() and line.strip()[0] != "#"]
    first = lines[0].strip() if lines else ""
    if first.startswith("{"):
        return "coco"
    if any(re.match(r"data_\S*\s*$", line) for line in lines):
        return "cbox" if any(line.strip() == "data_cryolo" for line in lines) else "star"
    if len(first) <= _LONGEST_BOX and _BOX.fullmatch(first):
        return "box"
    if {"x", "y"} <= set(tables.columns_of(first)):
        return "table"
    # The suffix says what the file is meant to be, and its reader what is wrong with it.
    meant = _SUFFIXES.get(path.suffix.lower())
    if meant is None or (not first and meant != "box"):
        problem = "no coordinate file" if first else "the file is empty"
        raise DataError(f"{path}: {problem}", cure=_KNOWN)
    return meant


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is no regular file" if path.exists() or path.is_symlink() else "does not exist"
            raise DataError(f"{path} {what}", cure="give a coordinate file")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", cure="check the path and its permissions"
        ) from None
