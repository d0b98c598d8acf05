"""SHA-256 of the data set's files, remembered so that an unchanged file is read only once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from cryossl.errors import ChangedDataError
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.digest import digest
from cryossl.system.file_lock import FileLock
from cryossl.system.files import file_sha256, write_durably

_BATCH_FILES = 500
# A file may be written twice within one tick of the file system's clock, and its times then stay
# the same. The coarsest clock in use is FAT's, with 2 s. So a file is remembered only if its last
# change is longer ago.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class FileState:
    """The state of a file, by which a change is found without reading the file.

    A program cannot set back the inode's change time.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True)
class HashedFile:
    """The SHA-256 of a file in hex, and the state in which it was read."""

    sha256: str
    state: FileState


def file_state(path: Path) -> FileState:
    """The present state of a file. Raises ChangedDataError if it is not there or cannot be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise ChangedDataError(f"{path}: {error.strerror}", cure="check the data folder") from None
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def hash_files(
    paths: Iterable[Path], *, memory: Path, report: OnProgress
) -> dict[Path, HashedFile]:
    """Path -> SHA-256 and state of each file; a file with the state in `memory` is not read.

    `memory` is a JSON file. After an interruption the next call continues. Reports "hash" in files.
    Raises ChangedDataError for a file that cannot be read or changes meanwhile, OSError if the
    memory cannot be written.
    """
    wanted = sorted(set(paths))
    with (
        FileLock(memory.with_suffix(".lock")),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        known = _recall(memory)
        hashed: dict[Path, HashedFile] = {}
        for start in range(0, len(wanted), _BATCH_FILES):
            batch = wanted[start : start + _BATCH_FILES]
            fresh = dict(zip(batch, pool.map(partial(_hash_file, known=known), batch), strict=True))
            hashed |= fresh
            news = {
                str(path.absolute()): file for path, file in fresh.items() if _settled(file.state)
            }
            if not news.items() <= known.items():
                known |= news
                write_durably(memory, _as_json(known))
            report(Progress("hash", len(hashed), len(wanted), "file"))
    return hashed


def remembered_hashes(paths: Iterable[Path], *, memory: Path) -> dict[Path, str] | None:
    """Path -> SHA-256 if all files are remembered in their present state, else None.

    No file is read.
    """
    known = _recall(memory)
    found = {path: known.get(str(path.absolute())) for path in paths}
    unchanged = {
        path: file.sha256
        for path, file in found.items()
        if file is not None and file.state == file_state(path)
    }
    return unchanged if len(unchanged) == len(found) else None


def _hash_file(path: Path, *, known: dict[str, HashedFile]) -> HashedFile:
    state = file_state(path)
    remembered = known.get(str(path.absolute()))
    if remembered is not None and remembered.state == state:
        return remembered
    try:
        content = file_sha256(path)
    except OSError as error:
        raise ChangedDataError(f"{path}: {error.strerror}", cure="check the data folder") from None
    if file_state(path) != state:
        raise ChangedDataError(
            f"{path} changed while it was read", cure="start again when the data set is complete"
        )
    return HashedFile(content, state)


def _settled(state: FileState) -> bool:
    return time.time_ns() - state.changed_ns > _SETTLED_NS


def _recall(memory: Path) -> dict[str, HashedFile]:
    """The remembered hashes; none if the file is missing or damaged, because it only saves time."""
    try:
        document = json.loads(memory.read_text())
        if document["sha256"] != digest(document["files"]):
            return {}
        return {
            path: HashedFile(content, FileState(*map(int, state)))
            for path, (content, *state) in document["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _as_json(known: dict[str, HashedFile]) -> bytes:
    files = {path: [file.sha256, *astuple(file.state)] for path, file in sorted(known.items())}
    return json.dumps({"sha256": digest(files), "files": files}).encode()
