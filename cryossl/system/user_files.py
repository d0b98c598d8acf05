"""JSON files read strictly: what the format forbids, or leaves to chance, is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from cryossl.errors import CryosslError, DataError

MAX_BYTES = 2**30


class _Refused(ValueError):
    """The parser met something that JSON allows to slip through."""


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The parsed document.

    Raises DataError, with line and column where there is one, for text that is not JSON, not UTF-8,
    longer than `max_bytes`, nested too deeply, or that holds NaN, Infinity or the same key twice in
    one object.
    """
    cure = "export the file again"
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(
                f"{path}: {size} bytes of JSON, more than {max_bytes}", cure="split the data set"
            )
        # utf-8-sig: Windows programs begin a file with a byte-order mark.
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: broken JSON at {place}: {error.msg}", cure=cure) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})", cure=cure) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply", cure=cure) from None
    except ValueError as error:
        reason = (
            error if isinstance(error, _Refused) else "it holds a number of thousands of digits"
        )
        raise DataError(f"{path}: broken JSON: {reason}", cure=cure) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})", cure="check its permissions"
        ) from None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in unique if names.count(name) > 1)
        raise _Refused(f"the key {twin[:60]!r} occurs twice in one object")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number")


def read_text(
    path: Path, *, called: str, fault: type[CryosslError], most_bytes: int | None = None
) -> str:
    """The UTF-8 text of a file, without a byte-order mark.

    Raises `fault`, which names the file as it is `called`.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise fault(f"{called} {path} is no regular file")
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise fault(f"{called} {path} is larger than {most_bytes >> 20} MB")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise fault(f"cannot read {called} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise fault(f"{called} {path} is not UTF-8 text") from None
