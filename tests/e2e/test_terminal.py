"""The real commands in a terminal of a given size: nothing is wider than it, and the bars are always in sight."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from terminal_screen import Screen

PROJECT = Path(__file__).resolve().parents[2]
LINES = 24
SHOW_CURSOR = "\x1b[?25h"


def typed_in_a_terminal(*words: str, columns: int, folder: Path) -> tuple[int, str]:
    """The exit code of a command and all that it wrote to its terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=folder,
        env={**environment, "TERM": "xterm", "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode()


@pytest.fixture(scope="module")
def watched(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    words = ("run", *lab.tiny, *lab.places())
    return lab, typed_in_a_terminal(*words, columns=80, folder=folder), folder


def test_a_run_is_no_wider_than_its_terminal_and_leaves_a_line_for_each_phase(watched):
    _, (code, text), _ = watched
    assert code == 0, text
    screen = Screen(columns=80, lines=LINES)
    # A command or a link to copy is never broken.
    screen.feed(re.sub(r"`cryossl ui[^`]*`|http://\S+", "", text.partition("\nNext:")[0]))
    assert screen.widest() <= 80
    everything = "\n".join([*screen.scrolled, *screen.text()])
    for title in ("Load the data", "supervised", "naive: iteration 1", "naive: test part"):
        assert everything.count(f"✓ {title}: ") == 1
    assert "━" not in everything


def test_while_a_run_works_its_two_bars_are_the_lowest_lines_of_the_screen(watched):
    _, (_, text), _ = watched
    live = text.partition(SHOW_CURSOR)[0]
    screen = Screen(columns=80, lines=LINES)
    seen, fed = 0, 0
    for place in [index for index, letter in enumerate(live) if letter == "\x1b"]:
        screen.feed(live[fed:place])
        fed = place
        lines = screen.text()
        if lines and lines[-1].startswith("whole run") and lines[-1].rstrip().endswith("%"):
            seen += 1
            assert "━" in lines[-1] + lines[-2]
            assert sum("━" in line or line.startswith("whole run") for line in lines) <= 2
    assert seen


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "words", [("compare",), ("runs",), ("compare", "--group", "list"), ("run", "--help")], ids=str
)
def test_what_is_printed_of_the_tracked_runs_fits_the_terminal(watched, words, columns):
    lab, _, folder = watched
    where = () if "--help" in words else ("--tracking-uri", f"sqlite:///{lab.database}")
    code, text = typed_in_a_terminal(*words, *where, columns=columns, folder=folder)
    assert code == 0, text
    screen = Screen(columns=columns, lines=LINES)
    screen.feed(text)
    assert 20 < screen.widest() <= columns
