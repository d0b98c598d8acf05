"""Standard output and error that take any text: in any encoding, closed, or with nobody behind.

Files are UTF-8 whatever the locale; this is about what people and pipes read.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from encodings import ascii as plain_ascii
from typing import IO

ERRORS = "cryossl_plain"
# Click takes a stream whose encoding is called ascii for a mistake, and writes UTF-8 to it.
ASCII = "cryossl_ascii"
PLAIN = {
    "✅": "[ok]",
    "❌": "[failed]",
    "⚠": "[!]",
    "❔": "[?]",
    "⏳": "...",
    "⏹": "[stopped]",
    "✂": "[pruned]",
    "⏱": "...",
    "▸": ">",
    "↻": "@",
    "✓": "+",
    "✗": "x",
    "→": "->",
    "·": "-",
    "─": "-",
    "–": "-",  # noqa: RUF001 (a dash)
    "—": "-",
    "…": "...",
    "±": "+-",
    "×": "x",  # noqa: RUF001 (a sign)
    "≤": "<=",
    "≥": ">=",
    "°": " degrees",
    "μ": "u",
    "µ": "u",
    "\N{VARIATION SELECTOR-16}": "",
}
"""What stands for a mark where the encoding lacks it."""


def prepare() -> None:
    r"""Set the standard streams of this process up, before anything is opened or printed.

    A mark that the encoding lacks becomes ASCII, another letter its escape (`\xe9`), and so does a
    byte of a file's name that is not UTF-8. A stream that was closed at the start leads nowhere:
    the next file that is opened must not be taken for it.
    """
    codecs.register_error(ERRORS, _plain)
    codecs.register(_our_ascii)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if is_ascii else None, errors=ERRORS)


@contextmanager
def while_read(stream: IO[str]) -> Iterator[None]:
    """Write to a stream; what if nobody reads it any more.

    The reader of a pipe that has left, as `head` does, interrupts the work: raises
    KeyboardInterrupt. A terminal that was closed does not: from then on the stream leads nowhere.
    Whether its work ends is said by a signal.
    """
    try:
        yield
    except BrokenPipeError:
        lead_nowhere(stream)
        raise KeyboardInterrupt from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        lead_nowhere(stream)


def lead_nowhere(stream: IO[str]) -> None:
    """Drop what is still written to a stream, and what it has not written yet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def drop_unwritten() -> None:
    """Drop what the standard streams refuse; Python would write it again at the end, and fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            lead_nowhere(stream)


def _nowhere() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (os.devnull is a text)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded: the error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escaped, error.object[error.start : error.end])), error.end


def _escaped(letter: str) -> str:
    # A byte that is not UTF-8 comes from the system as a lone surrogate (PEP 383).
    byte = ord(letter) - 0xDC00
    if 0x80 <= byte <= 0xFF:
        return f"\\x{byte:02x}"
    return PLAIN.get(letter, letter.encode("ascii", "backslashreplace").decode())


def _our_ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    found = plain_ascii.getregentry()
    return codecs.CodecInfo(
        name=ASCII,
        encode=found.encode,
        decode=found.decode,
        incrementalencoder=found.incrementalencoder,
        incrementaldecoder=found.incrementaldecoder,
        streamreader=found.streamreader,
        streamwriter=found.streamwriter,
    )
