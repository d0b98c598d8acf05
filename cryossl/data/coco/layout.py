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
_STEMS = {"train": "train", "validation": "val|valid|validation", "test": "test"}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_ELSEWHERE = re.compile(r"/|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")
"""How a path begins that is complete on the machine where it was written."""
# What annotation programs call the one file of an export, in the folder of its pictures: Roboflow,
# Label Studio, CVAT and X-AnyLabeling, and others.
_EXPORTS = (
    "_annotations.coco.json",
    "result.json",
    "instances_default.json",
    "annotations/instances_default.json",
    "annotations.json",
    "coco.json",
)
_CURE = "expected annotations/instances_train.json and instances_val.json beside train/ and val/"


@dataclass(frozen=True)
class PartFiles:
    """One part on disk: its folder of pictures and its annotation file."""

    folder: Path
    annotations: Path


def find_parts(root: Path) -> tuple[dict[str, PartFiles], tuple[str, ...]]:
    """Part name -> its files, and notes; `test` may be missing.

    Known layouts: `annotations/instances_{train,val,test}.json` with `train/ val/ test/`; the same
    with the JSON files in the root, without `instances_`, or with a year
    (`instances_train2017.json`, `train2017/`); picture folders under `images/`; an export of an
    annotation program for each part, in a folder of its name (`train/_annotations.coco.json`).
    Validation is `val`, `valid` or `validation`. Raises DataError if the folder is missing, empty,
    without annotation files, or if two layouts are mixed.
    """
    _check_root(root)
    parts: dict[str, PartFiles] = {}
    notes = []
    for part in PARTS:
        found = _only(list(_candidates(root, part)), root, part)
        if found is not None:
            parts[part] = found
        elif part != "test":
            raise DataError(f"{root}: no annotation file for {part}", cure=_cure(root))
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


def _cure(root: Path) -> str:
    whole = next((name for name in _EXPORTS if (root / name).is_file()), None)
    if whole is None:
        return _CURE
    return (
        f"{whole} describes all pictures as one part: export the pictures to train on and those to "
        f"validate on apart, each with its file, to train/{whole} and val/{whole}"
    )


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
    stem = rf"(?:{_STEMS[part]})(?:\d{{4}})?"
    for pattern in (rf"instances_({stem})\.json", rf"({stem})\.json"):
        files = [
            (match[1], file)
            for folder in (root / "annotations", root)
            for file in _listed(folder)
            if (match := re.fullmatch(pattern, file.name, re.IGNORECASE)) and file.is_file()
        ]
        for name, file in files:
            places = (root / name, root / "images" / name)
            yield PartFiles(next((place for place in places if place.is_dir()), places[0]), file)
        if files:
            break
    for folder in (*_listed(root), *_listed(root / "images")):
        if re.fullmatch(stem, folder.name, re.IGNORECASE):
            found = (folder / name for name in _EXPORTS if (folder / name).is_file())
            yield from (PartFiles(folder, file) for file in found)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror})", cure="check its permissions"
        ) from None


def is_elsewhere(file_name: str) -> bool:
    """Whether a name from an annotation file is a complete path or address of another machine."""
    return _ELSEWHERE.match(file_name.replace("\\", "/")) is not None


def locate(file_name: str, *, folder: Path, root: Path) -> Path:
    """The path of the picture with a name from an annotation file.

    It is under `folder` or its `images`, or under `root` if the name contains the folder.
    Backslashes are Windows' slashes. A complete path or address is one of another machine and is
    never opened: its longest end that is in `folder` or `root` counts. Raises DataError for a
    missing file, and for a name that leads out of the data set, directly or through a link.
    """
    name = file_name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not name.strip() or not parts or _FORBIDDEN.search(name) or ".." in parts:
        raise DataError(
            f"the file name {file_name[:80]!r} is not a relative path inside the data set",
            cure="give the name of a picture in the part's folder",
        )
    for start in range(len(parts) if is_elsewhere(file_name) else 1):
        for place in (folder, folder / "images", folder / "images" / "default", root):
            path = place.joinpath(*parts[start:])
            if _present(path, file_name):
                _inside(path, root, file_name[:80])
                return path
    raise DataError(
        f"the picture {file_name[:80]!r} is missing", cure="restore it or remove its entry"
    )


def _present(path: Path, file_name: str) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the file name {file_name[:80]!r} cannot be used "
            f"({getattr(error, 'strerror', None) or error})",
            cure="rename the file",
        ) from None


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
