"""Run the cells of a sweep, so many at a time.

A cell that fails does not stop the others. A sweep that is interrupted ends its cells.
"""

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
class PlannedCell:
    """A cell that is to run.

    Attributes:
        cell: with its results folder.
        key: digest of what decides its numbers.
        made_from: digest of the data and the code that it was planned with.
        cost: in predicted tiles; a training step counts for several.
    """

    cell: Cell
    key: str
    made_from: str
    cost: float

    @property
    def folder(self) -> Path:
        """The cell's results folder."""
        return self.cell.config.run.folder


@dataclass(frozen=True)
class Failure:
    """A cell that failed, its exit code (minus the signal that ended it), and the reason."""

    planned: PlannedCell
    code: int
    reason: str


@dataclass
class _RunningCell:
    """A cell that runs; without a job it was started by an earlier start of the sweep."""

    planned: PlannedCell
    job: Job | None
    began: float
    fraction_done: float = 0.0


class Schedule:
    """Starts cells as places become free, until all have ended."""

    def __init__(
        self,
        todo: Sequence[PlannedCell],
        executor: Executor,
        *,
        jobs: int,
        narrator: Narrator,
        on_finished: Callable[[PlannedCell, float], None],
    ) -> None:
        """Plan the cells.

        Args:
            todo: the cells in the order in which they are started.
            executor: starts them.
            jobs: how many at a time.
            narrator: reports what starts and ends, and the progress of all cells together.
            on_finished: called with each cell that ended well, and the seconds that it took.
        """
        self._waiting = deque(todo)
        self._executor, self._jobs = executor, jobs
        self._narrator, self._on_finished = narrator, on_finished
        self._running: list[_RunningCell] = []
        self._failures: list[Failure] = []
        self._count, self._ended_count, self._ended_cost = len(todo), 0, 0.0
        self._total_cost = max(1, round(sum(each.cost for each in todo)))

    def run(self) -> list[Failure]:
        """Run all cells, and return those that failed.

        If an exception ends this method, the cells that it started are ended too. Each of them
        keeps a checkpoint.
        """
        reported_at = float("-inf")
        try:
            while self._waiting or self._running:
                self._start_cells()
                if time.monotonic() - reported_at >= SECONDS_BETWEEN_REPORTS:
                    reported_at = time.monotonic()
                    self._report_progress()
                time.sleep(SECONDS_BETWEEN_LOOKS)
                self._collect_ended()
            self._report_progress()
        finally:
            jobs = [each.job for each in self._running if each.job is not None]
            for job in jobs:
                job.terminate()
            for job in jobs:
                job.wait()
        return self._failures

    def _start_cells(self) -> None:
        """Start cells on the free places; wait for one that an earlier start has left running."""
        while self._waiting and len(self._running) < self._jobs:
            planned = self._waiting.popleft()
            title = planned.cell.title
            holder = held_by(planned.folder)
            try:
                job = None if holder else self._start(planned)
            except CryosslError as error:
                self._end(planned, error.exit_code, str(error))
                continue
            self._narrator.detail(
                f"⏳ {title} is held by {holder}, left by an earlier start; waiting for it"
                if holder
                else f"▸ {title}"
            )
            self._running.append(_RunningCell(planned, job, time.time()))

    def _collect_ended(self) -> None:
        """Take the cells that have ended off their places, and report how each of them ended."""
        for running in list(self._running):
            planned = running.planned
            if running.job is None:
                if held_by(planned.folder) is None:
                    self._running.remove(running)
                    # How it ended is not known here. Started again, it finds its finished stages.
                    self._waiting.appendleft(planned)
                continue
            code = running.job.poll()
            if code is None:
                continue
            self._running.remove(running)
            if code:
                log = planned.folder / LOG_FILE
                self._end(planned, code, f"{last_line(log)} ({log})")
                continue
            seconds = time.time() - running.began
            self._on_finished(planned, seconds)
            self._end(planned, 0, f"after {duration_text(seconds)}")

    def _start(self, planned: PlannedCell) -> Job:
        """Write the cell's settings and start its job. Raises CryosslError."""
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

    def _end(self, planned: PlannedCell, code: int, text: str) -> None:
        """Count a cell that has ended, and report it: the reason if it failed, else its time."""
        self._ended_count += 1
        self._ended_cost += planned.cost
        if code:
            self._failures.append(Failure(planned, code, text))
        self._narrator.say(
            f"{'❌' if code else '✅'} {planned.cell.title} {'failed: ' if code else ''}{text} "
            f"[{self._ended_count}/{self._count}]"
        )

    def _report_progress(self) -> None:
        for each in self._running:
            each.fraction_done = max(each.fraction_done, _fraction_done(each))
        done = self._ended_cost + sum(
            each.planned.cost * each.fraction_done for each in self._running
        )
        # The last tile counts as done when the last cell has ended.
        most = self._total_cost - bool(self._waiting or self._running)
        self._narrator(Progress("sweep", min(most, round(done)), self._total_cost, "tile"))


def _fraction_done(running: _RunningCell) -> float:
    """Fraction of a cell's work that is done, in [0, 1], from its status file."""
    try:
        status = read_status(running.planned.folder / STATUS_FILE)
    except StorageError:
        return 0.0
    # The file of an earlier start says nothing.
    if status.state != "running" or (running.job is not None and status.started < running.began):
        return 0.0
    return fraction_done(
        elapsed_seconds=status.updated - status.started, seconds_left=status.whole_seconds_left
    )
