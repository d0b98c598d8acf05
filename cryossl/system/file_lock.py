"""A lock file that all who may write its folder can take."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from cryossl.errors import StorageError

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FileLock(filelock.FileLock):
    """The kernel's lock on a file, which gets the group and the permissions of its folder.

    With those that a process gives its files by default, a folder that a group shares could be
    used by nobody but the first who made the lock. `acquire` raises StorageError, which names file
    and owner, where the file cannot be opened, and filelock's Timeout.
    """

    def __init__(self, path: Path, timeout: float = -1) -> None:
        super().__init__(path, timeout)

    def acquire(self, *arguments: Any, **options: Any) -> Any:
        """Take the lock; as filelock's own."""
        try:
            _make(Path(self.lock_file))
            return super().acquire(*arguments, **options)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            raise _refusal(Path(self.lock_file), error) from None


def _make(path: Path) -> None:
    """Make the file if it is not there. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return
    try:
        folder = path.parent.stat()
        with suppress(OSError):  # a group that this user is not in
            os.fchown(descriptor, -1, folder.st_gid)
        with suppress(OSError):  # a file system without permissions
            os.fchmod(descriptor, folder.st_mode & 0o666)
    finally:
        os.close(descriptor)


@contextmanager
def shared_as(folder: Path) -> Iterator[None]:
    """Let the group do with new files what it may do in this folder, while the block runs.

    In a work folder that a group shares, the usual umask would close to the others what the first
    of them makes. Nothing changes where the folder is not there yet, or belongs to one user alone.
    """
    granted = folder.stat().st_mode & 0o070 if folder.is_dir() else 0
    before = os.umask(0o077)
    os.umask(before & ~granted)
    try:
        yield
    finally:
        os.umask(before)


def owner(path: Path) -> str:
    """The name of a file's owner, or its number where it has no name here. Raises OSError."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _refusal(path: Path, error: OSError) -> StorageError:
    folder = path.parent
    if path.exists():
        return StorageError(
            f"the lock file {path} of {owner(path)} cannot be opened: {error.strerror}",
            cure=f"its owner can `chmod -R g+rwX {folder}`; it may be removed while nobody works",
        )
    return StorageError(
        f"no lock file can be made in {folder} of {owner(folder)}: {error.strerror}",
        cure="its owner can `chmod -R g+rwX` it for a group, or choose another folder",
    )
