"""The pages: the tutorial's commands run in their order, and the site has no dead link."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TUTORIAL = PROJECT / "docs" / "tutorial.md"


def steps() -> list[str]:
    """The tutorial's commands, in the order of the page."""
    blocks = re.findall(r"^```\n(.*?)^```", TUTORIAL.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def typed(command: str, *, in_folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the page as a reader would, in the shell, so that `*` is the shell's."""
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(PROJECT / 'cli.py'))}"
    return subprocess.run(
        re.sub(r"^cryossl\b", program, command),
        shell=True,
        cwd=in_folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(1200)
def test_every_command_of_the_tutorial_runs_in_its_order(tmp_path) -> None:
    for command in steps():
        done = typed(command, in_folder=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "naive" in (tmp_path / "tutorial/report.html").read_text()
    assert (tmp_path / "tutorial/picks/autopick.star").exists()
    assert (tmp_path / "tutorial/again/annotations/instances_train.json").exists()


def test_the_site_builds_without_a_dead_link(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "site" / "index.html").read_text()
    assert 'href="tutorial/"' in start
    assert "https://fonts." not in start
