"""Where a data set keeps its pictures and annotation files, and which paths may be opened."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryossl.data.images import SUFFIXES, picture_format
from cryossl.errors import DataError
from cryossl.system.user_files import OUTSIDE_CURE, counted_from

PARTS = ("train", "validation", "test")
_STEMS = {"train": "train", "validation": "val|valid|validation", "test": "test"}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, no text
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
class DataFolder:
    """A data folder, and whether links in it may lead out of it."""

    root: Path
    follow_links: bool

    def has(self, path: Path) -> bool:
        """Whether a file that exists may be opened."""
        target = real(path)
        return target is not None and (
            self.follow_links or target.is_relative_to(self.root.resolve())
        )

    def require(self, path: Path, name: str) -> None:
        """Raise DataError for a path that is no existing one or leads out of the folder."""
        if real(path) is None:
            raise DataError(
                f"{name!r} is a link that leads nowhere", cure="restore what it points to"
            )
        if not self.has(path):
            raise DataError(
                f"{name!r} is a link out of the data set",
                cure=f"{OUTSIDE_CURE}, or give --follow-links",
            )


@dataclass(frozen=True)
class PartFiles:
    """One part on disk: its folder of pictures and its annotation file."""

    folder: Path
    annotations: Path


def find_parts(place: DataFolder) -> tuple[dict[str, PartFiles], tuple[str, ...]]:
    """Part name -> its files, and notes; `test` may be missing.

    Known layouts: `annotations/instances_{train,val,test}.json` with `train/ val/ test/`; the same
    with the JSON files in the root, without `instances_`, or with a year
    (`instances_train2017.json`, `train2017/`); picture folders under `images/`; an export of an
    annotation program for each part, in a folder of its name (`train/_annotations.coco.json`).
    Validation is `val`, `valid` or `validation`. Raises DataError if the folder is missing, empty,
    without annotation files, or if two layouts are mixed.
    """
    root = place.root
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
        place.require(files.folder, files.folder.name)
        place.require(files.annotations, files.annotations.name)
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
            f"{root}: no such folder{counted_from(root)}",
            cure="give the folder of a COCO data set, or `synthetic`",
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


def locate(file_name: str, *, folder: Path, place: DataFolder) -> Path:
    """The path of the picture with a name from an annotation file.

    It is under `folder` or its `images`, or under the root if the name contains the folder.
    Backslashes are Windows' slashes. A complete path or address is one of another machine and is
    never opened: its longest end that is in the data folder counts. Raises DataError for a
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
        for start_at in (folder, folder / "images", folder / "images" / "default", place.root):
            path = start_at.joinpath(*parts[start:])
            if _present(path, file_name):
                place.require(path, file_name[:80])
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


def survey(files: PartFiles, place: DataFolder) -> tuple[list[Path], tuple[str, ...]]:
    """All picture files under a part's folder, sorted, and notes on what is left out.

    A file is a picture by its first bytes. One that is none, but is called like one, is in the list
    too: it is a fault. Hidden files are left out. Raises DataError for a folder that cannot be
    listed.
    """
    found: list[Path] = []
    others: list[Path] = []
    unseen: list[Path] = []
    for path in _walk(files.folder, place, unseen):
        if path.name.lower().endswith(SUFFIXES) or _is_picture(path, place):
            found.append(path)
        elif path != files.annotations:
            others.append(path)
    notes = []
    if others:
        kinds = Counter(path.suffix.lower() or "without suffix" for path in others)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        notes.append(
            f"{len(others)} files are no JPEG, PNG, TIFF or MRC and are left out ({listed}), the "
            f"first is {others[0].relative_to(place.root).as_posix()}"
        )
    if unseen:
        notes.append(
            f"{len(unseen)} folders behind links are left out, the first is "
            f"{unseen[0].relative_to(place.root).as_posix()}; --follow-links reads them"
        )
    return found, tuple(notes)


def _walk(folder: Path, place: DataFolder, unseen: list[Path]) -> Iterator[Path]:
    """The files under a folder that are not hidden; folders behind links that are not followed."""

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be listed ({error.strerror})", cure="check its permissions"
        )

    been = {real(folder)}
    for start, folders, names in os.walk(folder, onerror=refuse, followlinks=place.follow_links):
        inner = [Path(start) / name for name in sorted(folders) if not name.startswith(".")]
        links = [path for path in inner if path.is_symlink()]
        if not place.follow_links:
            unseen += links
        # A link back to where the walk has been would never end.
        folders[:] = [path.name for path in inner if real(path) not in been]
        been |= {real(path) for path in inner}
        yield from (Path(start) / name for name in sorted(names) if not name.startswith("."))


def _is_picture(path: Path, place: DataFolder) -> bool:
    try:
        return place.has(path) and picture_format(path) is not None
    except OSError:
        return False
