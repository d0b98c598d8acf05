"""Who runs which code, where: the tags that tell a run's origin, and whether its process still lives."""

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
# A process id alone says little: the number is given out again. Clocks of boot time drift by about
# a second.
_START_TOLERANCE_SECONDS = 5.0
_GIT_SECONDS = 10


@cache
def code_tags() -> dict[str, str]:
    """The code: user, program, git commit, and `cryossl.git_dirty` = true | false | unknown (no checkout, no git)."""
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
    """The process that writes a run: host, process id, and when that process started (seconds since 1970)."""
    return {
        "cryossl.host": platform.node(),
        "cryossl.pid": str(os.getpid()),
        "cryossl.process_started": f"{psutil.Process().create_time():.2f}",
    }


def is_dead(tags: Mapping[str, str]) -> bool:
    """True if the process named by these tags was on this host and is gone;

    False if it lives or cannot be known.
    """
    if tags.get("cryossl.host") != platform.node() or not tags.get("cryossl.pid", "").isdecimal():
        return False
    try:
        process = psutil.Process(int(tags["cryossl.pid"]))
        started, status = process.create_time(), process.status()
        expected = float(tags.get("cryossl.process_started", started))
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError):
        return False
    return status == psutil.STATUS_ZOMBIE or abs(started - expected) > _START_TOLERANCE_SECONDS


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number without a name
        return "unknown"


def _git(*arguments: str) -> str | None:
    """What git says about the project's checkout, or None."""
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
