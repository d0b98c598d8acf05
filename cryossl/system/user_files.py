"""Readers of files that a user wrote; an error is one line with a cure."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from cryossl.errors import CryosslError, DataError
from cryossl.system import long_json

MAX_BYTES = 2**30
MAX_LIST_BYTES = 2**26
"""Largest list of names, a line each."""
OUTSIDE_CURE = "copy the files into the data folder"


class _RefusedError(ValueError):
    """JSON that the parser would accept and this project does not."""


def read_text(
    path: Path,
    *,
    name: str = "",
    fault: type[CryosslError] = DataError,
    max_bytes: int = MAX_BYTES,
    smaller: str = "",
    inside: Path | None = None,
) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 as Windows programs write them.

    The byte-order mark is left out, and every line ends with a line feed. No more than `max_bytes`
    are read, whatever size the file says it has.

    Args:
        path: the file.
        name: what messages call it; the path unless given.
        fault: the error to raise.
        max_bytes: a larger file is refused.
        smaller: what to do about a file that is too large.
        inside: the folder in which the file must lie, also if links lead to it; None for any.

    Raises:
        CryosslError: `fault`, for a file that is missing, unreadable, too large, outside, no text,
            or no regular file: reading a pipe would wait for its writer.
    """
    name = name or str(path)
    try:
        if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
            raise fault(f"{name!r} is a link out of the data set", cure=OUTSIDE_CURE)
        content = _content(path, name, fault, max_bytes, smaller)
        text = content.decode(json.detect_encoding(content))
    except OSError as error:
        cure = "check the path and its permissions"
        where = counted_from(path) if isinstance(error, FileNotFoundError) else ""
        raise fault(f"cannot read {name}: {error.strerror}{where}", cure=cure) from None
    except RuntimeError:  # Python 3.11 and 3.12 report a circle of links so
        raise fault(f"{name!r} is a link that leads nowhere", cure="restore the file") from None
    except UnicodeDecodeError as error:
        raise fault(
            f"{name} is not UTF-8 text (byte {error.start})", cure="save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def counted_from(path: Path) -> str:
    """Where a relative path counts from, in brackets; empty for an absolute one."""
    return "" if path.is_absolute() else f" (a relative path counts from {Path.cwd()})"


def _content(
    path: Path, name: str, fault: type[CryosslError], max_bytes: int, smaller: str
) -> bytes:
    # What was opened is checked, not what has the name. Without O_NONBLOCK a pipe would wait here.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise fault(f"{name} is no regular file", cure="give a regular file in its place")
        content = b""
        if status.st_size <= max_bytes:
            with os.fdopen(opened, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1)
    finally:
        os.close(opened)
    size = max(status.st_size, len(content))
    if size > max_bytes:
        raise fault(f"{name} has {size} bytes, more than {max_bytes}", cure=smaller)
    return content


def read_json(
    path: Path,
    *,
    max_bytes: int = MAX_BYTES,
    nan_is_null: bool = False,
    inside: Path | None = None,
    long: str = "",
) -> Any:
    """The document of a JSON file.

    Args:
        path: the file.
        max_bytes: a larger file is refused unread.
        inside: the folder in which the file must lie, as in `read_text`.
        nan_is_null: NaN, which programs write where a value is missing, is None.
        long: key of a long list in the document's object: its value is `long_json.Elements`, whose
            elements are parsed when they are read.

    Raises:
        DataError: as `read_text` does, and for text that is not JSON, is nested too deeply, or
            holds NaN, Infinity, a number of thousands of digits, or the same key twice in one
            object. The message has line and column where they are known.
    """
    text = read_text(path, max_bytes=max_bytes, smaller="split the data set", inside=inside)
    cure = "export the file again"
    constant = _nan_as_null if nan_is_null else _no_constant
    if long:
        checked = json.JSONDecoder(object_pairs_hook=_no_twins, parse_constant=constant)
        again = json.JSONDecoder(parse_constant=constant)
        document = long_json.parse(text, long, checked=checked, again=again)
        if document is not None:
            return document
    try:
        return json.loads(text, object_pairs_hook=_no_twins, parse_constant=constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: broken JSON at {place}: {error.msg}", cure=cure) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply", cure=cure) from None
    except _RefusedError as error:
        raise DataError(f"{path}: broken JSON: {error}", cure=cure) from None
    except ValueError:  # the only other one: Python's limit on the digits of an integer
        reason = "it holds a number of thousands of digits"
        raise DataError(f"{path}: broken JSON: {reason}", cure=cure) from None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in unique if names.count(name) > 1)
        raise _RefusedError(f"the key {twin[:60]!r} occurs twice in one object")
    return unique


def _nan_as_null(name: str) -> None:
    if name != "NaN":
        _no_constant(name)


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a JSON number")
