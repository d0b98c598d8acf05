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
    """Tags of this process: host, process id, and start time in seconds since 1970."""
    return {
        "cryossl.host": platform.node(),
        "cryossl.pid": str(os.getpid()),
        "cryossl.process_started": f"{psutil.Process().create_time():.2f}",
    }


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
    pid, host = tags.get("cryossl.pid", ""), tags.get("cryossl.host", "")
    try:
        started = float(tags["cryossl.process_started"])
    except (KeyError, ValueError):
        started = None
    return pid.isdecimal() and lives(int(pid), host=host, started=started) is False


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
