"""How work below `launch` tells of itself: one callback, one kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a phase are finished, e.g. ("decode", 8, 52, "batch").

    `resumed`: they were finished by an earlier start, and the work goes on from there.
    """

    phase: str
    done: int
    total: int
    unit: str
    resumed: bool = False


OnProgress = Callable[[Progress], None]
"""Called between two steps of the work.

It may raise KeyboardInterrupt: a step that is done stays done.
"""


def silent(_event: Progress) -> None:
    """OnProgress nothing."""
