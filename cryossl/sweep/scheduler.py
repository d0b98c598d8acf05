"""Run the cells of a sweep, so many at a time.

A cell that fails does not stop the others. A sweep that is interrupted ends its cells.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cryossl.errors import CryosslError, StorageError
from cryossl.progress.eta import duration_text
from cryossl.progress.events import Progress
from cryossl.progress.narrator import STATUS_FILE, Narrator
from cryossl.progress.status import read_status
from cryossl.selftraining.records.result_files import forget_outcome, read_outcome
from cryossl.sweep.executors import MOST_STARTS, Executor, Job, end_all, why_failed
from cryossl.sweep.grid import Cell, fraction_done
from cryossl.system.digest import digest
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

    @property
    def name(self) -> str:
        """Names the cell among all cells of all sweeps that write somewhere else."""
        return f"cryossl-{self.folder.name}-{digest([str(self.folder.absolute()), self.key])[:12]}"


@dataclass(frozen=True)
class Failure:
    """A cell that failed, its exit code (minus the signal that ended it), and the reason."""

    planned: PlannedCell
    code: int
    reason: str


@dataclass
class _RunningCell:
    """A cell that runs.

    Attributes:
        planned: the cell.
        job: None if only the lock of the cell's folder tells that somebody is at work.
        began: when it was started or found, in seconds since 1970.
        found: whether an earlier start of the sweep started it.
        fraction_done: of its work, in [0, 1].
        remark: what was last said of its job.
    """

    planned: PlannedCell
    job: Job | None
    began: float
    found: bool
    fraction_done: float = 0.0
    remark: str = ""


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
        self._starts: Counter[str] = Counter()
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
            end_all(each.job for each in self._running)
        return self._failures

    def _start_cells(self) -> None:
        """Start cells on the free places, but wait for one that somebody is at work on already.

        That is a job of an earlier start of this sweep, or another process that holds the cell's
        folder.
        """
        while self._waiting and len(self._running) < self._jobs:
            planned = self._waiting.popleft()
            title = planned.cell.title
            try:
                job = self._executor.find(planned.name)
                found = job is not None
                holder = None if found else held_by(planned.folder)
                job = job if found or holder else self._start(planned)
            except CryosslError as error:
                self._end(planned, error.exit_code, str(error))
                continue
            if found:
                self._narrator.detail(f"⏳ {title} is a job of an earlier start; waiting for it")
            elif holder:
                self._narrator.detail(
                    f"⏳ {title} is held by {holder}, left by an earlier start; waiting for it"
                )
            else:
                self._narrator.detail(f"▸ {title}")
            self._running.append(
                _RunningCell(planned, job, time.time(), found=found or holder is not None)
            )

    def _collect_ended(self) -> None:
        """Take the cells that have ended off their places, and report how each of them ended."""
        for running in list(self._running):
            planned, job = running.planned, running.job
            if job is None:
                if held_by(planned.folder) is None:
                    self._running.remove(running)
                    # How it ended is not known here. Started again, it finds its finished stages.
                    self._waiting.appendleft(planned)
                continue
            code = job.poll()
            if code is None:
                self._pass_on_remark(running, job)
                continue
            self._running.remove(running)
            if code and not _has_finished(planned.folder):
                self._end_or_start_again(planned, job, code)
                continue
            seconds = time.time() - running.began
            self._on_finished(planned, seconds)
            self._end(planned, 0, f"after {duration_text(seconds)}")

    def _pass_on_remark(self, running: _RunningCell, job: Job) -> None:
        """Say what is new about a job that has not ended, e.g. why it waits."""
        remark = job.remark()
        if remark and remark != running.remark:
            self._narrator.say(f"⚠ {running.planned.cell.title}: {remark}")
        running.remark = remark

    def _end_or_start_again(self, planned: PlannedCell, job: Job, code: int) -> None:
        """Put a cell whose job was cut short first in the queue again; count any other as failed.

        A cell whose folder somebody else holds was not cut short, but has to wait for them.
        """
        remark, holder = job.remark(), held_by(planned.folder)
        if (job.cut_short() or holder) and self._starts[planned.key] < MOST_STARTS:
            why = remark if holder is None else f"{planned.folder} is in use by {holder}"
            self._narrator.say(f"↻ {planned.cell.title} will be started again: {why}")
            self._waiting.appendleft(planned)
            return
        log = planned.folder / LOG_FILE
        why = why_failed(job, log)
        self._end(planned, code, why if job.refused() else f"{why} ({log})")

    def _start(self, planned: PlannedCell) -> Job:
        """Write the cell's settings and start its job. Raises CryosslError."""
        settings = planned.folder / SETTINGS_FILE
        try:
            planned.folder.mkdir(parents=True, exist_ok=True)
            forget_outcome(planned.folder)
            content = yaml.safe_dump(
                planned.cell.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            )
            write_durably(settings, content.encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {error.filename or settings}: {error.strerror}",
                cure="remove what is in its place, or free space",
            ) from None
        self._starts[planned.key] += 1
        return self._executor.start(settings, planned.folder / LOG_FILE, name=planned.name)

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


def _has_finished(folder: Path) -> bool:
    """Whether the cell's files say that it has finished; they count more than its job's end.

    A cluster whose controller was restarted may start a job that has ended once more, and fail.
    """
    try:
        return read_status(folder / STATUS_FILE).state == "finished" and bool(read_outcome(folder))
    except StorageError:
        return False


def _fraction_done(running: _RunningCell) -> float:
    """Fraction of a cell's work that is done, in [0, 1], from its status file."""
    try:
        status = read_status(running.planned.folder / STATUS_FILE)
    except StorageError:
        return 0.0
    # The file of an earlier start says nothing.
    if status.state != "running" or (not running.found and status.started < running.began):
        return 0.0
    return fraction_done(
        elapsed_seconds=status.updated - status.started, seconds_left=status.whole_seconds_left
    )
