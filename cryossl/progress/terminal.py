"""Text for people: wrapped at the width of their terminal, and left alone elsewhere."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click

LEAST_WIDTH = 20


def columns(*, elsewhere: int, err: bool = False) -> int:
    """The width of the terminal behind standard output or error; `elsewhere` if there is none."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return elsewhere
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def echo(text: str, *, err: bool = False) -> None:
    """Print lines; on a terminal a line that is too long is wrapped between words."""
    width = columns(elsewhere=0, err=err)
    lines = text.split("\n")
    click.echo("\n".join(wrapped(line, width) for line in lines) if width else text, err=err)


def wrapped(line: str, width: int) -> str:
    """A line in lines of at most `width` columns, which begin where its own words begin."""
    indent = " " * (len(line) - len(line.lstrip()))
    if len(line) <= width:
        return line
    return textwrap.fill(line, width, subsequent_indent=f"{indent}  ")
