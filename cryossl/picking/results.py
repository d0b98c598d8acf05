"""What a model found on one micrograph, as a durable file: the base of resuming `pick`.

All candidates are kept, also those below the threshold, so another threshold, limit or format needs
no network.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryossl.data.store.file_hashes import FileState
from cryossl.evaluation.picking import Picks
from cryossl.system.files import write_durably

_FIELDS = ("centres", "scores", "shape", "state", "sha256", "seen")


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

    `key` names all that decides a result besides the micrograph's content.
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
        self._folder.mkdir(parents=True, exist_ok=True)
        body = content.getvalue()
        write_durably(self._place(result.path), hashlib.sha256(body).digest() + body)

    def read(self, path: Path) -> Result | None:
        """The result of a micrograph, or None if there is none that is whole."""
        try:
            content = self._place(path).read_bytes()
        except OSError:
            return None
        body = content[32:]
        if hashlib.sha256(body).digest() != content[:32]:
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

    def _place(self, path: Path) -> Path:
        place = hashlib.sha256(str(path.absolute()).encode(errors="surrogateescape")).hexdigest()
        return self._folder / f"{place[:24]}.npz"
