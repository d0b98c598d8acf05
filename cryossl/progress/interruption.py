"""Ctrl-C and SIGTERM: the first asks the work to stop behind its next step, so that nothing that was done is lost."""

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
"""A tracked run is to be KILLED within ten seconds of the signal, and closing it takes a moment too."""


class Interruption:
    """Whether somebody asked to stop.

    A second signal, or none of the work's steps ending in time, interrupts at once.
    """

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._prediction_inputs = False

    def asked(self) -> bool:
        """Whether the work is to stop behind this step: what can be saved should be saved now."""
        return self._prediction_inputs

    def after(self, report: OnProgress) -> OnProgress:
        """The same report, for work that reports between its steps:

        KeyboardInterrupt once it is asked to stop.
        """

        def report_and_stop(event: Progress) -> None:
            report(event)
            if self._prediction_inputs:
                signal.setitimer(
                    signal.ITIMER_REAL, 0
                )  # what follows is the closing, which is not to be interrupted
                raise KeyboardInterrupt

        return report_and_stop

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals, and of the alarm that ends the grace."""
        if self._prediction_inputs or number == signal.SIGALRM:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt
        self._prediction_inputs = True
        signal.setitimer(signal.ITIMER_REAL, self._grace_seconds)
        # Not by way of sys.stderr, which this handler may have interrupted in the middle of a line.
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2,
            b"\nstopping behind this step; once more stops at once\n",
        )


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Turn SIGTERM into the exception that Ctrl-C raises, for a process that has no work of its own to save."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(*, grace_seconds: float = GRACE_SECONDS) -> Iterator[Interruption]:
    """Hear SIGINT and SIGTERM while the block runs; both leave it as KeyboardInterrupt, so that all is closed in order."""
    interruption = Interruption(grace_seconds=grace_seconds)
    before = {
        number: signal.signal(number, interruption.hear)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    try:
        yield interruption
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
