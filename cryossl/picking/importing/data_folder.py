"""Labelled and unlabelled micrographs -> a data folder as docs/data.md describes it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cryossl.data.coco.dataset import scan
from cryossl.data.imported import IMPORT_FILE
from cryossl.data.sources import Description, assign, is_plain
from cryossl.errors import CryosslError, DataError, StorageError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import coco
from cryossl.picking.importing.collection import Picture
from cryossl.picking.importing.names import without_uid
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.files import filled_aside, sync_folder, write_durably

LABELLED_FILE = "labelled.txt"


@dataclass(frozen=True)
class Contents:
    """What a data folder gets: `labels` by the picture's name; a picture without is the pool's."""

    pictures: Sequence[Picture]
    labels: Mapping[str, Coordinates]
    validation: frozenset[str]
    sources: Mapping[str, str]
    facts: Mapping[str, Any]


def sources_of(pictures: Sequence[Picture], *, source: str | None) -> dict[str, str]:
    """Picture's name -> its source: the given one, or as the data set's reader finds it.

    Raises DataError for a source that is no plain name.
    """
    if source is not None:
        if not is_plain(source):
            raise DataError(
                f"--source {source[:80]!r} is no plain name",
                cure="use up to 64 letters, digits, dots, dashes, underscores and blanks",
            )
        return {picture.name: source for picture in pictures}
    plain = {
        picture.name: picture.name.rpartition("/")[0] + "/" + without_uid(Path(picture.name).name)
        for picture in pictures
    }
    found, _ = assign(
        [Description(plain[one.name], one.height_px, one.width_px, "") for one in pictures],
        table=(),
    )
    return {name: found[plain_name] for name, plain_name in plain.items()}


def validation_names(
    labels: Mapping[str, Coordinates], sources: Mapping[str, str], *, fraction: float
) -> frozenset[str]:
    """The labelled micrographs that become validation, the same for the same names.

    A share of each source, rounded, and of each at least one unless it has only one; at least two
    in all, if two others remain, because a run sets half of them aside as test. Micrographs without
    particles stay in train. Raises DataError if fewer than two have particles.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted((name for name, one in labels.items() if one.count), key=_mark):
        groups[sources[name]].append(name)
    total = sum(map(len, groups.values()))
    if total < 2:
        raise DataError(
            f"{total} labelled micrograph{'s' if total != 1 else ''} with particles",
            cure="label at least two: one to train on and one to validate on",
        )
    chosen: list[str] = []
    rest: list[str] = []
    for members in groups.values():
        wanted = max(1, round(fraction * len(members)))
        count = min(wanted, len(members) - 1)
        chosen += members[:count]
        rest += members[count:]
    rest.sort(key=_mark)
    while len(chosen) < 2 and (not chosen or len(rest) > 2):
        chosen.append(rest.pop(0))
    return frozenset(chosen)


def _mark(name: str) -> tuple[str, str]:
    return hashlib.sha256(f"validation {name}".encode()).hexdigest(), name


def require_free(folder: Path, *, outside: Path | None = None) -> None:
    """Raise DataError for a folder that has content, or that lies inside `outside`."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} exists already", cure="choose a new folder for --to")
    if (
        outside is not None
        and outside.is_dir()
        and folder.absolute().resolve().is_relative_to(outside.resolve())
    ):
        raise DataError(
            f"{folder} lies inside the folder of the micrographs", cure="choose another --to"
        )


def write(folder: Path, contents: Contents, *, link: bool, report: OnProgress) -> int:
    """Write the data folder, complete or not at all; the number of pictures that were copied.

    With `link` pictures are hard links where the file system allows it. Raises DataError if
    the folder has content meanwhile or the data set's reader refuses the result, StorageError if it
    cannot be written.
    """
    folder = folder.absolute()
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In a folder without write permission FileLock would wait for ever.
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            require_free(folder)
            try:
                with filled_aside(folder, partial=partial, resume=False):
                    copied = _fill(partial, contents, link=link, report=report)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror or error}",
            cure="free some space or choose another folder",
        ) from error
    return copied


def _fill(folder: Path, contents: Contents, *, link: bool, report: OnProgress) -> int:
    copied = 0
    for done, picture in enumerate(contents.pictures):
        report(Progress("import", done, len(contents.pictures), "micrograph"))
        part = "val" if picture.name in contents.validation else "train"
        copied += _place(picture.path, folder / part / picture.name, link=link)
    report(Progress("import", len(contents.pictures), len(contents.pictures), "micrograph"))
    (folder / "annotations").mkdir()
    for part in ("train", "val"):
        inside = [
            picture
            for picture in contents.pictures
            if (picture.name in contents.validation) == (part == "val")
        ]
        _write(folder / "annotations" / f"instances_{part}.json", _document(inside, contents))
    labelled = sorted(set(contents.labels) - contents.validation)
    _write(folder / LABELLED_FILE, (f"train/{name}\n" for name in labelled))
    _write(folder / "sources.csv", [_table(contents)])
    _write(folder / IMPORT_FILE, [json.dumps(dict(contents.facts), indent=1) + "\n"])
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))
    _, faults = scan(folder, border=0, max_megapixels=1e9)
    if faults:
        raise _refused(str(faults[0]), faults[0].cure)
    return copied


def _refused(problem: str, cure: str) -> CryosslError:
    return DataError(f"the data set would have a fault: {problem}", cure=cure)


def _place(source: Path, target: Path, *, link: bool) -> bool:
    """Link or copy a picture; whether it was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if link:
        try:
            os.link(real, target)
        except OSError:
            pass  # another file system, or one without hard links, or another user's file
        else:
            return False
    with real.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written, 2**20)
        written.flush()
        os.fsync(written.fileno())
    return True


def _document(pictures: Sequence[Picture], contents: Contents) -> Iterable[str]:
    labelled = [
        replace(
            contents.labels[one.name],
            micrograph=one.name,
            picture_px=one.size_px,
            pixel_size_angstrom=one.pixel_size_angstrom,
        )
        for one in pictures
        if one.name in contents.labels
    ]
    others = [
        Coordinates(
            one.name,
            np.zeros((0, 2)),
            picture_px=one.size_px,
            pixel_size_angstrom=one.pixel_size_angstrom,
        )
        for one in pictures
        if one.name not in contents.labels
    ]
    return coco.text(labelled, unlabelled=others)


def _table(contents: Contents) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "source"])
    for picture in contents.pictures:
        part = "val" if picture.name in contents.validation else "train"
        writer.writerow([f"{part}/{picture.name}", contents.sources[picture.name]])
    return table.getvalue()


def _write(path: Path, pieces: Iterable[str]) -> None:
    write_durably(path, "".join(pieces).encode())
