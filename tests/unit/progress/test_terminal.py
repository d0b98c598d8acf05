"""Text that is wrapped at a width."""

from __future__ import annotations

import pytest

from cryossl.progress.terminal import wrapped

TEXT = "   a note that is indented and has more words than one line of a terminal can hold"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_long_line_is_broken_between_words_and_keeps_them_all(width: int) -> None:
    lines = wrapped(TEXT, width).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == TEXT.split()
    assert all(line.startswith("   ") for line in lines)


def test_a_short_line_stays_as_it_is() -> None:
    assert wrapped("  a  b", 20) == "  a  b"


def test_a_command_is_never_broken() -> None:
    command = "`python cli.py run --ratio 10 --least-steps 200`"
    lines = wrapped(f"Next: {command} runs the other labelled part", 30).split("\n")
    assert [line.strip() for line in lines] == ["Next:", command, "runs the other labelled part"]
