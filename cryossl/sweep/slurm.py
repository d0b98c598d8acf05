"""Cells as jobs of a Slurm cluster, by its programs sbatch, squeue, scontrol, scancel and sinfo.

The state of a job is what the cluster says. A cell's exit code alone would not do: a job that is
preempted ends with a code too, and is then queued again by the cluster.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryossl.errors import ConfigError, CryosslError, StorageError, one_line
from cryossl.sweep.executors import FAILED, RUN, SECONDS_TO_CHECKPOINT, command, environment

MINUTES_OF_A_JOB = 24 * 60
CPUS_OF_A_JOB = 4
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_OF_AN_OUTAGE = 600.0
"""So long a job is offered to a cluster that does not answer."""
INTERRUPTED, KILLED = 130, 137
"""Exit codes of a program that stopped as it was asked to, and of one that SIGKILL ended."""

_SECONDS_OF_A_PROGRAM = 120
_ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
# States of a node that takes jobs, as sinfo says them; one that does not answer has a star.
_AT_WORK = frozenset({"idle", "mixed", "allocated", "completing", "planned", "reserved"})
_CUT_SHORT = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT"})
_UNDER_WAY = frozenset({"RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "STAGE_OUT"})
_GONE, _HELD = "GONE", "HELD"
_MORE_MEMORY = "ask for more, e.g. --slurm mem=32G"
# Reasons why a job waits that pass by themselves.
_USUAL = frozenset({"BeginTime", "Cleaning", "Dependency", "None", "Priority", "Resources", ""})
_NO_ANSWER = ("unable to contact", "timed out", "connection refused", "transport endpoint")
# Names of earlier versions, which were submitit's.
_MINUTES, _GIGABYTES, _PREFIX = "timeout-min", "mem-gb", "slurm-"

_Answer = TypeVar("_Answer")


class SlurmExecutor:
    """Each cell is a job of its own."""

    def __init__(
        self,
        *,
        threads: int,
        options: Mapping[str, str],
        verb: Sequence[str] = RUN,
        seconds_between_looks: float = SECONDS_BETWEEN_LOOKS,
    ) -> None:
        """Check that the cluster would take such a job.

        Args:
            threads: CPU threads of a cell, and CPUs of a job; 0: four, or `cpus-per-task` of the
                options.
            options: sbatch's long options without the dashes, e.g. partition, time, gpus-per-node.
            verb: the words between `cli.py` and the file of settings.
            seconds_between_looks: how often squeue is asked, once for all jobs.

        Raises:
            ConfigError: this machine has no Slurm, or no node could ever run such a job.
        """
        wanted = {
            "time": str(MINUTES_OF_A_JOB),
            "cpus-per-task": str(threads or CPUS_OF_A_JOB),
            **options,
        }
        if not wanted["cpus-per-task"].isdecimal():
            raise ConfigError(
                f"--slurm: cpus-per-task is {wanted['cpus-per-task']!r}", cure="give a number"
            )
        self.cpus, self._verb = int(wanted["cpus-per-task"]), verb
        self._options = [f"--{name}={value}" for name, value in wanted.items()]
        self._queue = _Queue(
            [f"--clusters={options['clusters']}"] if "clusters" in options else [],
            seconds_between_looks=seconds_between_looks,
        )
        try:
            _ask("sbatch", "--test-only", *self._options, script="#!/bin/sh\n")
        except _Refused as refusal:
            cure = "check --slurm, which takes the options of sbatch"
            if refusal.passes:
                cure = "give the same command again when Slurm answers"
            # The test refuses what would wait for a node that is down, in the same words.
            elif "node" in str(refusal) and self._queue.lacks_nodes(options.get("partition")):
                return
            raise ConfigError(f"Slurm would not take a job: {refusal}", cure=cure) from None

    def start(self, settings: Path, log: Path, *, name: str) -> _SlurmJob:
        """Submit a job; its output goes to `log` while it runs.

        A cluster that does not answer is asked for some minutes. Where the answer alone was lost,
        the job that is there is taken.
        """
        script = f"#!/bin/sh\nexec {shlex.join(command(settings.absolute(), self._verb))}\n"
        try:
            log.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write {log}: {error.strerror}", cure="remove what is in its place"
            ) from None

        def submit() -> _SlurmJob:
            try:
                answer = _ask(
                    "sbatch",
                    "--parsable",
                    f"--job-name={name}",
                    "--requeue",
                    # After a kill of the sweep two starts may meet: never two jobs at a time.
                    "--dependency=singleton",
                    f"--output={str(log.absolute()).replace('%', '%%')}",
                    "--open-mode=append",
                    *self._options,
                    script=script,
                )
            except _Refused:
                found = self._found(name)
                if found is None:
                    raise
                return found
            return _SlurmJob(answer.partition(";")[0], name, self._queue)

        return self._patiently(submit)

    def find(self, name: str) -> _SlurmJob | None:
        """The job of this name that is queued or at work, if an earlier start submitted it.

        A cluster that does not answer is asked for some minutes. Raises CryosslError after that.
        """
        return self._patiently(lambda: self._found(name))

    def _found(self, name: str) -> _SlurmJob | None:
        listed = self._queue.listed([name])
        for number, seen in listed.items():
            if seen.held:
                self._queue.cancel(number)
        alive = [
            number
            for number, seen in listed.items()
            if seen.state not in _ENDED and seen.state != "COMPLETING" and not seen.held
        ]
        return _SlurmJob(min(alive, key=int), name, self._queue) if alive else None

    def _patiently(self, call: Callable[[], _Answer]) -> _Answer:
        """Call again while the cluster only does not answer. Raises CryosslError in the end."""
        deadline = time.monotonic() + SECONDS_OF_AN_OUTAGE
        while True:
            try:
                return call()
            except _Refused as refusal:
                if not refusal.passes or time.monotonic() > deadline:
                    raise CryosslError(
                        f"no job can be submitted: {refusal}", cure="see the message of Slurm"
                    ) from None
            time.sleep(self._queue.seconds_between_looks)


def slurm_options(text: str | None) -> dict[str, str]:
    """Parse sbatch's options, e.g. `partition=gpu,time=600,gpus-per-node=1`.

    Underscores count as dashes. The names of earlier versions are understood: `slurm_partition`,
    `timeout_min`, `mem_gb`. Raises ConfigError for a part that is not NAME=VALUE.
    """
    options: dict[str, str] = {}
    for part in (text or "").split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        name = name.removeprefix("--").replace("_", "-").removeprefix(_PREFIX)
        if equals and value and re.fullmatch(r"[a-z0-9-]+", name):
            if name == _GIGABYTES:
                name, value = "mem", f"{value}G"
            options["time" if name == _MINUTES else name] = value
        elif part.strip():
            raise ConfigError(
                f"--slurm: {part.strip()!r} is not NAME=VALUE",
                cure="e.g. --slurm partition=gpu,mem=16G",
            )
    return options


class _Refused(Exception):
    """A program of Slurm did not do what it was asked; the text is its own."""

    @property
    def passes(self) -> bool:
        """Whether the cluster only did not answer."""
        return any(part in str(self).lower() for part in _NO_ANSWER)


@dataclass(frozen=True)
class _Seen:
    """What squeue says of a job."""

    state: str
    reason: str

    @property
    def held(self) -> bool:
        """Whether the cluster could not start it, and keeps it until somebody releases it."""
        # Some versions of Slurm write reasons with underscores.
        reason = self.reason.replace("_", " ").lower()
        return self.state not in _UNDER_WAY | _ENDED and (
            reason.endswith("requeued held") or reason == "jobholdmaxrequeue"
        )


class _Queue:
    """The states of this sweep's jobs; squeue is asked once for all of them, and not too often."""

    def __init__(self, where: Sequence[str], *, seconds_between_looks: float) -> None:
        self.seconds_between_looks = seconds_between_looks
        self._where = list(where)
        self._names: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._looked_at = float("-inf")
        self.looks = 0
        self.trouble = ""

    def watch(self, name: str) -> None:
        self._names.add(name)

    def forget(self, name: str) -> None:
        self._names.discard(name)

    def listed(self, names: Sequence[str]) -> dict[str, _Seen]:
        """Id -> what squeue says, of all jobs of these names that the cluster still knows."""
        answer = _ask(
            "squeue",
            "--noheader",
            "--states=all",
            f"--user={os.getuid()}",
            f"--name={','.join(names)}",
            "--format=%i|%T|%r",
            *self._where,
        )
        rows = (line.strip().split("|") for line in answer.splitlines())
        return {row[0]: _Seen(row[1], row[2]) for row in rows if len(row) == 3}

    def seen(self, number: str) -> _Seen | None:
        """What squeue said last of a job; None if it was not listed."""
        if time.monotonic() - self._looked_at >= self.seconds_between_looks:
            try:
                self._seen = self.listed(sorted(self._names))
            except _Refused as refusal:
                self.trouble = f"the cluster does not answer: {refusal}"
            else:
                self.trouble = ""
                self.looks += 1
            self._looked_at = time.monotonic()
        return self._seen.get(number)

    def lacks_nodes(self, partition: str | None) -> bool:
        """Whether a node of the partition, or of any, is down, drained, or does not answer."""
        among = [f"--partition={partition}"] if partition else []
        try:
            answer = _ask("sinfo", "--noheader", "--format=%T", *among, *self._where)
        except _Refused:
            return False
        lines = (line for line in answer.splitlines() if not line.startswith("CLUSTER:"))
        return not _AT_WORK.issuperset(line.strip() for line in lines if line.strip())

    def exit_code(self, number: str) -> int | None:
        """The exit code of a job's program; 128 + n if signal n ended it; None if not known."""
        try:
            answer = _ask("scontrol", "--oneliner", "show", "job", number, *self._where)
        except _Refused:
            return None
        found = re.search(r"\bExitCode=(\d+):(\d+)", answer)
        if found is None:
            return None
        code, signal = int(found[1]), int(found[2])
        return code or (128 + signal if signal else 0)

    def cancel(self, number: str) -> None:
        with suppress(_Refused):
            _ask("scancel", number, *self._where)


class _SlurmJob:
    def __init__(self, number: str, name: str, queue: _Queue) -> None:
        self._number, self._name, self._queue = number, name, queue
        self._state, self._remark = "PENDING", ""
        self._code: int | None = None
        self._told: set[str] = set()
        self._looks_since = queue.looks
        queue.watch(name)

    def poll(self) -> int | None:
        if self._code is not None:
            return self._code
        seen = self._queue.seen(self._number)
        if self._queue.trouble:
            self._remark = self._queue.trouble
            return None
        if self._queue.looks == self._looks_since:
            return None
        if seen and seen.held:
            return self._give_up(seen.reason)
        before, self._state = self._state, seen.state if seen else _GONE
        if self._state != before or self._state not in _ENDED | {_GONE}:
            # An end is believed when it is seen twice: a job that is queued again has ended too.
            self._looks_since = self._queue.looks
            self._remark = self._why_it_waits(seen, before)
            return None
        self._queue.forget(self._name)
        self._code = self._final_code()
        return self._code

    def terminate(self) -> None:
        self._queue.cancel(self._number)

    def wait(self) -> None:
        """Wait until the cluster has ended the job, which it does by force after a while."""
        deadline = time.monotonic() + SECONDS_TO_CHECKPOINT
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(min(1.0, self._queue.seconds_between_looks))

    def remark(self) -> str:
        return self._remark

    def cut_short(self) -> bool:
        return self._state in _CUT_SHORT | {_GONE} or (
            self._state == "FAILED" and self._code == INTERRUPTED
        )

    def refused(self) -> bool:
        return self._state == _HELD

    def _why_it_waits(self, seen: _Seen | None, before: str) -> str:
        if seen is None or seen.state in _UNDER_WAY | _ENDED:
            return ""
        if seen.state != "PENDING":
            # Said once: a cluster may suspend jobs in turns of seconds.
            known = seen.state in self._told
            self._told.add(seen.state)
            return "" if known else f"job {self._number} is {seen.state}"
        if before not in ("PENDING", _GONE):
            return f"job {self._number} was stopped and is queued again; it will continue"
        return (
            "" if seen.reason in _USUAL else f"job {self._number} is queued, reason: {seen.reason}"
        )

    def _give_up(self, reason: str) -> int:
        """End a job that waits for a person.

        No other is submitted in its place: each failed launch can take a node out of service.
        """
        self._queue.cancel(self._number)
        self._queue.forget(self._name)
        self._state, self._code = _HELD, FAILED
        self._remark = (
            f"the cluster could not start job {self._number} ({reason}); ask its administrators"
        )
        return self._code

    def _final_code(self) -> int:
        """The exit code of a job that has ended; never 0 if the cell did not end by itself."""
        if self._state == "COMPLETED":
            return 0
        code = self._queue.exit_code(self._number) or 1
        # A cluster without control groups kills a job over its memory, and calls that a failure.
        killed = self._state == "FAILED" and code == KILLED
        self._remark = f"job {self._number} ended as {self._state}" + {
            "OUT_OF_MEMORY": f"; {_MORE_MEMORY}",
            "TIMEOUT": "; its time is up, see --slurm time=",
            _GONE: ", the cluster no longer knows it",
            "FAILED": f", killed; if its memory was too small, {_MORE_MEMORY}" if killed else "",
        }.get(self._state, "")
        return code


def _ask(program: str, *words: str, script: str | None = None) -> str:
    """Run a program of Slurm. Raises _Refused with its message, ConfigError if it is absent."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    ours = environment(os.environ)
    # A sweep may itself be a job; its jobs must not inherit what that job was given.
    ours = {
        name: value
        for name, value in ours.items()
        if not name.startswith(("SLURM_", "SLURMD_")) or name in kept
    }
    try:
        done = subprocess.run(
            [program, *words],
            env=ours,
            input=script or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS_OF_A_PROGRAM,
            check=False,
        )
    except OSError as error:
        raise ConfigError(
            f"--executor slurm needs the programs of Slurm: {program}: {error.strerror}",
            cure="start the sweep on a machine that submits jobs, or use --executor local",
        ) from None
    except subprocess.TimeoutExpired:
        raise _Refused(f"{program} timed out") from None
    if done.returncode:
        said = one_line(CryosslError(done.stderr.strip() or done.stdout.strip())) or "no message"
        raise _Refused(f"{said[:300]} (exit code {done.returncode})")
    return done.stdout.strip()
