"""Checkpoints: the state of a training in a file.

A file is whole or absent, it is verified when it is read, and the last two are kept.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from cryossl.errors import StorageError
from cryossl.system.files import write_durably

EVERY_SECONDS = 30.0
GENERATIONS = 2

StateDict = dict[str, torch.Tensor]

# The digest is part of the name, so that one rename publishes content and digest together.
_NAME = re.compile(r"^checkpoint-(\d{10})-([0-9a-f]{64})\.pt$")
_STALE = ".checkpoint-*.tmp"


class Checkpoint:
    """The checkpoint of one training, in a folder of its own.

    The caller holds the folder's lock, so that one process at a time uses it.

    Args:
        folder: made if it is not there.
        every_seconds: time after a save at which the next one is due.
    """

    def __init__(self, folder: Path, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._folder = folder
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether `every_seconds` have passed since the last save."""
        return time.monotonic() - self._saved_at >= self._every_seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state: tensors, numbers, text and None, in lists and dicts.

        Raises StorageError if the file cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = self._found()
            serial = found[0][0] + 1 if found else 0
            write_durably(
                self._folder / f"checkpoint-{serial:010d}-{hashlib.sha256(content).hexdigest()}.pt",
                content,
            )
            for _serial, _digest, path in found[GENERATIONS - 1 :]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write a checkpoint of {len(content)} bytes in {self._folder}: "
                f"{error.strerror}",
                cure="free space; the last checkpoint is intact",
            ) from None
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, with its tensors on the CPU; None if there is none.

        A damaged file is removed, and the one before it is read. Temporary files of killed writers
        are removed. Raises StorageError if a file cannot be read at all.
        """
        try:
            for stale in self._folder.glob(_STALE):
                stale.unlink(missing_ok=True)
            for _serial, digest, path in self._found():
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() == digest:
                    return _parse(content, path)
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot read the checkpoint in {self._folder}: {error.strerror}",
                cure="check the permissions of the folder",
            ) from None
        return None

    def discard(self) -> None:
        """Remove all files; the caller has written the result elsewhere."""
        for path in [*(path for _, _, path in self._found()), *self._folder.glob(_STALE)]:
            path.unlink(missing_ok=True)

    def _found(self) -> list[tuple[int, str, Path]]:
        """(serial, digest, path) of each generation, newest first."""
        if not self._folder.is_dir():
            return []
        named = ((path, _NAME.match(path.name)) for path in self._folder.iterdir())
        return sorted(
            ((int(match[1]), match[2], path) for path, match in named if match), reverse=True
        )


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    """The state in a file's content; `weights_only`, so that no code in it is run."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise StorageError(
            f"{path} is no checkpoint: {str(error).splitlines()[0]}", cure="remove it"
        ) from None
    if not isinstance(state, dict):
        raise StorageError(f"{path} is no checkpoint", cure="remove it")
    return state


def save_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a model's weights as safetensors. Raises StorageError."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", cure="free space or choose another folder"
        ) from None


def load_weights(path: Path) -> StateDict:
    """The weights in a safetensors file, on the CPU. Raises StorageError."""
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    except SafetensorError:
        raise StorageError(
            f"{path} is not a whole safetensors file", cure="remove it; it is made again"
        ) from None
