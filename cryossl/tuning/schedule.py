"""Run trials as processes or jobs, so many at a time. What ended is handed over, in any order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryossl.errors import BusyError, CryosslError
from cryossl.sweep.executors import (
    FAILED,
    Executor,
    Job,
    end_all,
    ending_text,
    is_to_start_again,
    why_failed,
)
from cryossl.sweep.scheduler import SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_REPORTS
from cryossl.system.digest import digest
from cryossl.system.folder_lock import held_by
from cryossl.tuning.trial import LOG, Result, Task, points_done

SECONDS_FOR_FILES_TO_APPEAR = 10.0


@dataclass(frozen=True)
class Work:
    """A trial that is to run: its title in messages, its folder, its task, its number."""

    title: str
    folder: Path
    task: Task
    number: int = 0


@dataclass
class _Running:
    """A trial that runs; without a job somebody else holds its folder."""

    work: Work
    job: Job | None
    starts: int
    remark: str = ""


class Schedule:
    """Starts trials as places become free, and hands over their results."""

    def __init__(
        self,
        executor: Executor,
        *,
        jobs: int,
        say: Callable[[str], object],
        report: Callable[[int], object],
    ) -> None:
        """Plan nothing yet.

        Args:
            executor: starts the trials.
            jobs: how many at a time.
            say: called with a line where a trial is waited for or started again.
            report: called about every second with the number of points that running trials have
                passed.
        """
        self._executor, self._jobs, self._say, self._report = executor, jobs, say, report
        self._running: list[_Running] = []

    def run(
        self, more: Callable[[], Work | None], on_result: Callable[[Work, Result], object]
    ) -> None:
        """Run what `more` gives until it gives nothing and all has ended.

        If an exception ends this method, the running trials are ended too; each keeps a checkpoint.

        Args:
            more: gives the next trial; None: none now, perhaps one after the next end.
            on_result: called with each trial that has a result.

        Raises:
            CryosslError: a trial could not be done; the other ones are ended.
        """
        reported_at, asks = float("-inf"), True
        try:
            while True:
                asks = asks and self._fill(more)
                if not self._running:
                    return
                if time.monotonic() - reported_at >= SECONDS_BETWEEN_REPORTS:
                    reported_at = time.monotonic()
                    self._report(self._points())
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for work, result in self._ended():
                    on_result(work, result)
                    asks = True
        finally:
            end_all(each.job for each in self._running)

    def _fill(self, more: Callable[[], Work | None]) -> bool:
        """Begin trials on the free places; whether there may be another one to begin."""
        while len(self._running) < self._jobs:
            work = more()
            if work is None:
                return False
            self._begin(work)
        return True

    def _points(self) -> int:
        return sum(points_done(each.work.folder, each.work.task.key) for each in self._running)

    def _begin(self, work: Work) -> None:
        """Start a trial, or wait for the process or job of an earlier start that is at it.

        One that an earlier start has done is not started.
        """
        running = _Running(work, None, 0)
        self._running.append(running)
        if Result.read(work.folder, work.task.key) is not None:
            return
        running.job = self._executor.find(_name(work))
        holder = held_by(work.folder) if running.job is None else None
        if holder:
            self._say(f"⏳ {work.title} is held by {holder}, left by an earlier start")
        elif running.job is None:
            self._start(running)

    def _start(self, running: _Running) -> None:
        work = running.work
        file = work.task.write(work.folder)
        running.starts += 1
        running.job = self._executor.start(file, work.folder / LOG, name=_name(work))

    def _ended(self) -> Iterator[tuple[Work, Result]]:
        for running in list(self._running):
            work, job = running.work, running.job
            code = None if job is None else job.poll()
            if job is not None and code is None:
                self._pass_on_remark(running, job)
                continue
            if job is None and held_by(work.folder):
                continue
            running.job = None
            result = _patient_result(work, code)
            if result is not None:
                self._running.remove(running)
                yield work, result
            elif job is None or code is None:
                self._start(running)
            else:
                self._start_again(running, job, code)

    def _pass_on_remark(self, running: _Running, job: Job) -> None:
        remark = job.remark()
        if remark and remark != running.remark:
            self._say(f"⚠ {running.work.title}: {remark}")
        running.remark = remark

    def _start_again(self, running: _Running, job: Job, code: int) -> None:
        """Start a trial again that something else ended. Raises CryosslError for any other."""
        work = running.work
        if code == BusyError.exit_code and held_by(work.folder):
            return  # without a job: it waits for the holder
        if is_to_start_again(job, code, starts=running.starts):
            self._say(f"↻ {work.title} was ended ({ending_text(code)}) and is started again")
            self._start(running)
            return
        self._running.remove(running)
        error = CryosslError(
            f"{work.title} could not be done ({ending_text(code)}): "
            f"{why_failed(job, work.folder / LOG)}",
            cure=f"see {work.folder / LOG}; the same command goes on",
        )
        error.exit_code = code if code > 0 else FAILED
        raise error


def _name(work: Work) -> str:
    """Names a trial among all jobs that this user has."""
    return f"cryossl-tune-{digest([str(work.folder.absolute()), work.task.key])[:12]}"


def _patient_result(work: Work, code: int | None) -> Result | None:
    """The result of a trial that has ended; on a network's disk it may appear seconds later."""
    deadline = time.monotonic() + (SECONDS_FOR_FILES_TO_APPEAR if code == 0 else 0.0)
    while True:
        result = Result.read(work.folder, work.task.key)
        if result is not None or time.monotonic() >= deadline:
            return result
        time.sleep(0.5)


def in_order(works: Sequence[Work]) -> Callable[[], Work | None]:
    """Gives these trials one by one."""
    left = iter(works)
    return lambda: next(left, None)
