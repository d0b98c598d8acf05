"""STAR files, read and written by starfile; the text is checked before and after."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import starfile

from cryossl.errors import DataError, one_line
from cryossl.picking.formats.rows import text_of

Block = pd.DataFrame | dict[str, Any]

_MOST_COLUMNS = 1000


def read_blocks(path: Path, *, texts: tuple[str, ...]) -> dict[str, Block]:
    """Block name -> a table, or the values of a block without loop; names are without `_`.

    The columns called `texts` stay text. Raises DataError as `text_of` does, and for what starfile
    cannot read.
    """
    lines = [line for line in text_of(path).split("\n") if _counts(line)]
    if sum(line.lstrip().startswith("_") for line in lines) > _MOST_COLUMNS:
        raise DataError(f"{path}: more than {_MOST_COLUMNS} columns", cure="give another file")
    # starfile opens a path itself, in the encoding that a comment may name, and stops at a blank
    # line within a loop's header: it gets a copy without either.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".star") as copy:
        copy.write("\n".join(lines) + "\n")
        copy.flush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = starfile.read(copy.name, always_dict=True, parse_as_string=list(texts))
        # starfile and the pandas below it raise ValueError, TypeError, KeyError and more.
        except Exception as error:
            reason = one_line(str(error).replace(copy.name, "the file"))[:120]
            if isinstance(error, TypeError) or not reason:
                reason = "a block is not complete"
            raise DataError(
                f"{path}: the STAR file cannot be read ({reason})", cure="export the file again"
            ) from None
    if not found:
        raise DataError(f"{path}: the STAR file has no block", cure="export the file again")
    return dict(found)


def _counts(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def text(blocks: Mapping[str, Block]) -> str:
    """Blocks as STAR text, the same for the same blocks: without starfile's line with the time."""
    whole = starfile.to_string(dict(blocks))
    return str(whole[whole.index("data_") :])


def rows(table: pd.DataFrame) -> str:
    """The rows of a table as STAR text, to be added below a loop that is already written."""
    lines = text({"": table}).split("\n")
    last = max(number for number, line in enumerate(lines) if line.startswith("_"))
    return "".join(f"{line}\n" for line in lines[last + 1 :] if line)
