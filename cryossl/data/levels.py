"""What the bytes of a normalised picture mean."""

from __future__ import annotations

NEUTRAL = 128
"""The normalised value of the median. Windows are filled with it beyond the edge of a picture."""
LARGEST_Z = 5.0
"""Normalised pictures are clipped to z scores of at most this size."""
LEVELS_PER_Z = 25.5
"""Byte v of a normalised picture is the z score v / LEVELS_PER_Z - LARGEST_Z."""
