"""The digest of a value, which names content. Pure."""

from __future__ import annotations

import hashlib
import json


def digest(value: object) -> str:
    """SHA-256 in hex of a value's canonical JSON.

    Equal values have equal digests on any machine. Raises ValueError for NaN and infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
