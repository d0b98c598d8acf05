"""Files and folders that are whole or absent, also after a crash or a loss of power."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old content or the new one. Raises OSError.

    The temporary file has a fixed name, so that the next writer overwrites the one of a killed
    writer. The caller holds a lock.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    publish(temporary, path)


@contextmanager
def filled_aside(folder: Path, *, partial: Path, resume: bool) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `folder` when the block ends without an error.

    The caller holds a lock, and syncs those files that must survive a loss of power.

    Args:
        folder: absent or empty when the block ends.
        partial: what the folder is called until then, beside `folder`. It stays if the block
            raises.
        resume: what an interrupted block left in `partial` is kept; else it is removed first.

    Raises:
        OSError: a folder cannot be made or renamed.
    """
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    yield partial
    publish(partial, folder)


def publish(partial: Path, final: Path) -> None:
    """Give a complete file or folder its final name in the same folder. Raises OSError."""
    partial.replace(final)
    sync_folder(final.parent)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content in hex. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable. Raises OSError.

    Without this a loss of power may undo a rename.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
