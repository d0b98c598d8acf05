"""cryossl.progress.console."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from typing import TextIO

import pytest

from cryossl.progress.console import ProgressConsole
from cryossl.progress.events import Progress


def show(*events: Progress, seconds_between_lines: float) -> list[str]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        with ProgressConsole(stream, seconds_between_lines=seconds_between_lines) as console:
            for event in events:
                console(event)
        stream.seek(0)
        return stream.read().splitlines()


@contextlib.contextmanager
def terminal() -> Iterator[tuple[TextIO, list[str]]]:
    """A pseudo-terminal to write to; the list holds what a person saw, once the block is left."""
    reader, writer = os.openpty()
    shown: list[str] = []
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream, shown
        stream.write("END")
    text = b""
    while not text.endswith(b"END"):
        text += os.read(reader, 65536)
    os.close(reader)
    shown.append(text.removesuffix(b"END").decode())


def test_without_a_terminal_a_quick_phase_has_a_line_at_its_start_and_one_at_its_end() -> None:
    events = [Progress("decode", done, 52, "batch") for done in range(53)]
    lines = show(*events, seconds_between_lines=60.0)
    assert lines == ["decode: batch 0/52", "decode: batch 52/52"]


def test_without_a_terminal_lines_come_with_the_time_that_is_left() -> None:
    events = [Progress("train", done, 4, "epoch") for done in range(5)]
    lines = show(*events, seconds_between_lines=0.0)
    assert [line.split(",")[0] for line in lines] == [f"train: epoch {done}/4" for done in range(5)]
    assert all(re.search(r", about \d+ s left$", line) for line in lines[1:4])


def test_work_that_was_done_before_does_not_count_for_the_time_that_is_left() -> None:
    lines = show(Progress("train", 90, 100, "epoch"), seconds_between_lines=0.0)
    assert lines == ["train: epoch 90/100"]


def test_each_phase_is_announced_also_when_the_same_one_comes_again() -> None:
    first = [Progress("predict", done, 3, "tile") for done in range(1, 4)]
    lines = show(*first, Progress("select", 1, 2, "image"), *first, seconds_between_lines=60.0)
    assert lines == [
        "predict: tile 1/3",
        "predict: tile 3/3",
        "select: image 1/2",
        "predict: tile 1/3",
        "predict: tile 3/3",
    ]
    assert len(show(*first, *first, seconds_between_lines=60.0)) == 4


def test_a_message_without_a_terminal_is_a_plain_line() -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        ProgressConsole(stream).line("✅ [red]Generated[/red] 516")
        stream.seek(0)
        assert stream.read() == "✅ [red]Generated[/red] 516\n"


def test_on_a_terminal_there_are_bars_with_counts_and_messages_stand_above_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console(Progress("decode", 8, 52, "batch"))
        console.line("✅ [4%] said")
        console(Progress("decode", 52, 52, "batch"))
    assert "decode" in shown[0]
    assert "52/52" in shown[0]
    assert "✅ [4%] said" in shown[0]
    assert "━" in shown[0]
    assert "decode: batch" not in shown[0]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console(Progress("decode", 8, 52, "batch"))
    assert shown[0].strip() == "decode: batch 8/52"
