"""What a run is doing now: a live file for other processes, and a log file for `tail -f`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import TypeAdapter, ValidationError

from cryossl.errors import StorageError
from cryossl.progress.eta import Pace, PlannedPhase, Whole, duration_text
from cryossl.progress.events import Progress
from cryossl.system.process import lives
from cryossl.system.user_files import counted_from

State = Literal["running", "finished", "failed", "stopped"]

SECONDS_BETWEEN_WRITES = 0.5
MESSAGES_KEPT = 12


@dataclass(frozen=True)
class Status:
    """The content of a run's live file.

    Times are seconds since 1970; remaining times are seconds, or None if unknown.
    """

    run: str
    pid: int
    host: str
    process_started: float
    started: float
    updated: float
    state: State = "running"
    title: str = ""
    phase: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    upcoming: tuple[str, ...] = ()
    phase_seconds_left: float | None = None
    whole_seconds_left: float | None = None
    messages: tuple[str, ...] = ()
    alive: bool | None = None
    """Whether the process lives; None where this host cannot know. Set by `read_status`.
    """


class StatusFile:
    """The live file of one run, written whole or not at all.

    It is written at most twice a second during a phase. It is a view for people: a resumed run
    reads nothing from it, so it is not synced to the disk.
    """

    def __init__(self, path: Path, *, run: str, plan: Sequence[PlannedPhase] = ()) -> None:
        now = time.time()
        self._path = path
        # The pace of the current count, and the pace of the counts that measure the plan's phases.
        self._pace, self._whole = Pace(plan), Pace(plan)
        self._written = float("-inf")
        self._status = Status(
            run=run,
            pid=os.getpid(),
            host=platform.node(),
            process_started=psutil.Process().create_time(),
            started=now,
            updated=now,
            upcoming=self._pace.upcoming(),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def begin(self, title: str) -> None:
        """Start a phase of the plan."""
        self._pace.begin(title)
        self._whole.begin(title)
        self._status = replace(self._status, title=title, phase="", done=0, total=0, unit="")
        self._write()

    def update(self, event: Progress) -> None:
        """Show the progress of the work inside the phase; this is an `OnProgress`."""
        same = event.phase == self._status.phase
        if event.total > 0:
            fraction, now = min(1.0, event.done / event.total), time.monotonic()
            self._pace.progress(fraction=fraction, seconds=now, anew=not same)
            if self._whole.measured_by(event.phase):
                self._whole.progress(fraction=fraction, seconds=now, anew=not same)
        self._status = replace(
            self._status,
            phase=event.phase,
            done=event.done,
            total=event.total,
            unit=event.unit,
            title=self._status.title or event.phase,
        )
        due = time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES
        if due or not same or 0 < event.total <= event.done:
            self._write()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take the expected seconds of the planned phases, by title."""
        self._whole.expect(seconds)
        self._write()

    def whole(self) -> Whole:
        """How far the whole run is."""
        return Whole(
            self._status.title, self._whole.whole_fraction(), self._whole.whole_seconds_left()
        )

    def message(self, text: str) -> None:
        """Keep a key message; the last twelve are shown."""
        self._status = replace(
            self._status, messages=(*self._status.messages, text)[-MESSAGES_KEPT:]
        )
        self._write()

    def close(self, state: State) -> None:
        """Record how the run ended."""
        self._status = replace(self._status, state=state, upcoming=())
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        running = self._status.state == "running"
        self._status = replace(
            self._status,
            updated=time.time(),
            upcoming=self._pace.upcoming() if running else (),
            phase_seconds_left=self._pace.phase_seconds_left() if running else None,
            whole_seconds_left=self._whole.whole_seconds_left() if running else None,
        )
        record = asdict(self._status)
        del record["alive"]  # for the reader to find out
        part = self._path.with_name(f"{self._path.name}.part")
        # A live file that cannot be written does not stop the run; a full disk stops it at its next
        # checkpoint, with a cure.
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(self._path)


def read_status(path: Path) -> Status:
    """Read a run's live file, and check now whether its process lives.

    Raises StorageError if the file is missing or damaged.
    """
    try:
        status = TypeAdapter(Status).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StorageError(
            f"no run has written {path}{counted_from(path)}",
            cure="start one with `python cli.py run`",
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise StorageError(f"{path} is not the live file of a run of this version") from None
    alive = lives(status.pid, host=status.host, started=status.process_started)
    return replace(status, alive=alive)


def status_as_dict(status: Status) -> dict[str, Any]:
    """The status as values of JSON."""
    return asdict(status)


def render_status(status: Status) -> str:
    """The status as lines for a person."""
    lines = [_headline(status)]
    if status.state == "running":
        if status.title:
            lines.append(f"⏳ {_position(status)}{_left(status.phase_seconds_left)}")
        words = ("Next", *("Then" for _ in status.upcoming))
        lines += [
            f"⏳ {word}: {title}" for word, title in zip(words, status.upcoming[:3], strict=False)
        ]
        if len(status.upcoming) > 3:
            lines.append(f"⏳ and {len(status.upcoming) - 3} more")
        if status.whole_seconds_left is not None:
            lines.append(f"⏱ Whole run:{_left(status.whole_seconds_left).removeprefix(',')}")
    if status.messages:
        lines += ["", *status.messages]
    return "\n".join(lines)


class TrainingLog:
    """A text file of time-stamped lines, unbuffered, so that `tail -f` shows them at once.

    A second start of the same run appends to the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        torn = _ends_within_a_line(path)
        # Unbuffered: close() does not write a line again that the disk refused.
        self._file = path.open("ab", buffering=0)
        if torn:
            self._file.write(b"\n")

    def line(self, text: str) -> None:
        """Append a message; each of its lines has the time.

        Raises StorageError if the disk refuses.
        """
        stamp = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        lines = "".join(f"{stamp}  {part}\n" for part in text.splitlines() or [""])
        try:
            self._file.write(lines.encode())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}", cure="free some space"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _headline(status: Status) -> str:
    process = f"process {status.pid} on {status.host}"
    took = duration_text(status.updated - status.started)
    if status.state == "finished":
        return f"✅ Finished after {took} ({process})"
    if status.state != "running":
        ended = "❌ Failed" if status.state == "failed" else "⏹ Stopped"
        return f"{ended} after {took} ({process}); the same command continues it"
    if status.alive is False:
        return (
            f"❌ Not running: {process} is gone, last heard of after {took}; the same command "
            "continues it"
        )
    if status.alive:
        return f"✅ Running ({process})"
    return f"❔ Running, as far as this host can know ({process}); last heard of {_age(status)} ago"


def _age(status: Status) -> str:
    return duration_text(time.time() - status.updated)


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _position(status: Status) -> str:
    doing = "" if status.phase in ("", status.title) else f": {status.phase}"
    return f"{status.title}{doing}" + (
        f" ({status.unit} {status.done}/{status.total})" if status.total else ""
    )


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {duration_text(seconds)} left"
