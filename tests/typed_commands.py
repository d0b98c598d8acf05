"""Commands as a user types them, run in this process through `cli.main`: a new interpreter each time would cost seconds."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass

import pytest

import cli


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


def call(*words: str) -> Done:
    """Any command. What it raises other than the end of the program is raised here too."""
    before = sys.argv
    sys.argv = ["cli.py", *words]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                cli.main()
        finally:
            sys.argv = before
        said = [(stream.seek(0), stream.read())[1] for stream in (out, err)]
    return Done(int(ended.value.code or 0), *said)
