"""Progress as bars with the remaining time on a terminal, elsewhere as plain lines."""

from __future__ import annotations

import time
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from cryossl.progress.eta import duration_text
from cryossl.progress.events import Progress
from cryossl.progress.streams import while_read

SECONDS_BETWEEN_LINES = 5.0


class ProgressConsole:
    """Shows events on `stream`; a context manager, and itself an `OnProgress`.

    On a terminal the current phase is one bar, and a phase that ended stays as a finished bar.
    Elsewhere (a file, a pipe, a batch job's log) a phase has a line when it starts, a line every
    few seconds, and a line at its end.
    """

    def __init__(
        self, stream: IO[str], *, seconds_between_lines: float = SECONDS_BETWEEN_LINES
    ) -> None:
        self._stream = stream
        self._between = seconds_between_lines
        self._phase: tuple[str, int] | None = None
        self._started = (0, 0.0)
        self._done = 0
        self._shown = 0.0
        self._task: TaskID | None = None
        self._bars = _bars(stream)

    def __enter__(self) -> ProgressConsole:
        if self._bars is not None:
            with while_read(self._stream):
                self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bars is not None:
            with while_read(self._stream):
                self._bars.stop()

    def __call__(self, event: Progress) -> None:
        """Show one event.

        A new phase starts if the name or the total changes, or if the count falls.
        """
        new = self._phase != (event.phase, event.total) or event.done < self._done
        self._done = event.done
        if new:
            self._phase = (event.phase, event.total)
            self._started = (event.done, time.monotonic())
        if self._bars is None:
            self._show_line(event, new=new)
        else:
            with while_read(self._stream):
                self._show_bar(event, self._bars, new=new)

    def line(self, text: str) -> None:
        """Show a message above the bars.

        Raises KeyboardInterrupt if the reader of a pipe has left.
        """
        with while_read(self._stream):
            if self._bars is None:
                self._stream.write(f"{text}\n")
                self._stream.flush()
            else:
                self._bars.console.print(text, markup=False, highlight=False)

    def _show_bar(self, event: Progress, bars: Bars, *, new: bool) -> None:
        if new or self._task is None:
            if self._task is not None:
                bars.stop_task(self._task)
            self._task = bars.add_task(event.phase, total=event.total, unit=event.unit)
        bars.update(self._task, completed=event.done)

    def _show_line(self, event: Progress, *, new: bool) -> None:
        now = time.monotonic()
        if not new and event.done < event.total and now - self._shown < self._between:
            return
        self._shown = now
        self.line(f"{event.phase}: {event.unit} {event.done}/{event.total}{self._left(event, now)}")

    def _left(self, event: Progress, now: float) -> str:
        first, began = self._started
        if event.done <= first or event.done >= event.total:
            return ""
        return (
            ", about "
            f"{duration_text((event.total - event.done) * (now - began) / (event.done - first))} "
            "left"
        )


def _bars(stream: IO[str]) -> Bars | None:
    console = Console(file=stream)
    if not stream.isatty() or console.is_dumb_terminal:
        return None
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
