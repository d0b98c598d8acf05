"""Text for people: wrapped at the width of their terminal, and left alone elsewhere."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap

import click

LEAST_WIDTH = 20
_KEPT_SPACE = "\N{NO-BREAK SPACE}"


def columns(*, err: bool = False) -> int | None:
    """The width of the terminal behind standard output or error; None if there is none."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def echo(text: str, *, err: bool = False) -> None:
    """Print lines; on a terminal a line that is too long is wrapped between words."""
    width = columns(err=err)
    lines = text.split("\n")
    click.echo("\n".join(wrapped(line, width) for line in lines) if width else text, err=err)


def wrapped(line: str, width: int) -> str:
    """A line in lines of at most `width` columns, which begin where its own words begin.

    A command in backquotes is not broken: who copies it would get half of it. One that is longer
    than the width is left to the terminal.
    """
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    whole = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", _KEPT_SPACE), line)
    lines = textwrap.fill(
        whole,
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace(_KEPT_SPACE, " ")
