"""cryossl.progress.console."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TextIO

import pytest
from terminal_screen import Screen

from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import Whole
from cryossl.progress.events import Progress


def show(*events: Progress, whole: Sequence[Whole] = (), **seconds: float) -> list[str]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        with ProgressConsole(stream, **seconds) as console:
            for event, far in zip_longest(events, whole):
                console.show(event, far)
        stream.seek(0)
        return stream.read().splitlines()


SHOW_CURSOR = "\x1b[?25h"


@contextlib.contextmanager
def terminal() -> Iterator[tuple[TextIO, list[str]]]:
    """A pseudo-terminal to write to; the list holds what a person saw, once the block is left."""
    reader, writer = os.openpty()
    shown: list[str] = []
    read = bytearray()

    def collect() -> None:
        while not read.endswith(b"END"):
            read.extend(os.read(reader, 65536))

    thread = threading.Thread(target=collect)
    thread.start()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream, shown
        stream.write("END")
        stream.flush()
        thread.join()
    os.close(reader)
    shown.append(bytes(read).removesuffix(b"END").decode())


def steps(number: int) -> list[Progress]:
    return [Progress("train", done, number, "step") for done in range(1, number + 1)]


def run_of(number: int) -> list[Whole]:
    return [Whole("naive: iteration 1", done / number, 60.0) for done in range(1, number + 1)]


def test_without_a_terminal_a_quick_count_has_one_line_at_its_end() -> None:
    events = [Progress("decode", done, 52, "batch") for done in range(53)]
    assert show(*events) == ["decode: batch 52/52"]


def test_without_a_terminal_a_line_comes_with_each_twentieth_of_a_run_and_says_what_is_left() -> (
    None
):
    lines = show(*steps(1000), whole=run_of(1000), least_seconds=0.0)
    assert 19 <= len(lines) <= 20
    assert lines[0] == (
        "naive: iteration 1, train: step 50/1000; whole run 5%, about 1 min 00 s left"
    )


def test_without_a_terminal_a_line_comes_with_each_minute_however_little_was_done() -> None:
    lines = show(*steps(10), whole=run_of(10_000)[:10], most_seconds=0.0)
    assert len(lines) == 10


def test_without_a_terminal_lines_do_not_come_every_few_seconds_however_much_was_done() -> None:
    assert show(*steps(1000), whole=run_of(1000)) == []


def test_without_a_terminal_work_without_a_plan_says_the_time_that_is_left() -> None:
    lines = show(*steps(4), most_seconds=0.0)
    assert [line.split(",")[0] for line in lines] == [
        f"train: step {done}/4" for done in (1, 2, 3, 4)
    ]
    assert all(re.search(r", about \d+ s left$", line) for line in lines[1:3])


def test_work_that_was_done_before_does_not_count_for_the_time_that_is_left() -> None:
    lines = show(Progress("train", 90, 100, "epoch"), most_seconds=0.0)
    assert lines == ["train: epoch 90/100"]


def test_a_message_without_a_terminal_is_a_plain_line() -> None:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        ProgressConsole(stream).line("✅ [red]Generated[/red] 516")
        stream.seek(0)
        assert stream.read() == "✅ [red]Generated[/red] 516\n"


def screen_of(shown: str, *, columns: int = 80) -> Screen:
    screen = Screen(columns=columns, lines=24)
    screen.feed(shown)
    return screen


def test_on_a_terminal_a_count_without_a_plan_is_a_bar_and_leaves_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console(Progress("decode", 8, 52, "batch"))
        console.line("✅ [4%] said")
        console(Progress("decode", 52, 52, "batch"))
    assert "━" in shown[0]
    assert screen_of(shown[0]).text() == ["✅ [4%] said", "✓ decode: batch 52/52, 0:00"]


def test_on_a_terminal_a_run_has_two_bars_the_details_of_its_phase_and_a_line_for_each_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        for iteration in range(1, 31):
            title = f"class_balanced: iteration {iteration}"
            console.begin(title)
            console.show(Progress("train", 5, 500, "step"), Whole(title, iteration / 31, 61.0))
            console.detail("✅ Generated 516 class-balanced pseudo-labels")
            if iteration < 30:
                console.line(f"✓ {title}: accepted")
        console.line(f"✓ {title}: accepted")
    lines = screen_of(shown[0].partition(SHOW_CURSOR)[0]).text()  # which is how a run ends
    assert len(lines) <= 24
    assert lines[-1].startswith("whole run")
    assert "97%" in lines[-1]
    assert "1 min 01 s left" in lines[-1]
    assert lines[-2].startswith("class_balanced: iteration 30")
    assert lines[-3] == "✅ Generated 516 class-balanced pseudo-labels"
    assert sum("━" in line for line in lines) == 2
    assert lines[-4:-6:-1] == [f"✓ class_balanced: iteration {n}: accepted" for n in (30, 29)]
    assert screen_of(shown[0]).text()[-1] == "✓ class_balanced: iteration 30: accepted"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_nothing_on_a_terminal_is_wider_than_it(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    title = "class_balanced-class_thresholds-balance_quality+calibrated: iteration 12"
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console.begin(title)
        console.show(Progress("train", 5, 10_000, "micrograph"), Whole(title, 0.5, 360_000.0))
        console.detail("✅ Generated 516 class-balanced pseudo-labels of 4914 " + "x" * 200)
        console.line(f"✓ {title}: F1 on validation 60.10 → 61.20, accepted (3 min 20 s)")
        console.line("   a long note that is indented, and goes on " + "and on " * 30)
    assert screen_of(shown[0], columns=columns).widest() <= columns


def test_a_link_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    link = "http://127.0.0.1:5000/#/experiments/1/runs?compareRunsMode=CHART"
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console.show(Progress("train", 5, 500, "step"), Whole("naive", 0.5, 61.0))
        console.line(f"Curves by iteration and strategy, and more of it: {link}")
    assert screen_of(shown[0], columns=40).text() == [
        "Curves by iteration and strategy, and",
        "  more of it:",
        f"  {link}",
    ]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as (stream, shown), ProgressConsole(stream) as console:
        console(Progress("decode", 52, 52, "batch"))
    assert shown[0].strip() == "decode: batch 52/52"
