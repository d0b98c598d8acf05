"""How work below `launch` tells of itself: one callback, one kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a phase are finished, e.g. ("decode", 8, 52, "batch")."""

    phase: str
    done: int
    total: int
    unit: str


Report = Callable[[Progress], None]


def silent(_event: Progress) -> None:
    """Report nothing."""
