"""Where a data set keeps its pictures and annotation files, and which paths may be opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryossl.data.images import SUFFIXES
from cryossl.errors import DataError

PARTS = ("train", "validation", "test")
_STEMS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, no text
_CURE = "expected annotations/instances_train.json and instances_val.json beside train/ and val/"


@dataclass(frozen=True)
class PartFiles:
    """One part on disk: its folder of pictures and its annotation file."""

    folder: Path
    annotations: Path


def find_parts(root: Path) -> tuple[dict[str, PartFiles], tuple[str, ...]]:
    """Part name -> its files, and notes; `test` may be missing.

    Known layouts: `annotations/instances_{train,val,test}.json` with `train/ val/ test/`; the same
    with the JSON files in the root; the same with a year (`instances_train2017.json`,
    `train2017/`); picture folders under `images/`. Raises DataError if the folder is missing,
    empty, without annotation files, or if two layouts are mixed.
    """
    _check_root(root)
    parts: dict[str, PartFiles] = {}
    notes = []
    for part in PARTS:
        found = _only(list(_candidates(root, part)), root, part)
        if found is not None:
            parts[part] = found
        elif part != "test":
            raise DataError(f"{root}: no annotation file for {part}", cure=_CURE)
        elif any((root / name).is_dir() for name in ("test", "images/test")):
            notes.append("test/ has no annotation file and is left out")
    for part, files in parts.items():
        if not files.folder.is_dir():
            raise DataError(
                f"{root}: {files.folder.relative_to(root).as_posix()}: no such folder for the "
                f"pictures of {part}",
                cure=_CURE,
            )
        _inside(files.folder, root, files.folder.name)
        _inside(files.annotations, root, files.annotations.name)
    return parts, tuple(notes)


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder", cure="give the folder of a COCO data set, or `synthetic`"
        )
    try:
        empty = not any(root.iterdir())
    except OSError as error:
        raise DataError(
            f"{root}: cannot be listed ({error.strerror})", cure="check its permissions"
        ) from None
    if empty:
        raise DataError(f"{root}: the folder is empty", cure=_CURE)


def _only(found: list[PartFiles], root: Path, part: str) -> PartFiles | None:
    if len(found) > 1:
        names = " and ".join(files.annotations.relative_to(root).as_posix() for files in found[:2])
        raise DataError(f"{root}: {names} both describe {part}", cure="keep one of them")
    return found[0] if found else None


def _candidates(root: Path, part: str) -> Iterator[PartFiles]:
    pattern = re.compile(rf"^instances_((?:{'|'.join(_STEMS[part])})(?:\d{{4}})?)\.json$")
    for folder in (root / "annotations", root):
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir()):
            match = pattern.match(file.name)
            if match and file.is_file():
                places = (root / match[1], root / "images" / match[1])
                yield PartFiles(
                    next((place for place in places if place.is_dir()), places[0]), file
                )


def locate(file_name: str, *, folder: Path, root: Path) -> Path:
    """The path of the picture with a name from an annotation file.

    It is under `folder`, or under `root` if the name contains the folder. Raises DataError for a
    missing file, and for a name that leads out of the data set, directly or through a link.
    """
    if (
        not file_name.strip()
        or _FORBIDDEN.search(file_name)
        or "\\" in file_name
        or file_name.startswith("/")
        or re.match(r"^[A-Za-z]:", file_name)
        or ".." in file_name.split("/")
    ):
        raise DataError(
            f"the file name {file_name[:80]!r} is not a relative path inside the data set",
            cure="give the name of a picture in the part's folder",
        )
    for place in (folder, root):
        path = place / os.path.normpath(file_name)
        try:
            present = path.exists() or path.is_symlink()
        except OSError as error:
            raise DataError(
                f"the file name {file_name[:80]!r} cannot be used ({error.strerror})",
                cure="rename the file",
            ) from None
        if present:
            _inside(path, root, file_name[:80])
            return path
    raise DataError(
        f"the picture {file_name[:80]!r} is missing", cure="restore it or remove its entry"
    )


def real(path: Path) -> Path | None:
    """The path with all links followed; None if a link leads to nothing or to itself."""
    try:
        return path.resolve(strict=True)
    # Python 3.11 and 3.12 report a circle as RuntimeError.
    except (OSError, RuntimeError):
        return None


def _inside(path: Path, root: Path, name: str) -> None:
    resolved = real(path)
    if resolved is None:
        raise DataError(f"{name!r} is a link that leads nowhere", cure="restore what it points to")
    if not resolved.is_relative_to(root.resolve()):
        raise DataError(
            f"{name!r} is a link out of the data set", cure="copy the files into the data folder"
        )


def pictures(folder: Path) -> Iterator[Path]:
    """All picture files under a folder by their suffix, sorted.

    Hidden files and folders behind links are left out.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(place) / name
