"""Rows of a coordinate file that is not trusted: its text, its columns, its micrographs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from cryossl.errors import DataError
from cryossl.system.user_files import read_text

MAX_BYTES = 2**28
MAX_ROWS = 2_000_000
MAX_LINE = 2**14
"""Longest line in characters; a line of thousands of columns is no line of coordinates."""
FARTHEST_PX = 1e6

_FEWER = "give the coordinates of fewer micrographs"


def text_of(path: Path) -> str:
    """The text of a coordinate file, without byte-order mark, with Unix line ends.

    Raises DataError as `read_text` does, and for a file that is no table of coordinates: more than
    256 MiB, two million lines, 16,384 characters a line, or zero bytes in it.
    """
    text = read_text(path, max_bytes=MAX_BYTES, smaller=_FEWER)
    if "\0" in text:
        raise DataError(f"{path} is no text: it holds zero bytes", cure="export the file again")
    require_few(path, text.count("\n"))
    start = number = 0
    while start < len(text):
        end = text.find("\n", start)
        end, number = len(text) if end < 0 else end, number + 1
        if end - start > MAX_LINE:
            raise DataError(
                f"{path}: line {number} has {end - start} characters",
                cure="a line of coordinates has a few hundred: give another file",
            )
        start = end + 1
    return text


def require_few(path: Path, rows: int) -> None:
    """Raise DataError for more rows than are read into memory."""
    if rows > MAX_ROWS:
        raise DataError(f"{path}: more than {MAX_ROWS:,} rows", cure=_FEWER)


def numbers(
    frame: pd.DataFrame, column: str, *, path: Path, limit: float = FARTHEST_PX
) -> Float64[np.ndarray, " n"]:
    """The finite numbers of a column.

    Raises DataError, with the row, for what is no number or beyond `limit`.
    """
    values = np.asarray(pd.to_numeric(frame[column], errors="coerce"), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= limit)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{path}: {column} of row {row + 1} is {str(frame[column].iloc[row])[:40]!r}, not a "
            f"number within {limit:g}",
            cure="correct or remove the row",
        )
    return values


def sizes(frame: pd.DataFrame, column: str, *, path: Path) -> Float64[np.ndarray, " n"]:
    """The lengths of a column, in px. Raises DataError as `numbers` does, and for one below 0."""
    values = numbers(frame, column, path=path)
    if (values <= 0).any():
        row = int(np.argmax(values <= 0))
        raise DataError(
            f"{path}: {column} of row {row + 1} is {values[row]:g}, not above 0",
            cure="correct or remove the row",
        )
    return values


def require_columns(path: Path, found: Collection[str] | pd.DataFrame, *needed: str) -> None:
    """Raise DataError, with what is there and what is needed, if a column is missing."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise lacking(path, [str(name) for name in found], needed)


def lacking(path: Path, found: list[str], needed: tuple[str, ...]) -> DataError:
    """The error of a table without the needed columns; it names those that are there."""
    there = ", ".join(str(name)[:40] for name in found[:12]) or "none"
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return DataError(
        f"{path}: it has the columns {there}{more}", cure=f"needed are {', '.join(needed)}"
    )


def by_micrograph(names: pd.Series, *, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> the rows of each micrograph, in the order in which they first occur.

    Raises DataError for a row without a name.
    """
    texts = names.astype("string").str.strip()
    empty = np.asarray((texts.isna() | (texts == "")).to_numpy(dtype=bool))
    if empty.any():
        raise DataError(
            f"{path}: row {int(np.argmax(empty)) + 1} names no micrograph",
            cure="complete or remove the row",
        )
    codes, known = pd.factorize(texts)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(known)))
    for number, rows in enumerate(np.split(order, ends[:-1]) if len(known) else []):
        yield str(known[number]), rows


def optional(
    frame: pd.DataFrame, column: str, read: Callable[[], Float64[np.ndarray, " n"]]
) -> Float64[np.ndarray, " n"] | None:
    """The numbers of a column, or None where the table lacks it."""
    return read() if column in frame else None
