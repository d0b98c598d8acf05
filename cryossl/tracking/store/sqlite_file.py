"""A sqlite file as a tracking store: is it MLflow's, of which version, and how to only read it."""

from __future__ import annotations

import atexit
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl

from cryossl.errors import ConfigError, NoExperimentError, TrackingError, one_line
from cryossl.tracking.address import sqlite_path, sqlite_uri

_MAGIC = b"SQLite format 3\0"
_WAL_MODE = 2  # of the two version bytes behind the magic text
_FIRST_TABLES = {"experiments", "runs", "metrics", "params", "tags", "alembic_version"}
_LOCKED_SECONDS = 3.0


def refuse_other_files(uri: str) -> None:
    """Raise ConfigError if `sqlite_fault` finds a fault in the file of a sqlite store."""
    path = sqlite_path(uri)
    fault = "" if path is None else sqlite_fault(path)
    if fault:
        raise ConfigError(
            f"tracking store {path} {fault}",
            cure="sqlite:///FILE names one, which may not exist yet",
        )


def sqlite_fault(path: Path) -> str:
    """Why the file at this path cannot be a sqlite store; empty if it can, or if there is none.

    MLflow would try to open it for minutes, or make its tables in it.
    """
    if not path.exists():
        return ""
    if not path.is_file():
        return "is no regular file"
    with path.open("rb") as file:
        found = file.read(len(_MAGIC))
    if found not in (b"", _MAGIC):
        return "is no sqlite database"
    return "is a database of another program" if _is_foreign(path) else ""


def _is_foreign(path: Path) -> bool:
    """Whether there are tables, and not those of MLflow; False for a file that cannot be read."""
    try:
        with closing(read_only(path)) as store:
            tables = tables_of(store)
    except sqlite3.Error:
        return False
    return bool(tables) and not tables >= {"experiments", "runs", "metrics", "params", "tags"}


def read_only(path: Path, *, seconds: float = 1.0) -> sqlite3.Connection:
    """A sqlite file, opened so that nothing is written. Raises sqlite3.Error."""
    return sqlite3.connect(_read_only_uri(path), uri=True, timeout=seconds)


def readable_uri(path: Path) -> str:
    """The address by which MLflow reads a sqlite store and writes nothing, also beside it.

    A database that cannot be read where it is, because a writer left it half-way and it may not be
    written here, is copied.

    Raises:
        TrackingError: it is damaged, locked, or of another version of MLflow.
        NoExperimentError: there is none, or nothing is in it.
    """
    if not path.exists():
        raise NoExperimentError(
            f"there is no tracking store {path}",
            cure="check the tracking URI; `python cli.py run` makes a new store",
        )
    try:
        place = path if _can_be_read_there(path) else _copied(path)
        with closing(read_only(place, seconds=_LOCKED_SECONDS)) as store:
            made_by = schema_of(store)
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise TrackingError(
                f"tracking store {path} is locked by a process that writes it", cure="wait for it"
            ) from None
        raise TrackingError(
            f"tracking store {path} cannot be read: {one_line(error)}",
            cure="`cryossl doctor` looks at it",
        ) from None
    if made_by is None:
        raise NoExperimentError(
            f"tracking store {path} is empty", cure="`python cli.py run` fills it"
        )
    fault, cure = schema_fault(place, made_by)
    if fault:
        raise TrackingError(f"tracking store {path} {fault}", cure=cure)
    file, _, options = _read_only_uri(place).replace("file://", "file:", 1).partition("?")
    # SQLite decodes the path once, and SQLAlchemy before it decodes what it is given here.
    return mlflow_uri(file, {**dict(parse_qsl(options)), "uri": "true"})


def mlflow_uri(database: str, query: Mapping[str, str] | None = None) -> str:
    """An address that SQLAlchemy reads as this database, whatever letters are in its path.

    With the driver in it: without, MLflow would make a folder of the name that is written here.
    """
    from sqlalchemy import URL

    return URL.create("sqlite+pysqlite", database=database, query=query or {}).render_as_string()


def _can_be_read_there(path: Path) -> bool:
    """False where SQLite would have to finish first what a writer left."""
    log = _beside(path, "-wal")
    if not _beside(path, "-shm").exists() and log.exists() and log.stat().st_size > 0:
        return False
    try:
        with closing(read_only(path, seconds=_LOCKED_SECONDS)) as store:
            tables_of(store)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        return False
    return True


def _read_only_uri(path: Path) -> str:
    """SQLite's address of a file that is only read.

    To open a database with a write-ahead log would make files beside it; while nobody has it open,
    it is taken as one that does not change.
    """
    still = "&immutable=1" if _in_wal_mode(path) and not _beside(path, "-shm").exists() else ""
    return f"{path.absolute().as_uri()}?mode=ro{still}"


def _in_wal_mode(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC) + 4)[-2:] == bytes((_WAL_MODE, _WAL_MODE))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _copied(path: Path) -> Path:
    """A copy with its logs, on which SQLite may finish what a writer left."""
    folder = Path(tempfile.mkdtemp(prefix="cryossl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / path.name
    for ending in ("", "-wal", "-journal"):
        if _beside(path, ending).exists():
            shutil.copyfile(_beside(path, ending), _beside(copy, ending))
    with closing(sqlite3.connect(copy)) as store:
        store.execute("PRAGMA journal_mode = DELETE")
    return copy


def tables_of(store: sqlite3.Connection) -> set[str]:
    """The names of a database's tables. Raises sqlite3.Error."""
    return {
        name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }


def schema_of(store: sqlite3.Connection) -> str | None:
    """Which schema of MLflow a database has.

    Returns:
        "" if the database does not say; None for an empty one, which MLflow fills.
    """
    tables = tables_of(store)
    if "alembic_version" not in tables:
        return "" if tables else None
    if "version_num" not in {
        column for _, column, *_ in store.execute("PRAGMA table_info(alembic_version)")
    }:
        return ""
    row = store.execute("SELECT CAST(version_num AS BLOB) FROM alembic_version").fetchone()
    said = bytes(row[0] or b"").decode(errors="replace") if row else ""
    return said if re.fullmatch(r"\w{0,40}", said) else f"{said!r:.40}"


def schema_fault(path: Path, made_by: str | None) -> tuple[str, str]:
    """What is wrong with the schema of a store, and the cure; two empty texts if nothing is.

    `made_by`: as `schema_of` returns it.
    """
    known, latest = mlflow_schemas()
    if made_by is None or not latest or made_by in latest:
        return "", ""
    if made_by == "" and is_half_made(path):
        return (
            "is half made: its making was interrupted",
            "if it holds nothing yet, remove it: a run makes it anew",
        )
    cure = (
        f"back it up, then `mlflow db upgrade {sqlite_uri(path)}`"
        if made_by in known
        else "install the MLflow that made it"
    )
    return f"is of another version of MLflow (schema {made_by or 'unknown'})", cure


def is_half_made(path: Path) -> bool:
    """Whether there are only the tables that MLflow makes first, and no run in them."""
    try:
        with closing(read_only(path)) as store:
            tables = tables_of(store)
            begun = bool(tables) and tables <= _FIRST_TABLES
            return begun and not (
                "runs" in tables and store.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
            )
    except sqlite3.Error:
        return False


def mlflow_schemas() -> tuple[set[str], set[str]]:
    """All schemas that the installed MLflow knows, and the newest of them.

    They are read from its files, because its import takes seconds.
    """
    found = find_spec("mlflow")
    known: set[str] = set()
    older: set[str] = set()
    for folder in found.submodule_search_locations or () if found else ():
        for path in Path(folder, "store", "db_migrations", "versions").glob("*.py"):
            pairs = re.findall(
                r"""^(down_)?revision = ["'](\w+)["']""",
                path.read_text(encoding="utf-8"),
                re.MULTILINE,
            )
            known |= {name for _, name in pairs}
            older |= {name for down, name in pairs if down}
    return known, known - older
