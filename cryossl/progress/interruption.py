"""Signals that ask to end: the first stops the work after its current step, so nothing is lost.

Whichever signal it was and whatever the process did, its exit code is 130 in the end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cryossl.progress.events import OnProgress, Progress

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU")
    if hasattr(signal, name)
)
"""Ctrl-C, the end by a batch system, a closed terminal, Ctrl-\\, the limit of CPU time."""
EXIT_CODE = 130
MESSAGE = "interrupted; the same command continues from the last checkpoint"
GRACE_SECONDS = 8.0
"""A tracked run must be KILLED within ten seconds of the signal, and closing it takes time too."""
ECHO_SECONDS = 1.0
PARENT_VARIABLE = "CRYOSSL_ENDS_WITH_STDIN"

Handler = Callable[[int, FrameType | None], Any]


class _Count:
    """Tells a first signal from a further one, and a further one from the echo of the first.

    On Ctrl-C the terminal signals all processes of a command, and `mlflow run` passes the end on to
    its child as SIGTERM. So a signal of another kind within a second is the same request.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def __bool__(self) -> bool:
        return self._first is not None

    def echoes(self, number: int) -> bool:
        """Count a signal; whether it is the echo of the first."""
        now = time.monotonic()
        if self._first is None:
            self._first = number, now
            return False
        kind, moment = self._first
        return number not in (kind, signal.SIGALRM) and now - moment < ECHO_SECONDS


class Interruption:
    """Handles the signals: the first stops the work after its current step.

    A second signal interrupts at once, and so does a step that does not end in time.
    """

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._count = _Count()

    def after(self, report: OnProgress) -> OnProgress:
        """The same report; it raises KeyboardInterrupt once a signal has arrived."""

        def report_and_stop(event: Progress) -> None:
            report(event)
            if self._count:
                # The closing of runs follows; the alarm must not interrupt it.
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise KeyboardInterrupt

        return report_and_stop

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals, and of the alarm at the end of the grace period."""
        further = bool(self._count)
        if self._count.echoes(number):
            return
        if further or number == signal.SIGALRM:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _interrupt(frame)
        signal.setitimer(signal.ITIMER_REAL, self._grace_seconds)
        _write("\nstopping behind this step; once more stops at once\n")


def exit_at_once() -> None:
    """From now on let a signal end this process with code 130: there is no work to save yet."""
    for number in _wanted():
        signal.signal(number, _exit)


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Let each signal raise KeyboardInterrupt; a second one ends the process."""
    count = _Count()

    def handle(number: int, frame: FrameType | None) -> None:
        further = bool(count)
        if count.echoes(number):
            return
        if further:
            _exit()
        _interrupt(frame)

    with _handled(dict.fromkeys(_wanted(), handle)):
        yield


@contextmanager
def interruptible(*, grace_seconds: float = GRACE_SECONDS) -> Iterator[Interruption]:
    """Handle the signals in the block; they become KeyboardInterrupt in the end."""
    interruption = Interruption(grace_seconds=grace_seconds)
    try:
        with _handled(dict.fromkeys((*_wanted(), signal.SIGALRM), interruption.handle)):
            yield interruption
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_with_parent() -> None:
    """Where this process was started as a cell, end it as SIGTERM does when its parent is gone.

    The parent holds the other end of standard input. Nothing is written there, and the system
    closes it when the parent ends, however it ends.
    """
    if os.environ.pop(PARENT_VARIABLE, None) is None:
        return

    def wait() -> None:
        with suppress(OSError):
            os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _wanted() -> tuple[int, ...]:
    """The signals; without SIGHUP where it is ignored, because `nohup` says so."""
    return tuple(
        number
        for number in SIGNALS
        if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
    )


@contextmanager
def _handled(handlers: Mapping[int, Handler]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt; in the middle of an import end the process, for libraries catch it.

    numpy turns it into ImportError, and the work of a command begins after its imports.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _exit()
        frame = frame.f_back
    raise KeyboardInterrupt


def _exit(*_signal: object) -> NoReturn:
    _write(f"cryossl: error: {MESSAGE}\n")
    os._exit(EXIT_CODE)


def _write(text: str) -> None:
    """Write to standard error.

    Not through sys.stderr: a handler may have interrupted it in the middle of a line. The terminal
    may be closed.
    """
    with suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
