"""The tracked run of a `pick`: what was asked, what came of it, and the pages to look at."""

from __future__ import annotations

import json
import statistics
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from cryossl.config import Config
from cryossl.errors import CryosslError, DataError, StorageError
from cryossl.network.picking_model import Description
from cryossl.picking.writing import Written
from cryossl.selftraining.stage_code import name_of, present_code
from cryossl.system.digest import digest
from cryossl.system.files import write_durably
from cryossl.system.user_files import read_json
from cryossl.tracking.reader import read_runs
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.tracker import Tracker, lacking_text

KIND = "pick"
_UNFINISHED = ".unfinished-run.json"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Record:
    """What came of a `pick`.

    `faults` has micrograph -> why it was not picked; `sheet` is the file of the contact sheet,
    `facts` are the lines at its head.
    """

    written: Written
    faults: Mapping[Path, str]
    sheet: Path
    facts: Mapping[str, str]


@contextmanager
def tracked(
    config: Config,
    folder: Path,
    *,
    tracks: bool,
    asked: Mapping[str, object],
    model: Description,
) -> Iterator[Callable[[Record], None]]:
    """Give what records the picks in the run of this invocation, which ends with the block.

    A `pick` that was killed goes on in its run, if the same is asked again. A tracking store that
    is away gets everything later.

    Args:
        config: names store, experiment and journals.
        folder: of the picks.
        tracks: False records nothing.
        asked: the params.
        model: that picks.

    Raises:
        TrackingError: the store can never be written as it is.
        StorageError: the journal or the folder cannot be written.
    """
    if not tracks:
        yield lambda _: None
        return
    tracker = Tracker(config.run.tracking_uri, config.run.experiment, config.run.journals)
    wanted = digest({**asked, "model": model.origin.run_key})
    tags = _tags(config, asked, model, away=bool(tracker.away))
    with tracker.invocation(
        name=f"pick {folder.name}", tags=tags, key=_key(folder / _UNFINISHED, wanted)
    ) as run:
        run.params(asked)
        yield lambda record: _record(run, record)
    (folder / _UNFINISHED).unlink(missing_ok=True)
    missing = tracker.sync()
    if missing:
        click.echo(lacking_text(missing))


def _key(file: Path, wanted: str) -> str:
    """The key of the run that an earlier start did not finish, or of a new one."""
    try:
        document = read_json(file)
        if document["asked"] == wanted:
            return str(document["run"])
    except (DataError, KeyError, TypeError):
        pass  # there is none, or its start was killed while it was written
    key = f"pick-{uuid.uuid4().hex}"
    try:
        write_durably(file, json.dumps({"run": key, "asked": wanted}).encode())
    except OSError as error:
        raise StorageError(
            f"cannot write {file}: {error.strerror}", cure="choose another folder with --to"
        ) from None
    return key


def _tags(
    config: Config, asked: Mapping[str, object], model: Description, *, away: bool
) -> dict[str, str]:
    given = asked["pick.micrographs"]
    names = [str(name) for name in given] if isinstance(given, list) else []
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    tags = {
        "cryossl.kind": KIND,
        "cryossl.dataset": ", ".join(names[:_MOST_NAMED]) + more,
        "cryossl.code_digest": name_of(present_code()),
        "cryossl.model": str(asked["pick.model"]),
        "cryossl.model_strategy": model.origin.strategy,
        "cryossl.model_fingerprint": model.origin.run_key,
        "cryossl.model_data_digest": model.origin.data_digest,
    }
    run_id = None if away else _run_of(config, model.origin.run_key)
    return tags if run_id is None else {**tags, "cryossl.model_run_id": run_id}


def _run_of(config: Config, fingerprint: str) -> str | None:
    """The id of the run that made the model, if the store has it."""
    try:
        runs = read_runs(
            config.run.tracking_uri,
            config.run.experiment,
            kind="iteration",
            tags={"cryossl.fingerprint": fingerprint},
        )
    except CryosslError:
        return None
    return str(runs["run_id"].iloc[-1]) if len(runs) else None


def _record(run: TrackedRun, record: Record) -> None:
    rows = record.written.rows
    counts = [row.picks for row in rows]
    doubtful = len(record.written.doubtful)
    run.tags(
        {
            "cryossl.threshold": record.facts["threshold"],
            "cryossl.data_digest": record.written.content,
        }
    )
    run.metrics(
        {
            "pick/micrographs": len(rows),
            "pick/picks": sum(counts),
            "pick/mean": statistics.fmean(counts) if counts else None,
            "pick/median": statistics.median(counts) if counts else None,
            "pick/doubtful": doubtful,
            "pick/failed": len(record.faults),
        },
        step=0,
    )
    run.table([_plain(asdict(row), row.doubt) for row in rows], "micrographs.json")
    if record.faults:
        run.table(
            [{"micrograph": str(path), "fault": why} for path, why in record.faults.items()],
            "failed.json",
        )
    run.file(record.sheet)
    run.describe(
        f"{sum(counts):,} picks in {len(rows):,} micrographs, score {record.facts['threshold']} or "
        f"more, with {record.facts['strategy']}; {doubtful} micrographs are doubtful, "
        f"{len(record.faults)} could not be picked."
    )


def _plain(row: dict[str, Any], doubt: str) -> dict[str, Any]:
    return {"micrograph": row.pop("name"), **row, "doubt": doubt}
