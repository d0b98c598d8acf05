"""The cells of a sweep at work, so many at a time: one that fails stops no other, and none outlives its sweep unasked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cryossl.errors import CryosslError, StorageError
from cryossl.progress.eta import duration_text
from cryossl.progress.events import Progress
from cryossl.progress.narrator import STATUS_FILE, Narrator
from cryossl.progress.status import read_status
from cryossl.sweep.executors import Executor, Job, last_line
from cryossl.sweep.grid import Cell, fraction_done
from cryossl.system.files import write_durably
from cryossl.system.folder_lock import held_by

SETTINGS_FILE, LOG_FILE = "settings.yaml", "output.log"
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True)
class Planned:
    """A cell that is to run: the key of its numbers, and its cost in predicted tiles (a training step counts for several)."""

    cell: Cell
    key: str
    cost: float

    @property
    def folder(self) -> Path:
        """The cell's results folder."""
        return self.cell.config.run.folder


@dataclass(frozen=True)
class Failure:
    """A cell that did not finish, and why."""

    planned: Planned
    code: int
    said: str


@dataclass
class _AtWork:
    """A cell on its way; without a job it is one that an earlier start of the sweep left behind, and is waited for."""

    planned: Planned
    job: Job | None
    began: float
    fraction: float = 0.0


class Schedule:
    """Starts cells as places become free, until all have ended."""

    def __init__(
        self,
        todo: Sequence[Planned],
        executor: Executor,
        *,
        jobs: int,
        narrator: Narrator,
        finished: Callable[[Planned, float], None],
    ) -> None:
        """Plan the cells.

        Args:
            todo: the cells in the order in which they are started.
            executor: starts them.
            jobs: how many at a time.
            narrator: is told what starts and ends, and how far all of it is.
            finished: hears each cell that ended well, and the seconds it took.
        """
        self._waiting = deque(todo)
        self._executor, self._jobs, self._narrator, self._finished = (
            executor,
            jobs,
            narrator,
            finished,
        )
        self._at_work: list[_AtWork] = []
        self._failures: list[Failure] = []
        self._count, self._ended_count, self._behind = len(todo), 0, 0.0
        self._total = max(1, round(sum(one.cost for one in todo)))

    def work(self) -> list[Failure]:
        """Run all cells; those that failed.

        Left by an exception, it ends what it started: each cell keeps a checkpoint.
        """
        told = float("-inf")
        try:
            while self._waiting or self._at_work:
                self._fill()
                if time.monotonic() - told >= SECONDS_BETWEEN_REPORTS:
                    told = time.monotonic()
                    self._tell()
                time.sleep(SECONDS_BETWEEN_LOOKS)
                self._collect()
            self._tell()
        finally:
            jobs = [one.job for one in self._at_work if one.job is not None]
            for job in jobs:
                job.terminate()
            for job in jobs:
                job.wait()
        return self._failures

    def _fill(self) -> None:
        while self._waiting and len(self._at_work) < self._jobs:
            planned = self._waiting.popleft()
            title = planned.cell.title
            holder = held_by(planned.folder)
            try:
                job = None if holder else self._started(planned)
            except CryosslError as error:
                self._end(planned, error.exit_code, str(error))
                continue
            self._narrator.say(
                f"⏳ {title} is held by {holder}, left by an earlier start; waiting for it"
                if holder
                else f"▸ {title}"
            )
            self._at_work.append(_AtWork(planned, job, time.time()))

    def _collect(self) -> None:
        for one in list(self._at_work):
            if one.job is None:
                if held_by(one.planned.folder) is None:
                    self._at_work.remove(one)
                    self._waiting.appendleft(
                        one.planned
                    )  # a start of its own finds what is finished, and says how it ended
                continue
            code = one.job.poll()
            if code is None:
                continue
            self._at_work.remove(one)
            if code:
                self._end(
                    one.planned,
                    code,
                    f"{last_line(one.planned.folder / LOG_FILE)} ({one.planned.folder / LOG_FILE})",
                )
                continue
            seconds = time.time() - one.began
            self._finished(one.planned, seconds)
            self._end(one.planned, 0, f"after {duration_text(seconds)}")

    def _started(self, planned: Planned) -> Job:
        """The cell's job. Raises CryosslError."""
        settings = planned.folder / SETTINGS_FILE
        try:
            planned.folder.mkdir(parents=True, exist_ok=True)
            content = yaml.safe_dump(
                planned.cell.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            )
            write_durably(settings, content.encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {error.filename or settings}: {error.strerror}",
                cure="remove what is in its place, or free space",
            ) from None
        return self._executor.start(settings, planned.folder / LOG_FILE)

    def _end(self, planned: Planned, code: int, said: str) -> None:
        self._ended_count += 1
        self._behind += planned.cost
        if code:
            self._failures.append(Failure(planned, code, said))
        self._narrator.say(
            f"{'❌' if code else '✅'} {planned.cell.title} {'failed: ' if code else ''}{said} "
            f"[{self._ended_count}/{self._count}]"
        )

    def _tell(self) -> None:
        for one in self._at_work:
            one.fraction = max(one.fraction, _fraction(one))
        done = self._behind + sum(one.planned.cost * one.fraction for one in self._at_work)
        most = self._total - bool(
            self._waiting or self._at_work
        )  # the last tile is done when the last cell has ended
        self._narrator(Progress("sweep", min(most, round(done)), self._total, "tile"))


def _fraction(one: _AtWork) -> float:
    """How far a cell is, from its live file."""
    try:
        status = read_status(one.planned.folder / STATUS_FILE)
    except StorageError:
        return 0.0
    if status.state != "running" or (one.job is not None and status.started < one.began):
        return 0.0  # an earlier start's
    return fraction_done(
        elapsed_seconds=status.updated - status.started, seconds_left=status.whole_seconds_left
    )
