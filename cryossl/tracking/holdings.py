"""What a store still holds of what it once took: a store may be put back to an older backup."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from cryossl.system.files import file_sha256
from cryossl.tracking.journal import Entry
from cryossl.tracking.store.mlflow_store import Holdings

Line = tuple[int, Entry]


def lost_values(lines: Sequence[Line], holdings: Holdings, *, status: str) -> list[int]:
    """The ends of the lines that were sent and are not there, but for files.

    What a user has changed in the store stays: a tag is lost if it is gone, or has an older value
    of the journal; one with a value of somebody else is not.

    Args:
        lines: what the store had taken, each with the end of its line, oldest first.
        holdings: what it holds now.
        status: of the run in the store.
    """
    newest = {(entry.kind, entry.key, entry.step): (end, entry) for end, entry in lines}
    older: dict[str, set[object]] = defaultdict(set)
    for _, entry in lines:
        if entry.kind == "tag":
            older[entry.key].add(entry.value)

    def is_held(entry: Entry) -> bool:
        if entry.kind == "metric":
            return (entry.key, entry.step) in holdings.points
        if entry.kind == "param":
            return entry.key in holdings.params
        if entry.kind == "tag":
            held = holdings.tags.get(entry.key)
            return held == entry.value or not (held is None or held in older[entry.key])
        if entry.kind == "dataset":
            record = json.loads(str(entry.value))
            return (record["name"], record["digest"]) in holdings.datasets
        return _is_other_held(entry, holdings, status)

    return [end for end, entry in newest.values() if not is_held(entry)]


def _is_other_held(entry: Entry, holdings: Holdings, status: str) -> bool:
    if entry.kind in ("model", "version"):
        return bool(holdings.models)
    return entry.kind != "status" or entry.value in ("RUNNING", status)


def steps_sent(lines: Sequence[Line]) -> dict[str, set[int]]:
    """Metric -> the steps that were sent."""
    steps: dict[str, set[int]] = defaultdict(set)
    for _, entry in lines:
        if entry.kind == "metric":
            steps[entry.key].add(entry.step)
    return steps


def folders_sent(lines: Sequence[Line]) -> list[str]:
    """The folders in which files were sent; "" is the top."""
    return sorted(
        {
            str(PurePosixPath(entry.key).parent).strip(".")
            for _, entry in lines
            if entry.kind == "artifact"
        }
    )


def lost_files(
    lines: Sequence[Line],
    sizes: Mapping[str, int],
    kept: Path,
    local: Path | None,
) -> list[int]:
    """The ends of the lines of files that were sent and are gone or changed.

    Args:
        lines: as for `lost_values`.
        sizes: path -> bytes of what the store has.
        kept: the folder of the journal's own copies; a file that is gone there too is no loss that
            could be mended.
        local: the run's folder in the store, to compare SHA-256; None for one that is not on this
            machine: then the size has to do.
    """
    newest = {entry.key: (end, entry.value) for end, entry in lines if entry.kind == "artifact"}
    return [
        end
        for name, (end, digest) in newest.items()
        if (kept / name).is_file()
        and (
            sizes.get(name) != (kept / name).stat().st_size
            or (
                local is not None
                and _digest(local / name) not in (None, digest)
                and _digest(kept / name) == digest
            )
        )
    ]


def _digest(path: Path) -> str | None:
    """None for a file that cannot be read: nobody knows what is in it."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def not_newest(lines: Sequence[Line], holdings: Holdings) -> list[str]:
    """The metrics whose newest point is there, while the store shows another value as the newest.

    MLflow keeps the newest values in a table of their own, which `compare` reads. It is written
    with a new point only, so that to send one that is there does not mend it.
    """
    newest: dict[str, tuple[int, int, float]] = {}
    for _, entry in lines:
        if entry.kind == "metric":
            point = (entry.step, entry.timestamp_ms, float(entry.value))
            newest[entry.key] = max(newest.get(entry.key, point), point)
    last_step: dict[str, int] = {}
    for key, step in holdings.points:
        last_step[key] = max(last_step.get(key, step), step)
    return [
        key
        for key, (step, _, value) in newest.items()
        if last_step.get(key) == step and holdings.newest.get(key) != value
    ]
