"""Errors that a command reports in one line: what was wrong, where, what to do.

Each class has an exit code.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

_TOO_LITTLE_MEMORY = re.compile(
    r"allocate memory|failed to map segment|cannot enable executable stack|std::bad_alloc|"
    r"can't start new thread|out of memory|without (\w+ an )?exception",
    flags=re.IGNORECASE,
)


class CryosslError(Exception):
    """A fault that a user can mend.

    `str()` is one line, its `cause` and its `cure`; `exit_code` is the command's.
    """

    exit_code = 1

    def __init__(self, cause: str, *, cure: str = "") -> None:
        super().__init__(f"{cause}; {cure}" if cure else cause)
        self.cause, self.cure = cause, cure


def one_line(error: object) -> str:
    """The text of an error of another library, on one line."""
    return " ".join(str(error).split())


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean NAME or NAME? ` where known names are like a word that is none; else empty.

    Names that end with the word come first: `test/f1` for `f1`.
    """
    names, wanted = list(known), word.lower()
    ends = [name for name in names if name.rpartition("/")[2] == wanted][:3]
    found = ends or get_close_matches(wanted, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(found)}? " if found else ""


def lacks_memory(error: BaseException) -> str | None:
    """What did not get memory, or a thread, if that is why the error was raised; else None.

    A limit of the process strikes anywhere, and libraries raise ImportError, OSError or
    RuntimeError for it, sometimes because of another error. Python itself raises SystemError
    where a library fails and names no exception.
    """
    found: BaseException | None = error
    while found is not None:
        if (
            isinstance(found, MemoryError)
            or (isinstance(found, OSError) and found.errno in (errno.ENOMEM, errno.EAGAIN))
            or (
                isinstance(found, (ImportError, OSError, RuntimeError, SystemError))
                and _TOO_LITTLE_MEMORY.search(str(found))
            )
        ):
            lines = str(found).strip().splitlines() or [type(found).__name__]
            return next((line for line in lines if _TOO_LITTLE_MEMORY.search(line)), lines[-1])
        found = found.__cause__ or found.__context__
    return None


class ConfigError(CryosslError):
    """A setting, an option or a config file is wrong."""

    exit_code = 2


class NoExperimentError(ConfigError):
    """The tracking store has no experiment of this name."""


class DataError(CryosslError):
    """The data set cannot be used as it is. The message names the file and the record."""

    exit_code = 2


class ChangedDataError(DataError):
    """A file of the data set changed, vanished or became unreadable after it was checked."""

    exit_code = 4


class NumericError(CryosslError):
    """A loss, a gradient or a weight is not finite."""

    exit_code = 5


class FailedArmsError(NumericError):
    """Some arms failed because of numbers that are not finite; the others are finished.

    `experiment` is the fingerprint of their runs.
    """

    def __init__(self, faults: Mapping[str, NumericError], *, experiment: str) -> None:
        faults_text = "; ".join(f"{strategy}: {fault}" for strategy, fault in faults.items())
        super().__init__(
            f"{len(faults)} of the strategies failed, the others are finished; {faults_text}"
        )
        self.experiment = experiment


class StorageError(CryosslError):
    """A file cannot be written or read: no space, no permission, damaged."""

    exit_code = 6


class TrackingError(CryosslError):
    """The tracking store cannot be reached or refuses."""

    exit_code = 3


class BusyError(CryosslError):
    """Another process holds the lock; the message names it."""

    exit_code = 6
