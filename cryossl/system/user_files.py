"""Readers of files that a user wrote; an error is one line with a cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from cryossl.errors import CryosslError, DataError

MAX_BYTES = 2**30


class _RefusedError(ValueError):
    """JSON that the parser would accept and this project does not."""


def read_text(
    path: Path,
    *,
    name: str = "",
    fault: type[CryosslError] = DataError,
    max_bytes: int = MAX_BYTES,
    smaller: str = "",
) -> str:
    """The UTF-8 text of a file, without the byte-order mark that Windows programs begin it with.

    Args:
        path: the file.
        name: what messages call it; the path unless given.
        fault: the error to raise.
        max_bytes: a larger file is refused unread.
        smaller: what to do about a file that is too large.

    Raises:
        CryosslError: `fault`, for a file that is missing, unreadable, too large, not UTF-8, or no
            regular file: reading a pipe would wait for its writer.
    """
    name = name or str(path)
    if (path.exists() or path.is_symlink()) and not path.is_file():
        raise fault(f"{name} is no regular file", cure="give a regular file in its place")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise fault(f"{name} has {size} bytes, more than {max_bytes}", cure=smaller)
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        cure = "check the path and its permissions"
        where = counted_from(path) if isinstance(error, FileNotFoundError) else ""
        raise fault(f"cannot read {name}: {error.strerror}{where}", cure=cure) from None
    except UnicodeDecodeError as error:
        raise fault(
            f"{name} is not UTF-8 text (byte {error.start})", cure="save it as UTF-8"
        ) from None


def counted_from(path: Path) -> str:
    """Where a relative path counts from, in brackets; empty for an absolute one."""
    return "" if path.is_absolute() else f" (a relative path counts from {Path.cwd()})"


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The document of a JSON file.

    Raises DataError as `read_text` does, and for text that is not JSON, is nested too deeply, or
    holds NaN, Infinity, a number of thousands of digits, or the same key twice in one object. The
    message has line and column where they are known.
    """
    text = read_text(path, max_bytes=max_bytes, smaller="split the data set")
    cure = "export the file again"
    try:
        return json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
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


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a JSON number")
