"""Commands as another user, who may write what that user may write; reading is allowed, for Python may lie in a closed folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

NOBODY = 65534


def as_user(user: int = NOBODY, *, group: int = NOBODY) -> list[str]:
    """The words before a command that another user runs; `group` is one more group of that user."""
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        f"--groups={group}",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]


@cache
def _works() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*as_user(), "true"], check=False, capture_output=True).returncode == 0


needs_another_user = pytest.mark.skipif(
    not _works(), reason="only root, with setpriv, can become another user"
)
