"""Faults at the calls by which files are written: open, write, fsync, rename and their kin, each real but for the chosen one.

The calls below one folder are counted and named, e.g. `write work/journals/*/journal.jsonl #3`: the
third write to such a file since the start. A chosen call dies (before it, after it, half way
through a write) or raises an error instead of being made.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import signal
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEATHS = ("die half way", "die after", "die before")
ERRORS = ("ENOSPC", "EIO", "EACCES")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Choose = Callable[[int, str], bool]


class WriteFaults:
    """The calls of this process below a folder; what is chosen fails.

    There is no way back, so it belongs into a fork.
    """

    def __init__(self, root: Path, act: str, choose: Choose) -> None:
        self._root, self._act, self._choose = os.path.realpath(root), act, choose
        self._places: Counter[str] = Counter()
        self.count = self.failed = 0

    def install(self) -> None:
        """From now on calls are counted."""
        for name in ("fsync", "ftruncate", "write", "pwrite"):
            self._wrap(name, lambda file, *_rest, **_options: f"/proc/self/fd/{file}")
        for name in ("rename", "replace", "link", "symlink"):
            self._wrap(name, lambda _source, target, *_rest, **_options: target)
        for name in ("mkdir", "rmdir", "unlink", "remove"):
            self._wrap(name, lambda path, *_rest, **_options: path)
        self._wrap("open", lambda path, flags, *_rest, **_options: path if flags & _WRITING else "")
        builtins.open = io.open = self._opener(io.open)  # type: ignore[assignment]

    def around(
        self, name: str, path: Any, call: Callable[[], Any], half: Callable[[], Any] | None = None
    ) -> Any:
        """Make the call, unless it is the chosen one."""
        place = os.fsdecode(path) if path else ""
        place = (
            os.path.realpath(place)
            if place.startswith("/proc/self/fd/")
            else str(Path(place).absolute())
        )
        if not place.startswith(self._root + os.sep):
            return call()
        self.count += 1
        shown = f"{name} {nameless(os.path.relpath(place, self._root))}"
        self._places[shown] += 1
        if not self._choose(self.count, f"{shown} #{self._places[shown]}"):
            return call()
        self.failed += 1
        if self._act in ERRORS:
            code = getattr(errno, self._act)
            raise OSError(code, os.strerror(code), place)
        if self._act == "die after":
            call()
        elif self._act == "die half way" and half is not None:
            half()
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    def _wrap(self, name: str, path_of: Callable[..., Any]) -> None:
        real = getattr(os, name)

        def wrapped(*words: Any, **options: Any) -> Any:
            half = None
            if name in ("write", "pwrite"):
                cut = memoryview(words[1])[: len(words[1]) // 2]
                half = lambda: real(words[0], cut, *words[2:])  # noqa: E731
            return self.around(
                name, path_of(*words, **options), lambda: real(*words, **options), half
            )

        setattr(os, name, wrapped)

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        class Raw(io.FileIO):
            def write(self, content: Any) -> int:
                view = memoryview(content).cast("B")
                return int(
                    faults.around(
                        "write",
                        self.name if isinstance(self.name, str | bytes | os.PathLike) else "",
                        lambda: super(Raw, self).write(view),
                        lambda: super(Raw, self).write(view[: len(view) // 2]),
                    )
                )

        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,  # noqa: FBT002
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+") or not isinstance(file, str | bytes | os.PathLike):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            plain = mode.replace("b", "").replace("t", "")
            raw = faults.around("open", file, lambda: Raw(os.fspath(file), plain, closefd, opener))
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return (
                buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)
            )

        return opened


def nameless(path: str) -> str:
    """The path without what differs from run to run."""
    return re.sub(r"\d+", "N", re.sub(r"[0-9a-f]{16,}", "*", path))


def at(number: int) -> Choose:
    """The n-th call."""
    return lambda count, _name: count == number


def untried(memory: Path, *, stride: int) -> Choose:
    """Each named call once, or one in `stride` of them: the file remembers over starts which had their turn."""
    known = set(memory.read_text().splitlines()) if memory.exists() else set()
    descriptor = os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    write, fsync = os.write, os.fsync

    def choose(_count: int, name: str) -> bool:
        if name in known or zlib.crc32(name.encode()) % stride:
            return False
        known.add(name)
        write(descriptor, f"{name}\n".encode())
        fsync(descriptor)
        return True

    return choose
