"""Ctrl-C and SIGTERM: the first signal stops the work after its current step.

So nothing that was done is lost.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from cryossl.progress.events import OnProgress, Progress

GRACE_SECONDS = 8.0
"""A tracked run must be KILLED within ten seconds of the signal, and closing it takes time too."""


class Interruption:
    """Handles the signals: the first stops the work after its current step.

    A second signal interrupts at once, and so does a step that does not end in time.
    """

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._requested = False

    def after(self, report: OnProgress) -> OnProgress:
        """The same report; it raises KeyboardInterrupt once a signal has arrived."""

        def report_and_stop(event: Progress) -> None:
            report(event)
            if self._requested:
                # The closing of runs follows; the alarm must not interrupt it.
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise KeyboardInterrupt

        return report_and_stop

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals, and of the alarm at the end of the grace period."""
        if self._requested or number == signal.SIGALRM:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt
        self._requested = True
        signal.setitimer(signal.ITIMER_REAL, self._grace_seconds)
        # Not through sys.stderr: this handler may have interrupted it in the middle of a line.
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2,
            b"\nstopping behind this step; once more stops at once\n",
        )


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, in a process without work to save."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(*, grace_seconds: float = GRACE_SECONDS) -> Iterator[Interruption]:
    """Handle SIGINT and SIGTERM in the block; both become KeyboardInterrupt in the end."""
    interruption = Interruption(grace_seconds=grace_seconds)
    before = {
        number: signal.signal(number, interruption.handle)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    try:
        yield interruption
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
