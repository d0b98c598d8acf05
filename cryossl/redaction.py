"""What may be shown of an address: scheme, host, port and the name of a database, nothing else."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote

HIDDEN = "***"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>()]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d{1,5})?")
_DATABASES = frozenset({"postgresql", "postgres", "mysql", "mssql", "oracle"})
_SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PGPASS|CREDENTIAL|_KEY$|CONNECTION_STRING"
)
_PLAIN_QUERY = frozenset({"sslmode", "charset", "driver", "connect_timeout"})
# the pages that `cryossl ui` names: nothing in their queries is a secret
_PAGE = re.compile(
    r"/#/experiments/\d+/runs\?viewStateShareKey=cryossl-[a-z]+"
    r"&compareRunsMode=CHART&workflowType=machine_learning"
)
_LEAST_LETTERS = 4  # a shorter text is part of too many words
_known: set[str] = set()


def shown(uri: str) -> str:
    """An address as it may be shown.

    Of a file the path is shown. Whatever could be part of a password becomes ***: with an @ behind
    the host it is not known where a password ends.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri if re.fullmatch(r"[\w./ ~\\-]*", uri) else HIDDEN
    if not _SCHEME.fullmatch(scheme):
        return HIDDEN
    kind = scheme.partition("+")[0]
    if kind in ("sqlite", "file") and rest.startswith("/"):
        return f"{scheme}://{rest.partition('?')[0]}"
    place, path = _parted(rest)
    host = place.rpartition("@")[2]
    if "@" in path or not _HOST.fullmatch(host):
        return f"{scheme}://{HIDDEN}"
    database = re.match(r"/[\w.-]+(?=[?#]|$)", path) if kind in _DATABASES else None
    return f"{scheme}://{host}{database[0] if database else ''}"


def redacted(text: str, *, paths: bool = False) -> str:
    """A text with each address in it as it may be shown, and without known secrets.

    Known are those of addresses that were given to `remember`, and the values of environment
    variables with names such as TOKEN or PASSWORD.

    Args:
        text: of any kind.
        paths: leave the paths of addresses: the text is of something else than a tracking store.
    """
    for secret in sorted(_known | _secrets_of_environment(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _ADDRESS.sub(lambda found: (_with_path if paths else shown)(found[0]), text)


def remember(uri: str) -> None:
    """Note the secrets of an address, so that they are hidden in whatever a library says."""
    rest = uri.partition("://")[2] or uri
    user, at, _ = rest.rpartition("@")
    secrets = {user.partition(":")[2] if at else ""}
    secrets.update(
        value
        for name, value in parse_qsl(uri.partition("?")[2])
        if name.lower() not in _PLAIN_QUERY
    )
    for secret in secrets:
        forms = {secret, unquote(secret), quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
        _known.update(form for form in forms if len(form) >= _LEAST_LETTERS)


def hide_in_tracebacks() -> None:
    """From now on a traceback of this process is printed without secrets."""

    def print_it(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lines = traceback.format_exception(kind, error, trace)
        sys.stderr.write(redacted("".join(lines), paths=True))

    sys.excepthook = print_it
    threading.excepthook = lambda args: print_it(args.exc_type, args.exc_value, args.exc_traceback)


def _parted(rest: str) -> tuple[str, str]:
    """Host with user, and what comes after it."""
    end = re.search(r"[/?#\\]", rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])


def _with_path(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    place, path = _parted(rest)
    if "@" in path:
        return shown(uri)
    seen = path if _PAGE.fullmatch(path) else path.partition("?")[0]
    return f"{scheme}://{place.rpartition('@')[2]}{seen}"


def _secrets_of_environment() -> set[str]:
    return {
        value
        for name, value in os.environ.items()
        if _SECRET_NAMES.search(name.upper()) and len(value) >= 2 * _LEAST_LETTERS
    }
