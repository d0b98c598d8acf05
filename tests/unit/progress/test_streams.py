"""What people read comes in any encoding, to closed streams too, and ends nothing but where nobody reads it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import click
import pytest

from cryossl.progress import streams
from cryossl.progress.console import ProgressConsole

PROJECT = Path(__file__).resolve().parents[3]
TEXT = "✅ a → b: F1 69 ± 1 … é \udcff 中"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "[ok] a -> b: F1 69 +- 1 ... \\xe9 \\xff \\u4e2d"),
        ("us-ascii:strict", "[ok] a -> b: F1 69 +- 1 ... \\xe9 \\xff \\u4e2d"),
        ("latin-1", "[ok] a -> b: F1 69 ± 1 ... é \\xff \\u4e2d"),
        ("cp1252", "[ok] a -> b: F1 69 ± 1 … é \\xff \\u4e2d"),
        ("koi8-r", "[ok] a -> b: F1 69 +- 1 ... \\xe9 \\xff \\u4e2d"),
        ("utf-8", "✅ a → b: F1 69 ± 1 … é \\xff 中"),
        ("utf-16", "✅ a → b: F1 69 ± 1 … é \\xff 中"),
    ],
)
def test_marks_become_ascii_where_the_encoding_lacks_them_and_other_letters_are_escaped(
    encoding, shown, tmp_path
):
    name, _, errors = encoding.partition(":")
    path = tmp_path / "output"
    with (
        path.open("w", encoding=name, errors=errors or None) as stream,
        contextlib.redirect_stdout(stream),
    ):
        streams.prepare()
        click.echo(TEXT)  # click has an opinion of its own about ascii
        with ProgressConsole(stream) as console:
            console.line(TEXT)
    assert path.read_text(encoding=name).splitlines() == [shown] * 2


def test_every_mark_in_the_code_has_something_that_stands_for_it():
    letters = re.compile(r"[^\x00-\x7f]")
    used = {
        letter
        for folder in ("cryossl", "analysis")
        for path in (PROJECT / folder).rglob("*.py")
        for letter in letters.findall(path.read_text(encoding="utf-8"))
        if not letter.isalpha() or letter in "µμ"
    }
    assert used - set(streams.PLAIN) == set()
    assert all(text.isascii() for text in streams.PLAIN.values())


def test_a_reader_that_has_left_interrupts_the_work_and_leaves_nothing_unwritten():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        with pytest.raises(KeyboardInterrupt), ProgressConsole(stream) as console:
            console.line("nobody reads this")
        stream.write("nor this")


def test_a_terminal_that_was_closed_is_written_to_no_more_and_the_work_goes_on():
    person, terminal = os.openpty()
    with os.fdopen(terminal, "w", encoding="utf-8") as stream, ProgressConsole(stream) as console:
        console.line("read")
        os.close(person)
        console.line("nobody reads this")
        console.line("nor this")
