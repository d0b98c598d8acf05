"""A lock: one process at a time works in a results folder."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from cryossl.errors import BusyError, StorageError
from cryossl.system.file_lock import FileLock
from cryossl.system.process import lives, process_in, process_tags

_LOCK, _HOLDER = ".lock", "running"
_SECONDS_TO_SIGN = 1.0


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the results folder while the block runs.

    Raises BusyError, which names the holder, if another process holds it, and StorageError if the
    folder cannot be written.
    """
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
        host, pid, _ = process_in(process_tags())
        holder.write_text(f"process {pid} on {host}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def held_by(folder: Path) -> str | None:
    """The process that holds a results folder, as text; None if it is free or absent.

    Raises OSError.
    """
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
    """The name of the holder.

    A holder that has just begun may not have written its name yet, and that of a killed holder may
    still be there. So this waits a second for the name of a living process.
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
