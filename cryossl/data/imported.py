"""The file that `data import` leaves in a data folder: what was imported, and how it was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryossl.errors import DataError
from cryossl.system.user_files import read_json

IMPORT_FILE = "import.json"
_MAX_BYTES = 2**24


def reading_of(folder: Path) -> dict[str, Any] | None:
    """How `data import` read the coordinates of a data folder's labels, as it wrote it down.

    None for a folder that it has not made, and for a file that is damaged: no number needs it.
    """
    try:
        document = read_json(folder / IMPORT_FILE, max_bytes=_MAX_BYTES)
    except (DataError, OSError):
        return None
    reading = document.get("reading") if isinstance(document, dict) else None
    return reading if isinstance(reading, dict) else None
