"""Which code runs, by whom and where, as tags of a run; and whether a process still lives."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
# The system gives the id of a process that ended to a new one, so the start time is compared too.
# Two readings of it differ by the clock's ticks, and by more if the clock was set in between.
_START_TOLERANCE_SECONDS = 5.0
_GIT_SECONDS = 10
HOST, PID, STARTED, HEARTBEAT = (
    f"process.{name}" for name in ("host", "pid", "started", "heartbeat")
)
"""Tags of the process that writes a run."""


@cache
def code_tags() -> dict[str, str]:
    """Tags of the code: user, program, git commit, and `cryossl.git_dirty`.

    `cryossl.git_dirty` is `true`, `false`, or `unknown` without a checkout or without git.
    """
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": Path(sys.argv[0]).name or "python",
        "mlflow.source.type": "LOCAL",
        "cryossl.git_dirty": "unknown",
    }
    commit = _git("rev-parse", "HEAD")
    if commit:
        changes = _git("status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit
        tags["cryossl.git_dirty"] = "unknown" if changes is None else str(bool(changes)).lower()
    return tags


def process_tags() -> dict[str, str]:
    """Tags of this process: host, process id, and start time in seconds since 1970.

    Their names put them behind the tags of the experiment, which MLflow lists by name.
    """
    return {
        HOST: platform.node(),
        PID: str(os.getpid()),
        STARTED: f"{psutil.Process().create_time():.2f}",
    }


def process_in(tags: Mapping[str, str]) -> tuple[str, str, str]:
    """(host, process id, start time) as the tags of a run have them; empty where they do not.

    Runs of older versions have them under other names.
    """
    pairs = ((HOST, "cryossl.host"), (PID, "cryossl.pid"), (STARTED, "cryossl.process_started"))
    host, pid, started = (tags.get(name, tags.get(old, "")) for name, old in pairs)
    return host, pid, started


def lives(pid: int, *, host: str, started: float | None = None) -> bool | None:
    """Whether a process is there and no zombie; None where this host cannot know.

    Args:
        pid: process id.
        host: the host that the process runs on.
        started: when it started, in seconds since 1970. A process of the same id that started at
            another time is another process. None: any process of this id counts.
    """
    if host != platform.node():
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        other = started is not None and (
            abs(process.create_time() - started) > _START_TOLERANCE_SECONDS
        )
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, ValueError):  # ValueError: a negative id
        return None
    return not other


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process of a run's tags was on this host and is gone; False if unknown."""
    host, pid, text = process_in(tags)
    try:
        started = float(text)
    except ValueError:
        started = None
    return pid.isdecimal() and lives(int(pid), host=host, started=started) is False


def is_at_work(program: str, command: str) -> bool:
    """Whether a process of this host runs a program with this command, e.g. mlflow and run."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        names = [Path(word).name for word in words[:3]]
        if program in names and command in words[names.index(program) + 1 :]:
            return True
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number without a name
        return "unknown"


def _git(*arguments: str) -> str | None:
    """The output of git on the project's checkout; None if git fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
