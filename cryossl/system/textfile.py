"""Small text files that a user names: read whole, or refused in one line."""

from __future__ import annotations

from pathlib import Path

from cryossl.errors import CryosslError


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
