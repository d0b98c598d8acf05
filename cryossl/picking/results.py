"""What a model found on one micrograph, as a durable file: the base of resuming `pick`.

All candidates are kept, also those below the threshold, so another threshold, limit or format needs
no network.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import platform
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryossl.data.store.file_hashes import FileState
from cryossl.evaluation.picking import Picks
from cryossl.system.files import publish

_FIELDS = ("centres", "scores", "shape", "state", "sha256", "seen")
_DIGEST_BYTES, _HEX_BYTES = 32, 64


@dataclass(frozen=True, eq=False)
class Result:
    """The candidates of a micrograph, best first; centres are (y, x) in px of its file.

    `state` and `sha256` are those of the file when it was read. `diameter_px` is that of a
    particle, in px of the file. `contrast` is the mean contrast of the picture at the picks of the
    model's threshold, in standard errors (see `readings`); None with too few of them to tell.
    """

    path: Path
    height_px: int
    width_px: int
    state: FileState
    sha256: str
    picks: Picks
    diameter_px: float
    contrast: float | None


class Results:
    """The results of one model with one set of scales, below one folder: a file per micrograph.

    `key` names all that decides a result besides the micrograph's content. Several processes may
    write at once, even the same result: each file is that of one of them, and whole.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self._folder = folder / key

    def write(self, result: Result) -> None:
        """Keep a result. Raises OSError."""
        content = io.BytesIO()
        np.savez(
            content,
            centres=result.picks.centres,
            scores=result.picks.scores,
            shape=np.array([result.height_px, result.width_px]),
            state=np.array(
                [
                    result.state.size_bytes,
                    result.state.modified_ns,
                    result.state.changed_ns,
                    result.state.inode,
                ],
                np.int64,
            ),
            sha256=np.array(result.sha256),
            seen=np.array([result.diameter_px, result.contrast], np.float64),  # None is NaN
        )
        self._keep(self._place(result.path, "npz"), content.getvalue())

    def write_mask(self, path: Path, png: bytes, *, sha256: str) -> None:
        """Keep the mask of a micrograph whose content has this hash. Raises OSError."""
        self._keep(self._place(path, "mask"), sha256.encode() + png)

    def mask(self, path: Path, *, sha256: str) -> bytes | None:
        """The mask of a micrograph with this hash of its content, as PNG; None if none is whole."""
        body = _whole(self._place(path, "mask"))
        return body[_HEX_BYTES:] if body and body[:_HEX_BYTES] == sha256.encode() else None

    def remove_leftovers(self) -> None:
        """Remove the temporary files of killed writers. No other process may be writing."""
        for path in self._folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _keep(self, place: Path, body: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{platform.node()}-{os.getpid()}.tmp")
        with temporary.open("wb") as stream:
            stream.write(hashlib.sha256(body).digest() + body)
            stream.flush()
            os.fsync(stream.fileno())
        publish(temporary, place)

    def read(self, path: Path) -> Result | None:
        """The result of a micrograph, or None if there is none that is whole."""
        body = _whole(self._place(path, "npz"))
        if body is None:
            return None
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                found: dict[str, Any] = {name: arrays[name] for name in _FIELDS}
        except (ValueError, KeyError, zipfile.BadZipFile):
            return None
        height, width = map(int, found["shape"])
        diameter_px, contrast = map(float, found["seen"])
        return Result(
            path,
            height,
            width,
            state=FileState(*map(int, found["state"])),
            sha256=str(found["sha256"]),
            picks=Picks(found["centres"], found["scores"]),
            diameter_px=diameter_px,
            contrast=None if math.isnan(contrast) else contrast,
        )

    def _place(self, path: Path, kind: str) -> Path:
        place = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()
        return self._folder / f"{place[:24]}.{kind}"


def _whole(place: Path) -> bytes | None:
    """What `_keep` wrote; None if it is not there or damaged."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    body = content[_DIGEST_BYTES:]
    return body if hashlib.sha256(body).digest() == content[:_DIGEST_BYTES] else None
