"""Unpack tar and zip archives that are not trusted: only inside the folder, never a full disk."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cryossl.errors import CryosslError, DataError, StorageError, one_line
from cryossl.progress.events import OnProgress, Progress

RESERVE_BYTES = 256 * 2**20
"""Free space that must remain on the disk while unpacking."""

_MEGABYTE = 10**6
_CHUNK_BYTES = 2**20
_DAMAGED = (
    tarfile.ReadError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
)


def unpack(archive: Path, folder: Path, *, report: OnProgress) -> None:
    """Unpack a tar (plain, gz, bz2, xz) or a zip archive into an empty folder.

    Only regular files and folders with relative names are accepted. Raises DataError if the archive
    is damaged, or holds a link, a device, an absolute name or a name with `..`; StorageError if the
    disk is too full. Files that were unpacked before the error stay; the caller removes the folder.
    """
    try:
        if zipfile.is_zipfile(archive):
            members = _unpack_zip(archive, folder)
        elif tarfile.is_tarfile(archive):
            members = _unpack_tar(archive, folder)
        else:
            raise DataError(
                f"{archive.name} is neither a tar nor a zip archive",
                cure="check that the address gives the archive and not a web page",
            )
        total = archive.stat().st_size // _MEGABYTE
        for bytes_read in members:
            report(Progress("unpack", min(bytes_read // _MEGABYTE, total), total, "MB"))
        report(Progress("unpack", total, total, "MB"))
    except (OSError, *_DAMAGED) as error:
        # The errors of gzip and bz2 are OSErrors without a number; those of the system have one.
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageError(
                f"cannot unpack {archive.name} into {folder}: {error.strerror}",
                cure="free some space or choose another folder",
            ) from error
        raise DataError(
            f"{archive.name} is damaged: {one_line(error) or type(error).__name__}",
            cure="fetch it again",
        ) from error


def _unpack_tar(archive: Path, folder: Path) -> Iterator[int]:
    """Unpack one member after another; yields the number of archive bytes read so far."""
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*", errorlevel=1) as tar:
        for member in tar:
            _check_name(member.name, archive)
            if not (member.isreg() or member.isdir()):
                raise _refused(archive, member.name, "is a link or a device")
            _check_space(folder, member.size, archive)
            # Not tar.extract, which is safe only with a filter that Python 3.11.2 lacks; owners and
            # modes are not wanted.
            place = folder / member.name
            source = tar.extractfile(member)
            if source is None:
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                with source, place.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK_BYTES)
            yield raw.tell()
        _check_rest(tar)


def _check_rest(tar: tarfile.TarFile) -> None:
    """Read to the end of the archive, which verifies the packer's checksum over all of it.

    tarfile stops at the first header that it cannot read, damaged or not, and so does not reach
    that checksum.
    """
    while rest := tar.fileobj.read(_CHUNK_BYTES) if tar.fileobj is not None else b"":
        if rest.count(0) != len(rest):
            raise tarfile.ReadError("a member's header cannot be read")


def _unpack_zip(archive: Path, folder: Path) -> Iterator[int]:
    with zipfile.ZipFile(archive) as packed:
        behind = 0
        for member in packed.infolist():
            _check_name(member.filename, archive)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, member.filename, "is a link or a device")
            if member.flag_bits & 1:
                raise _refused(archive, member.filename, "is encrypted")
            _check_space(folder, member.file_size, archive)
            packed.extract(member, folder)
            behind += member.compress_size
            yield behind


def _check_name(name: str, archive: Path) -> None:
    """Refuse a member's name that is not relative on every system or leads out of the folder."""
    if not name or name.startswith(("/", "\\")) or re.match(r"^[A-Za-z]:", name):
        raise _refused(archive, name, "has an absolute name")
    if ".." in PurePosixPath(name.replace("\\", "/")).parts or "\0" in name:
        raise _refused(archive, name, "would land outside the folder")


def _check_space(folder: Path, needed_bytes: int, archive: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed_bytes + RESERVE_BYTES > free:
        raise StorageError(
            f"not enough space to unpack {archive.name} into {folder}: the next file needs "
            f"{needed_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free, "
            f"{RESERVE_BYTES / 1e9:.2f} GB stay so",
            cure="free some space or choose another folder",
        )


def _refused(archive: Path, name: str, reason: str) -> CryosslError:
    return DataError(
        f"{archive.name} holds a member that is not safe to unpack: {name!r} {reason}",
        cure="do not trust this archive",
    )
