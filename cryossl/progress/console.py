"""Progress as bars with the remaining time on a terminal, elsewhere as a few plain lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import IO, Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from cryossl.progress.eta import Whole, clock_text, duration_text
from cryossl.progress.events import Progress
from cryossl.progress.streams import while_read
from cryossl.progress.terminal import LEAST_WIDTH, wrapped

MOST_SECONDS_BETWEEN_LINES = 60.0
LEAST_SECONDS_BETWEEN_LINES = 5.0
FRACTION_BETWEEN_LINES = 0.05
DETAILS_SHOWN = 3
WHOLE_RUN = "whole run"
LEFT_WIDTH = len("59 min 59 s left")


class ProgressConsole:
    """Shows events on `stream`; a context manager, and itself an `OnProgress`.

    On a terminal there are two bars at its lower end: the whole run, if it is planned, and what is
    done now. A phase that has ended leaves one line above them. Elsewhere (a file, a pipe, a batch
    job's log) there is a line when 5% of the work or a minute has passed, but not one every few
    seconds.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        most_seconds: float = MOST_SECONDS_BETWEEN_LINES,
        least_seconds: float = LEAST_SECONDS_BETWEEN_LINES,
    ) -> None:
        self._stream = stream
        self._most_seconds, self._least_seconds = most_seconds, least_seconds
        self._event: Progress | None = None
        self._started = (0, 0.0)
        self._last_line = (0.0, time.monotonic())
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
        """Show one event of work that is not planned: its count is all there is."""
        self.show(event, None)

    def show(self, event: Progress, whole: Whole | None) -> None:
        """Show one event, and how far the whole run is.

        A new count starts if the name or the total changes, or if the number falls.
        """
        before, now = self._event, time.monotonic()
        if whole is not None and whole.fraction is None:
            whole = None  # nothing is planned
        if (
            before is None
            or (before.phase, before.total) != (event.phase, event.total)
            or event.done < before.done
        ):
            self._started = (event.done, now)
            if whole is None:
                self._last_line = (_fraction(event), now)
        self._event = event
        if self._bars is not None:
            with while_read(self._stream):
                self._bars.show(event, whole, seconds_left=self._seconds_left(event, now))
        elif self._is_due(event, whole, now):
            self.line(_progress_line(event, whole, self._seconds_left(event, now)))
        if whole is None and event.done >= event.total > 0 and self._bars is not None:
            took = clock_text(now - self._started[1])
            self.line(f"✓ {event.phase}: {event.unit} {event.done}/{event.total}, {took}")

    def begin(self, title: str) -> None:
        """Start a phase of a planned run."""
        if self._bars is None:
            self.line(f"\n▸ {title}")
        else:
            self._bars.forget()

    def detail(self, text: str) -> None:
        """Show what belongs to the current phase: on a terminal until the phase ends."""
        if self._bars is None:
            self.line(text)
        else:
            self._bars.details.append(text)

    def line(self, text: str) -> None:
        """Show a message above the bars.

        Raises KeyboardInterrupt if the reader of a pipe has left.
        """
        with while_read(self._stream):
            if self._bars is None:
                self._stream.write(f"{text}\n")
                self._stream.flush()
            else:
                self._bars.say(text)

    def _is_due(self, event: Progress, whole: Whole | None, now: float) -> bool:
        """Whether a line is due where there is no terminal; if so, it counts as written."""
        fraction = _fraction(event) if whole is None else whole.fraction or 0.0
        then, at = self._last_line
        due = (
            now - at >= self._most_seconds
            or (fraction - then >= FRACTION_BETWEEN_LINES and now - at >= self._least_seconds)
            or (whole is None and event.done >= event.total)
        )
        if due:
            self._last_line = (fraction, now)
        return due

    def _seconds_left(self, event: Progress, now: float) -> float | None:
        first, began = self._started
        if event.done <= first or event.done >= event.total:
            return None
        return (event.total - event.done) * (now - began) / (event.done - first)


class _Bars(RichProgress):
    """Two bars, and above them the newest details of the current phase."""

    def __init__(self, console: Console) -> None:
        self.details: deque[str] = deque(maxlen=DETAILS_SHOWN)
        self._now: TaskID | None = None
        self._whole: TaskID | None = None
        super().__init__(
            TextColumn(
                "{task.description}", markup=False, table_column=_one_line(ratio=5, justify="left")
            ),
            BarColumn(bar_width=None, table_column=_one_line(ratio=3, justify="left")),
            TextColumn(
                "{task.fields[count]}", markup=False, table_column=_one_line(justify="right")
            ),
            TextColumn(
                "{task.fields[left]}",
                markup=False,
                table_column=_one_line(justify="right", min_width=LEFT_WIDTH),
            ),
            console=console,
            expand=True,
            transient=True,
            refresh_per_second=4,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """The details, each cut to one line, then the bars."""
        for detail in self.details:
            yield Text(detail, no_wrap=True, overflow="ellipsis", style="dim")
        yield from super().get_renderables()

    def forget(self) -> None:
        """Take the details of the phase that has ended away."""
        self.details.clear()

    def say(self, text: str) -> None:
        """Print above the bars; a line that is too long goes on below its own beginning.

        Neither a command nor a link is broken, because half of it would be copied.
        """
        for line in text.split("\n"):
            double = cell_len(line) - len(line)  # letters that take two columns
            for part in wrapped(line, max(LEAST_WIDTH, self.console.width - double)).split("\n"):
                whole = "://" in part or "`" in part
                self.console.print(Text(part), highlight=False, soft_wrap=whole)

    def show(self, event: Progress, whole: Whole | None, *, seconds_left: float | None) -> None:
        """Move the bars."""
        if self._now is None:
            self._now = self.add_task("", total=1, count="", left="")
        self.update(
            self._now,
            description=_where(event, whole),
            total=max(1, event.total),
            completed=event.done,
            count=f"{event.done}/{event.total} {event.unit}",
            left=_left(seconds_left),
        )
        if whole is None:
            return
        fraction = whole.fraction or 0.0
        if self._whole is None:
            self._whole = self.add_task(WHOLE_RUN, total=1, count="", left="")
        self.update(
            self._whole,
            completed=fraction,
            count=f"{100 * fraction:.0f}%",
            left=_left(whole.seconds_left),
        )


def _bars(stream: IO[str]) -> _Bars | None:
    console = Console(file=stream)
    return None if not stream.isatty() or console.is_dumb_terminal else _Bars(console)


def _one_line(
    *, justify: Literal["left", "right"], ratio: int | None = None, min_width: int | None = None
) -> Column:
    return Column(
        ratio=ratio, min_width=min_width, justify=justify, no_wrap=True, overflow="ellipsis"
    )


def _fraction(event: Progress) -> float:
    return event.done / event.total if event.total else 0.0


def _where(event: Progress, whole: Whole | None) -> str:
    named = whole is not None and whole.title not in ("", event.phase)
    return f"{whole.title}, {event.phase}" if whole is not None and named else event.phase


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration_text(seconds)} left"


def _progress_line(event: Progress, whole: Whole | None, seconds_left: float | None) -> str:
    line = f"{_where(event, whole)}: {event.unit} {event.done}/{event.total}"
    if whole is not None:
        line += f"; {WHOLE_RUN} {100 * (whole.fraction or 0.0):.0f}%"
        seconds_left = whole.seconds_left
    return line + (f", about {_left(seconds_left)}" if seconds_left is not None else "")
