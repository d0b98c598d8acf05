"""Where the files of a sqlite store's runs are, also after their folder was moved or copied.

MLflow keeps the absolute place of each run's files. Those that are made here are in `mlruns/`
beside the database, so they are looked for there first, wherever the database is now.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

FOLDER = "mlruns"
FORMER = "cryossl.former_places"
"""Tag of an experiment: where its files were before, one place a line, the newest first."""
_FORMER_KEPT = 5
_LOCKED_SECONDS = 20.0
# (experiment, place of its files, whether a run has it), of the experiments and of their runs:
# the place of a run's files is PLACE/RUN/artifacts.
_PLACES = """
SELECT experiment_id, artifact_location, 0 FROM experiments UNION
SELECT experiment_id, substr(artifact_uri, 1, length(artifact_uri) - length(run_uuid) - 11), 1
FROM runs WHERE artifact_uri LIKE '%/' || run_uuid || '/artifacts'"""


def local_path(uri: str) -> Path | None:
    """The path of a file URI or of a plain path; None for an address of another kind."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    return Path(uri) if not parts.scheme and uri.startswith("/") else None


def places_to_look(database: Path | None, artifact_uri: str, former: str) -> tuple[Path, ...]:
    """The folders in which the files of a run may be, the likeliest first; none if not local.

    Args:
        database: of a sqlite store; None for another store.
        artifact_uri: of the run, as the store has it.
        former: the tag FORMER of its experiment.
    """
    said = local_path(artifact_uri)
    if said is None:
        return ()
    run = Path(said.parent.name, said.name)
    beside = None if database is None else _beside(database, said.parent.parent)
    before = [Path(line) / run for line in former.splitlines() if line.startswith("/")]
    places = ([] if beside is None else [beside / run]) + [said, *before]
    return tuple(dict.fromkeys(places))


def model_places(database: Path | None, location: str) -> tuple[Path, ...]:
    """The folders in which the files of a logged model may be, as `places_to_look` for a run.

    `location`: of the model's files, as the store has it: EXPERIMENT/models/ID/artifacts.
    """
    said = local_path(location)
    if said is None:
        return ()
    beside = None if database is None else _beside(database, said.parents[2])
    places = [] if beside is None else [beside.joinpath(*said.parts[-3:])]
    return (*places, said)


def mend_places(database: Path) -> list[Path]:
    """Let a database that was moved or copied name the places beside it.

    A copy never writes into the original's place. What stayed in an old place is still read
    there. A place that somebody chose elsewhere is kept: its files are there, none are beside the
    database, and no database is beside them.

    Returns the folders that were named before, those without runs left out. Raises OSError if the
    database cannot be written.
    """
    before = []
    try:
        with closing(sqlite3.connect(database, timeout=_LOCKED_SECONDS)) as store, store:
            places = store.execute(_PLACES).fetchall()
            # The default experiment was made with the database.
            origins = {local_path(location or "") for number, location, _ in places if not number}
            with_runs = {experiment for experiment, _, used in places if used}
            made_in = {one.parent for one in origins if one is not None}
            for experiment, location, used in places:
                old = local_path(location or "")
                new = None if old is None else _beside(database, old)
                if old is None or new is None:
                    continue
                if _has_moved(database, old, new, known=bool(used) or old.parent in made_in):
                    _move(store, experiment, location, old=old, new=new)
                    before += [old.parent] * (experiment in with_runs)
    except sqlite3.Error as error:
        raise OSError(f"its places of files cannot be mended: {error}") from None
    return list(dict.fromkeys(before))


def _move(
    store: sqlite3.Connection, experiment: int, location: str, *, old: Path, new: Path
) -> None:
    uri = new.as_uri() if location.startswith("file:") else str(new)
    store.execute(
        "UPDATE experiments SET artifact_location = ? "
        "WHERE experiment_id = ? AND artifact_location = ?",
        (uri, experiment, location),
    )
    store.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
        "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
        (uri, len(location) + 1, experiment, len(location) + 1, f"{location}/"),
    )
    models = (
        ("logged_models", "artifact_location"),
        ("model_versions", "source"),
        ("model_versions", "storage_location"),
    )
    for table, column in models:
        store.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE substr({column}, 1, ?) = ?",
            (uri, len(location) + 1, len(location) + 8, f"{location}/models/"),
        )
    tag = store.execute(
        "SELECT value FROM experiment_tags WHERE key = ? AND experiment_id = ?",
        (FORMER, experiment),
    ).fetchone()
    former = dict.fromkeys([str(old), *((tag and tag[0]) or "").splitlines()])
    former.pop(str(new), None)
    store.execute(
        "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)",
        (FORMER, "\n".join(list(former)[:_FORMER_KEPT]), experiment),
    )


def _beside(database: Path, place: Path) -> Path | None:
    """The place of an experiment's files if it were beside the database.

    None if it is there already, by whatever path, or if it is none of `mlruns/`.
    """
    home, old = database.absolute().parent, place.parent.parent
    if place.parent.name != FOLDER or old == home:
        return None
    with suppress(OSError):
        if old.samefile(home):
            return None
    return home.resolve() / FOLDER / place.name


def _has_moved(database: Path, old: Path, new: Path, *, known: bool) -> bool:
    """Whether the files belong beside the database: it was moved, or is a copy.

    `known`: files were written to the old place, or the database was made there. Another place
    may not have been made yet.
    """
    home = old.parent.parent
    return (
        os.path.exists(new)  # noqa: PTH110 (a folder that may not be entered is not there)
        or (known and not os.path.exists(old.parent))  # noqa: PTH110
        or any(home.glob(f"*{database.suffix or database.name}"))
    )
