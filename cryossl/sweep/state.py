"""The file of a sweep that is kept between starts.

It says which cells have finished, and with how many CPU threads all of them run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryossl.errors import StorageError
from cryossl.system.files import write_durably

SCHEMA = "cryossl-sweep/1"
STATE_FILE = "sweep.json"


class SweepState:
    """The state file of one sweep. The caller holds the lock of the sweep's folder.

    A damaged file counts as empty. The cells that it named are then run again, and find their
    stages finished.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads, self._finished = _read(path)

    @property
    def threads(self) -> int | None:
        """CPU threads of each cell, as the first start chose them; None before that."""
        return self._threads

    def keep_threads(self, count: int) -> None:
        """Write the number of CPU threads of each cell, for later starts.

        Results with another number of threads agree to rounding only. Raises StorageError.
        """
        if count != self._threads:
            self._threads = count
            self._write()

    def fingerprint(self, key: str) -> str | None:
        """The fingerprint in the tracked runs of a finished cell; None if it has not finished."""
        return self._finished.get(key, {}).get("fingerprint")

    def record(self, key: str, *, fingerprint: str, facts: Mapping[str, Any]) -> None:
        """Write that a cell has finished; no code reads `facts`. Raises StorageError."""
        self._finished[key] = {**facts, "fingerprint": fingerprint}
        self._write()

    def __len__(self) -> int:
        return len(self._finished)

    def _write(self) -> None:
        document = {"schema": SCHEMA, "threads": self._threads, "finished": self._finished}
        try:
            write_durably(self._path, (json.dumps(document, indent=1) + "\n").encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {self._path}: {error.strerror or error}",
                cure="free space, or choose another folder with --results",
            ) from None


def _read(path: Path) -> tuple[int | None, dict[str, dict[str, Any]]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, {}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None, {}
    threads, finished = document.get("threads"), document.get("finished")
    entries = finished.items() if isinstance(finished, dict) else ()
    return (
        threads if isinstance(threads, int) and threads > 0 else None,
        {
            key: entry
            for key, entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("fingerprint"), str)
        },
    )
