"""Durable results of finished stages, named by their inputs: the base of resuming and sharing.

The name of a stage is the digest of all that it depends on. Its folder has its final name only when
every file in it is complete. So a killed run leaves nothing that looks like a result.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import Timeout

from cryossl.errors import StorageError
from cryossl.system.digest import digest
from cryossl.system.file_lock import FileLock
from cryossl.system.files import file_sha256, filled_aside, write_durably

MANIFEST = "stage.json"


class AbandonedError(Exception):
    """Raised by a computation that nobody will continue: what it has left is removed."""


@dataclass(frozen=True)
class Stage:
    """A finished stage: its key, its folder, and whether it was finished before."""

    kind: str
    key: str
    folder: Path
    reused: bool
    of_other_code: bool = False


Code = Mapping[str, str]
"""Kind of stage -> digest of the code that computes it; other kinds have no code in their key."""
Inputs = Mapping[str, Any] | Callable[[Code], Mapping[str, Any]]


class Stages:
    """The stages below one folder."""

    def __init__(
        self,
        root: Path,
        *,
        code: Code = MappingProxyType({}),
        kept: Sequence[Code] = (),
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Find or make stages in a folder.

        Args:
            root: the folder.
            code: digests of the present code, a part of the keys.
            kept: digests of other code whose finished stages are reused where the present code has
                none; the first one that has a stage is taken.
            notice: called with a line for each damaged stage, before it is computed again.
        """
        self._root, self._notice = root, notice
        self.code, self.kept = code, tuple(kept)

    def key_of(self, kind: str, inputs: Mapping[str, Any], code: Code | None = None) -> str:
        """The name of the stage of this kind and these inputs, finished or not.

        `code`: the present one unless given.
        """
        digests = self.code if code is None else code
        return digest({"kind": kind, "code": digests.get(kind), **inputs})[:20]

    def once(self, kind: str, inputs: Inputs, compute: Callable[[Path], None]) -> Stage:
        """The stage of these inputs; computed only if no finished one is there.

        Args:
            kind: what the stage is, e.g. `train`; the name of the folder above it.
            inputs: all that its content depends on, as JSON values; their digest is the key. Inputs
                that name a stage which may have been discarded are a function of the code.
            compute: called with the folder to fill, which may hold what an interrupted computation
                left there.

        Raises:
            StorageError: the folder cannot be written.
        """
        with self.held(kind, inputs, compute) as stage:
            return stage

    @contextmanager
    def held(self, kind: str, inputs: Inputs, compute: Callable[[Path], None]) -> Iterator[Stage]:
        """As `once`, but no other process can discard the stage before the block ends."""
        code = self._code_of(kind, inputs)
        named = inputs(code) if callable(inputs) else inputs
        key = self.key_of(kind, named, code)
        folder = self._root / kind / key
        with ExitStack() as lock:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                lock.enter_context(FileLock(folder.with_name(f"{key}.lock")))
                reused = _is_whole(folder)
                if not reused:
                    if folder.exists():
                        self._notice(f"the stage {folder} was damaged and is computed again")
                    record = {"kind": kind, "code": code.get(kind), "inputs": dict(named)}
                    _make(folder, record, compute)
            except OSError as error:
                raise StorageError(
                    f"cannot write the stage {folder}: {error.strerror or error}",
                    cure="free space or choose another folder with --work",
                ) from None
            yield Stage(kind, key, folder, reused, of_other_code=code is not self.code)

    def _code_of(self, kind: str, inputs: Inputs) -> Code:
        """The code whose stage is used: the present one, unless only kept code has a whole one."""
        for code in (self.code, *self.kept) if self.kept else ():
            named = inputs(code) if callable(inputs) else inputs
            if _is_whole(self._root / kind / self.key_of(kind, named, code)):
                return code
        return self.code

    def size_bytes(self, kind: str, fits: Callable[[Mapping[str, Any]], bool]) -> int:
        """Bytes on disk of a kind's finished stages of usable code whose inputs fit.

        Unfinished stages count too, for their inputs are not known.
        """
        usable = {code.get(kind) for code in (self.code, *self.kept)}
        return sum(
            _size_bytes(path)
            for path in (self._root / kind).glob("*/")
            if path.suffix == ".partial" or fits(_inputs(path, usable))
        )

    def keys(self, kind: str, fits: Callable[[Mapping[str, Any]], bool]) -> list[str]:
        """The keys of a kind's finished stages of usable code whose inputs fit."""
        usable = {code.get(kind) for code in (self.code, *self.kept)}
        return [path.name for path in (self._root / kind).glob("*/") if fits(_inputs(path, usable))]

    def discard(self, kind: str, key: str) -> None:
        """Remove a stage, finished or not, if it exists and no other process makes or holds it.

        This is for stages that only serve others, such as the probability maps behind selections.
        """
        folder = self._root / kind / key
        if folder.parent.is_dir():
            with (
                suppress(Timeout, StorageError),
                FileLock(folder.with_name(f"{key}.lock"), timeout=0),
            ):
                for path in (folder, _partial(folder)):
                    shutil.rmtree(path, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _make(folder: Path, record: Mapping[str, Any], compute: Callable[[Path], None]) -> None:
    with filled_aside(folder, partial=_partial(folder), resume=True) as partial:
        try:
            compute(partial)
        except AbandonedError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _seal(partial, record)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one


def _inputs(folder: Path, usable: Collection[str | None]) -> Mapping[str, Any]:
    """The inputs of a finished stage of usable code; none if it is damaged or being removed."""
    try:
        record = json.loads((folder / MANIFEST).read_text())
        inputs: Mapping[str, Any] = record["inputs"] if record["code"] in usable else {}
    except (OSError, ValueError, KeyError):
        return {}
    return inputs


def _size_bytes(folder: Path) -> int:
    sizes = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


def _seal(folder: Path, record: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            files[path.relative_to(folder).as_posix()] = _fingerprint(path)
    write_durably(folder / MANIFEST, json.dumps({**record, "files": files}, indent=1).encode())


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds all its files, unchanged; each is read and hashed."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all(_fingerprint(folder / name) == expected for name, expected in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
