"""Tracked runs -> one tidy table: a row per data set, ratio, seed, strategy and iteration.

Runs are comparable if they have the same data (by digest, wherever these lay), the same settings
that decide a number, and the same code; `GROUP` names these three columns.

No run is dropped. A failed, unfinished, repeated, missing or foreign run keeps its row; `state` and
`note` say what is wrong with it, and it is not `used` in any mean.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from cryossl.config import deciding

COLUMNS = (
    "dataset",
    "data",
    "settings",
    "ratio_percent",
    "seed",
    "strategy",
    "iteration",
    "run_id",
    "start_time",
    "fingerprint",
    "status",
    "state",
    "used",
    "note",
    "accepted",
    "labelled_count",
    "pool_count",
    "stop_reason",
    "arm_status",
    "code_digest",
    "kept_stages",
    "headline_views",
)
STATES = {
    "FINISHED": "finished",
    "RUNNING": "unfinished",
    "SCHEDULED": "unfinished",
    "FAILED": "failed",
    "KILLED": "killed",
}
# Settings that differ between runs that are compared with each other, or that decide where a run
# happens but not what it computes.
NOT_SETTINGS = deciding("cell", "machine", "record", "nothing") | {"input.data"}
SECTIONS = ("input.", "split.", "network.", "training.", "selection.", "loop.", "evaluation.")

NO_MODELS = ("arm", "experiment", "tuning", "trial")
"""Kinds of runs that stand for no trained model of a table."""

Row = dict[str, Any]
# The columns that a cell of the grid of experiments shares, and those that an arm shares.
GROUP = ("data", "settings", "code_digest")
_CELL = (*GROUP, "ratio_percent", "seed")
_ARM = ("fingerprint", "data", "ratio_percent", "seed", "strategy")


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy table of tracked runs.

    Args:
        frame: a row per run, as `cryossl.tracking.tracker` reads them: run_id, parent_id, status,
            start_time, then tags, params and metrics under their own names (MLflow's prefixes
            `tags.`, `params.`, `metrics.` are removed). Each iteration run becomes a row of the
            table. Arm runs, where there are any, add why an arm stopped.

    Returns:
        `COLUMNS`, then every param (`section.field`) and every metric (`test/f1`) under its name.
        `state` is finished, unfinished, failed, killed, empty (an arm that kept no pseudo-label),
        duplicate, superseded, missing or foreign.
    """
    records = [_plain(record) for record in frame.to_dict("records")]
    arms = [record for record in records if record.get("cryossl.kind") == "arm"]
    trained = [record for record in records if record.get("cryossl.kind") not in NO_MODELS]
    firsts = _first_of_each_experiment(records)
    rows = [_row(record, firsts) for record in trained]
    _add_arms(rows, arms, firsts)
    _mark_superseded(rows)
    _mark_duplicates(rows)
    data_names = {row["data"]: row["dataset"] for row in rows}
    rows += [row | {"dataset": data_names[row["data"]]} for row in (*_gaps(rows), *_missing(rows))]
    for row in rows:
        row.pop("best_iteration", None)
        row["used"] = row["state"] in ("finished", "empty")
    rows.sort(key=_order)
    names = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    return pd.DataFrame(rows, columns=names).astype({"used": bool})


def recorded_settings(frame: pd.DataFrame) -> list[Row]:
    """The params and tags of each run, in the frame's order, as `tidy` takes them.

    The settings that decide a number are those of the first start of the run's experiment: the
    runs of a strategy with settings of its own recorded these under the plain names.
    """
    records = [_plain(record) for record in frame.to_dict("records")]
    firsts = _first_of_each_experiment(records)
    return [
        record
        | {
            name: value
            for name, value in _params(
                firsts.get(record.get("cryossl.experiment_fingerprint", ""), {})
            ).items()
            if name not in NOT_SETTINGS
        }
        for record in records
    ]


def metric_names(columns: Iterable[object]) -> list[str]:
    """The columns that are metrics: the ones with a path, such as `test/f1`."""
    return [
        name
        for name in map(str, columns)
        if "/" in name and not name.startswith(("cryossl.", "mlflow."))
    ]


def setting_names(columns: Iterable[object]) -> list[str]:
    """The columns that are settings (`section.field`) and decide a result.

    Ratio, seed, strategies and the place of the run are left out.
    """
    return [name for name in map(str, columns) if _is_param(name) and name not in NOT_SETTINGS]


def data_name(group: pd.DataFrame) -> str:
    """What the newest run of a group called its data: `input.data`."""
    newest = max(group.to_dict("records"), key=lambda row: started(row["start_time"]))
    return str(newest["dataset"])


def _is_param(name: str) -> bool:
    return name.startswith(SECTIONS) and "/" not in name


def _plain(record: Mapping[Any, Any]) -> Row:
    """The record without MLflow's prefixes and without empty cells."""
    plain: Row = {}
    for key, value in record.items():
        name = str(key)
        for prefix in ("tags.", "params.", "metrics."):
            name = name.removeprefix(prefix)
        if not is_absent(value):
            plain[name] = value
    return plain


def is_absent(value: object) -> bool:
    """Whether a cell of a table of runs is empty: None, NaN or NaT."""
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _row(record: Row, firsts: Mapping[str, Row]) -> Row:
    """The tidy row of an iteration run; a run without valid tags of cryossl is foreign.

    Runs with the same fingerprint are one experiment. Settings that decide no number may differ
    between its starts, so all its runs take the settings and the data set of the first start.
    """
    status = str(record.get("status", ""))
    row: Row = {
        "run_id": record.get("run_id"),
        "status": status,
        "start_time": record.get("start_time"),
        "note": "",
        "iteration": None,
        "state": STATES.get(status, "failed"),
        "accepted": _truth(record.get("cryossl.accepted")),
        "stop_reason": record.get("cryossl.stop_reason", ""),
        "arm_status": None,
        "labelled_count": number_in(record.get("cryossl.labelled_count")),
        "pool_count": number_in(record.get("cryossl.pool_count")),
        "fingerprint": record.get("cryossl.experiment_fingerprint", ""),
        "code_digest": str(record.get("cryossl.code_digest", "")),
        "kept_stages": _truth(record.get("cryossl.kept_stages")) is True,
        "headline_views": number_in(record.get("cryossl.headline_views")),
        "tries": str(record.get("cryossl.tries", "")),
    }
    row |= {name: record[name] for name in metric_names(record)}
    first, own = firsts.get(row["fingerprint"], {}), _params(record)
    row |= own | {
        name: value for name, value in _params(first).items() if name not in NOT_SETTINGS or not own
    }
    row["settings"] = settings_digest(row)
    data = first or record
    row["dataset"] = str(data.get("cryossl.dataset", ""))
    row["data"] = str(data.get("cryossl.data_digest", row["dataset"]))
    try:
        row |= {
            "strategy": str(record["cryossl.strategy"]),
            "ratio_percent": float(record["cryossl.ratio_percent"]),
            "seed": int(float(record["cryossl.seed"])),
            "iteration": int(float(record.get("cryossl.iteration", 0))),
        }
    except (KeyError, ValueError):
        return row | {"state": "foreign", "note": "not a run of cryossl, or its tags are damaged"}
    if row["state"] in ("failed", "killed", "unfinished"):
        row["note"] = f"run is {status or 'without a status'}"
    return row


def settings_digest(row: Mapping[str, Any]) -> str:
    """Eight hex digits of the settings that `setting_names` lists.

    Empty if no setting is known.
    """
    settings = sorted((name, str(row[name])) for name in setting_names(row))
    return hashlib.blake2s(repr(settings).encode(), digest_size=4).hexdigest() if settings else ""


def _params(record: Row) -> Row:
    return {name: value for name, value in record.items() if _is_param(name)}


def _first_of_each_experiment(records: Iterable[Row]) -> dict[str, Row]:
    """Fingerprint -> the oldest record that has params."""
    found: dict[str, Row] = {}
    for record in sorted(records, key=lambda record: started(record.get("start_time"))):
        if _params(record):
            found.setdefault(record.get("cryossl.experiment_fingerprint", ""), record)
    found.pop("", None)
    return found


def _add_arms(rows: list[Row], arms: Iterable[Row], firsts: Mapping[str, Row]) -> None:
    """Copy each arm's status and stop reason to the rows of its iterations.

    An arm without iterations gets a row of its own.
    """
    own = _grouped(rows, *_ARM, but=("foreign",))
    for record in sorted(arms, key=lambda record: str(record.get("start_time", ""))):
        arm = _row({"cryossl.iteration": 1, **record}, firsts)
        best = number_in(record.get("cryossl.best_iteration"))
        iterations = own.get(tuple(map(arm.get, _ARM)), []) if arm["state"] != "foreign" else []
        for row in iterations:
            row |= {
                "arm_status": arm["status"],
                "stop_reason": arm["stop_reason"] or row["stop_reason"],
                "best_iteration": best,
            }
        if not iterations:
            rows.append(_without_iterations(arm, best=best))


def _without_iterations(arm: Row, *, best: float | None) -> Row:
    arm = {
        name: value for name, value in arm.items() if "/" not in name or name.startswith("pseudo/")
    }
    arm |= {"iteration": 1, "arm_status": arm["status"]}
    if arm["state"] != "finished":
        return arm
    state, note, accepted = (
        ("missing", "none of its iterations is in the store", None)
        if best
        else ("empty", arm["stop_reason"] or "no pseudo-label was kept", False)
    )
    return arm | {"state": state, "note": note, "accepted": accepted}


def _grouped(
    rows: Iterable[Row], *names: str, but: Sequence[str] = ("foreign", "superseded")
) -> dict[tuple[Any, ...], list[Row]]:
    """The rows by the values of these columns, without the rows in the states `but`."""
    groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["state"] not in but:
            groups[tuple(row[name] for name in names)].append(row)
    return groups


def _mark_superseded(rows: list[Row]) -> None:
    """Mark all but one of several experiments at one ratio and seed: they may not be mixed.

    The one with the most finished runs is kept, among equals the newest.
    """
    for cell in _grouped(rows, *_CELL, but=("foreign",)).values():
        finished = Counter(
            row["fingerprint"] for row in cell if row["state"] in ("finished", "empty")
        )
        kept = max(
            cell, key=lambda row: (finished[row["fingerprint"]], started(row.get("start_time")))
        )["fingerprint"]
        for row in cell:
            if row["fingerprint"] != kept:
                row |= {
                    "state": "superseded",
                    "note": "another experiment with this ratio and seed is more complete or newer",
                }


def _mark_duplicates(rows: list[Row]) -> None:
    """Mark all but one of several runs of an iteration; a finished one is kept, then the newest."""
    for group in _grouped(rows, *_CELL, "strategy", "iteration").values():
        kept = max(
            group,
            key=lambda row: (row["state"] in ("finished", "empty"), started(row.get("start_time"))),
        )
        for row in group:
            if row is not kept:
                row |= {"state": "duplicate", "note": f"run {kept['run_id']} stands for it"}


def _gaps(rows: list[Row]) -> list[Row]:
    """A row for every iteration that the store lacks.

    It lacks one if a later iteration is there, or if the finished arm kept this one or a later one.
    """
    gaps = []
    for (*cell, strategy), arm in _grouped(rows, *_CELL, "strategy").items():
        there = {row["iteration"] for row in arm}
        last = max(there | {int(row.get("best_iteration") or 0) for row in arm})
        gaps += [
            _missing_row(cell, strategy, iteration, f"iteration {iteration} is not in the store")
            for iteration in range(1, last + 1)
            if iteration not in there
        ]
    return gaps


def _missing(rows: list[Row]) -> list[Row]:
    """A row for every strategy that a seed lacks and another seed of the same ratio has.

    The baseline is always one of them.
    """
    missing = []
    for cell, group in _grouped(rows, *_CELL[:-1]).items():
        present = {(row["seed"], row["strategy"]) for row in group}
        seeds, strategies = zip(*present, strict=True)
        missing += [
            _missing_row([*cell, seed], strategy, int(strategy != "supervised"), "no such run")
            for seed, strategy in product(set(seeds), {"supervised", *strategies})
            if (seed, strategy) not in present
        ]
    return missing


def _missing_row(cell: Sequence[Any], strategy: str, iteration: int, note: str) -> Row:
    """The row of an iteration that is not in the store; `cell` holds the values of `_CELL`."""
    return {
        **dict(zip(_CELL, cell, strict=True)),
        "strategy": strategy,
        "iteration": iteration,
        "state": "missing",
        "status": "",
        "run_id": None,
        "fingerprint": "",
        "stop_reason": "",
        "kept_stages": False,
        "note": note,
    }


def _order(row: Row) -> tuple[Any, ...]:
    return (
        *(str(row.get(name, "")) for name in GROUP),
        row.get("ratio_percent", math.inf),
        str(row.get("strategy", "")),
        row.get("seed", math.inf),
        row.get("iteration") or 0,
        str(row.get("run_id")),
    )


def started(start: object) -> float:
    """Start of a run in seconds since 1970; -inf, so the oldest, if it is unknown."""
    if isinstance(start, pd.Timestamp):  # NaT is no Timestamp
        return start.timestamp()
    return float(start) if isinstance(start, int | float) and math.isfinite(start) else -math.inf


def _truth(value: object) -> bool | None:
    return {"true": True, "false": False}.get(str(value).lower())


def number_in(value: object) -> float | None:
    """The finite number that a tag or param spells, or None."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
