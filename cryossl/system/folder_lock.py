"""A results folder is held by one process at a time."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cryossl.errors import BusyError, StorageError
from cryossl.system.process import lives, process_tags

_LOCK, _HOLDER = ".lock", "running"
_SECONDS_TO_SIGN = 1.0


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the results folder; a second start of the same name is refused and told who holds it."""
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{folder} is in use by {_named(folder)}", cure="wait for it, or choose another --name"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot write the results folder {folder}: {error.strerror}",
            cure="choose another with --results",
        ) from None
    holder = folder / _HOLDER
    try:
        tags = process_tags()
        holder.write_text(f"process {tags['cryossl.pid']} on {tags['cryossl.host']}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def held_by(folder: Path) -> str | None:
    """Who holds a results folder now; None if nobody does, or if there is none. Raises OSError."""
    if not (folder / _LOCK).exists():
        return None
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _named(folder)
    lock.release()
    return None


def _named(folder: Path) -> str:
    """Who holds the folder.

    One that has just begun may not have written its name yet, above all over that of a killed one.
    """
    deadline = time.monotonic() + _SECONDS_TO_SIGN
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            name = (folder / _HOLDER).read_text()
            signed = re.fullmatch(r"process (\d+) on (.+)", name)
            if signed and lives(int(signed[1]), host=signed[2]) is not False:
                return name
        time.sleep(0.01)
    return "another process"
