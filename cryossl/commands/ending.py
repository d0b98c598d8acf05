"""How a fault ends a command: one line on standard error, and an exit code."""

from __future__ import annotations

import errno
from contextlib import suppress

from cryossl.errors import lacks_memory
from cryossl.progress import interruption
from cryossl.progress.terminal import echo
from cryossl.redaction import redacted


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
