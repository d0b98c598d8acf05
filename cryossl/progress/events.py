"""How work reports its progress: one callback, one kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a phase are finished, e.g. ("decode", 8, 52, "batch").

    `resumed`: an earlier start finished them, and the work goes on from there.
    """

    phase: str
    done: int
    total: int
    unit: str
    resumed: bool = False


OnProgress = Callable[[Progress], None]
"""Called between two steps of the work.

It may raise KeyboardInterrupt; finished steps are kept.
"""


def silent(_event: Progress) -> None:
    """Report nothing: an `OnProgress` for work that nobody watches."""
