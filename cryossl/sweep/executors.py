"""Where parts of a command run, and the nearest such place: processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from cryossl.errors import StorageError
from cryossl.progress.interruption import EXIT_CODE, PARENT_VARIABLE
from cryossl.system.process import PROJECT

SECONDS_TO_CHECKPOINT = 60.0
RUN = ("run", "--config")
"""The words between `cli.py` and the file of settings, for a cell of a sweep."""
MOST_STARTS = 20
"""So often a part is started whose job the cluster cuts short: it might never get on."""
TRIES = 3
"""So often a part is started that something else ends."""
FAILED = 1
"""The exit code of a part that ended without saying why."""
_KILLED = frozenset({FAILED, EXIT_CODE, 137, 143})
"""Exit codes of a process that was killed, as a shell and a cluster report them."""
_LAST_BYTES = 4096


@runtime_checkable
class Job(Protocol):
    """A part of a command that was started: a cell of a sweep, or a part of a `pick`."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs; minus the signal that ended it."""

    def terminate(self) -> None:
        """Signal the job to write a checkpoint and end; do not wait for it."""

    def wait(self) -> None:
        """Wait until the job has ended.

        A job that does not end is killed, and loses the work since its last checkpoint.
        """

    def remark(self) -> str:
        """What is known of the job beyond its output: why it waits, or how it ended; or empty."""

    def cut_short(self) -> bool:
        """Whether it was ended before its work was done; another start would continue it."""

    def refused(self) -> bool:
        """Whether the cluster could not start it; another start would fare no better."""


@runtime_checkable
class Executor(Protocol):
    """Starts the parts of a command."""

    def start(self, settings: Path, log: Path, *, name: str) -> Job:
        """Start a command on the file that describes the part; its output is written to `log`.

        Args:
            settings: the file.
            log: the file of the output.
            name: names the part among all that this user runs anywhere.

        Raises:
            CryosslError: it cannot be started.
        """

    def find(self, name: str) -> Job | None:
        """The job of this name that an earlier start of the sweep has left; None without one."""


class LocalExecutor:
    """Each part is a process of its own."""

    def __init__(self, verb: Sequence[str] = RUN) -> None:
        """Choose what is started: the words between `cli.py` and the file."""
        self._verb = verb
        self._places: list[Mapping[str, str]] = [{}]
        self._at_work: list[tuple[int, _Process]] = []

    def spread(self, places: Sequence[Mapping[str, str]]) -> None:
        """Start processes at these places: each is variables of the environment, as of one GPU."""
        self._places = list(places)

    def start(self, settings: Path, log: Path, *, name: str) -> Job:  # noqa: ARG002 (no use for it)
        """Start the process in a process group of its own.

        Ctrl-C in a terminal then reaches the sweep alone, which ends its cells itself. A sweep that
        is killed cannot: its cells notice that standard input is closed, and end.
        """
        self._at_work = [(place, job) for place, job in self._at_work if job.poll() is None]
        load = Counter(place for place, _ in self._at_work)
        place = min(range(len(self._places)), key=lambda number: load[number])
        try:
            with log.open("wb") as output:
                job = _Process(
                    subprocess.Popen(
                        command(settings, self._verb),
                        env={
                            **environment(os.environ),
                            **self._places[place],
                            PARENT_VARIABLE: "1",
                        },
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        process_group=0,
                    )
                )
        except OSError as error:
            raise StorageError(
                f"cannot start {error.filename or command(settings)[0]}: {error.strerror}",
                cure="check memory and permissions",
            ) from None
        self._at_work.append((place, job))
        return job

    def find(self, name: str) -> None:
        """Nothing: a process that was left is known by the lock of its results folder."""


def command(settings: Path, verb: Sequence[str] = RUN) -> list[str]:
    """The command line that does one part."""
    return [sys.executable, str(PROJECT / "cli.py"), *verb, str(settings)]


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A cell's environment: this one without the run that `mlflow run` made for the whole sweep.

    With it every cell would adopt that run. The experiment stays the same. What a cell prints is
    written to a log, which is UTF-8 whatever the locale.
    """
    dropped = {"MLFLOW_RUN_ID"} if "MLFLOW_RUN_ID" in ours else set()
    if dropped and ours.get("MLFLOW_EXPERIMENT_ID"):
        # Beside MLFLOW_RUN_ID MLflow takes the experiment's id. Without it, the name would win.
        dropped.add("MLFLOW_EXPERIMENT_NAME")
    kept = {name: value for name, value in ours.items() if name not in dropped}
    return {**kept, "PYTHONIOENCODING": "utf-8"}


def is_to_start_again(job: Job, code: int, *, starts: int) -> bool:
    """Whether something else ended a part before its work was done, and it may be started again.

    `starts`: how often it was started. A part that fails by itself says so with another exit code.
    """
    if job.cut_short():
        return starts < MOST_STARTS
    if job.refused():
        return False
    return (code < 0 or code in _KILLED) and starts < TRIES


def ending_text(code: int) -> str:
    """`exit code 3`, or `signal 9` for its negative."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def end_all(jobs: Iterable[Job | None]) -> None:
    """End jobs that still run: all are signalled before the first is waited for."""
    running = [job for job in jobs if job is not None]
    for job in running:
        job.terminate()
    for job in running:
        job.wait()


def why_failed(job: Job, log: Path) -> str:
    """What is known of a job that failed: its remark, and the last line of its log if it began."""
    said = "" if job.refused() else last_line(log)
    return ": ".join(filter(None, (job.remark(), said)))


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, without the prefix of an error message."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = stream.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return "it left no log"
    return next(
        (line.strip() for line in reversed(lines) if line.strip()), "it said nothing"
    ).removeprefix("cryossl: error: ")


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._let_go()
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(SECONDS_TO_CHECKPOINT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def remark(self) -> str:
        return ""

    def cut_short(self) -> bool:
        return False

    def refused(self) -> bool:
        return False

    def _let_go(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
