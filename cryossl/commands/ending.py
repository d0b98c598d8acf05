"""How a fault ends a command: one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

from cryossl.errors import ConfigError, lacks_memory
from cryossl.progress import interruption
from cryossl.progress.terminal import echo
from cryossl.redaction import redacted

LEAST_MEGABYTES = 1000


def refuse_small_limit() -> None:
    """Refuse a limit of this process's memory under which its libraries cannot load.

    Without it they fail in any way: with an error, a crash, or OpenBLAS waiting without end.

    Raises:
        ConfigError: the limit is below `LEAST_MEGABYTES`.
    """
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEGABYTES * 10**6:
        raise ConfigError(
            f"the memory is not enough (a limit of {limit // 10**6} MB)",
            cure=f"raise the limit of this process (`ulimit -v`) or of its job to "
            f"{LEAST_MEGABYTES} MB or more",
        )


def fail_for_machine(error: Exception) -> int:
    """Print what the machine lacks or refuses; returns the exit code. Raises any other error."""
    if isinstance(error.__context__, KeyboardInterrupt):  # click's line, to a closed terminal
        return fail(interruption.MESSAGE, interruption.EXIT_CODE)
    if lacking := lacks_memory(error):
        cure = "raise the limit of this process (`ulimit -v`, `ulimit -u`) or of its job, or end "
        return fail(f"the memory is not enough ({lacking[-200:]}); {cure}other programs", 2)
    if not isinstance(error, OSError):
        raise error
    place = error.filename or "a file or standard output"
    cure = "check the path and its permissions"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        cure = "raise the limit of open files (`ulimit -n`)"
    return fail(f"{place}: {error.strerror or error}; {cure}", 6)


def fail(message: str, code: int) -> int:
    """Print a fault as one line, without passwords; returns its exit code."""
    with suppress(OSError):  # the terminal may be closed
        echo(f"cryossl: error: {redacted(' '.join(message.split()), paths=True)}", err=True)
    return code
