"""Grids of runs recorded in a real tracking store, as an experiment records them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryossl.tracking.tracker import Tracker


def record_grid(
    uri: str, folder: Path, rows: Sequence[Mapping[str, Any]], documents: Mapping[str, Any]
) -> dict[str, str]:
    """Write the iteration runs of a grid with counts and pictures, and the arm runs above them; key -> run id.

    A run ends with its row's `status`; one that is RUNNING does not end. The key of an arm is
    `<strategy>-<ratio>-<seed>`.
    """
    tracker = Tracker(uri, "cryossl", folder / "journals")
    ids: dict[str, str] = {}
    arms: defaultdict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        strategy, ratio, seed = (
            str(row[f"cryossl.{name}"]) for name in ("strategy", "ratio_percent", "seed")
        )
        arms[strategy, ratio, seed].append(row)
        ids[row["run_id"]] = _iteration(
            tracker,
            row,
            documents.get(row["run_id"]),
            name=f"<script>{strategy} {ratio}% seed {seed} iteration {row['cryossl.iteration']}",
        )
    for (strategy, ratio, seed), models in arms.items():
        if strategy != "supervised":
            base = arms.get(("supervised", ratio, seed), [])
            ids[f"{strategy}-{ratio}-{seed}"] = _arm(
                tracker, [*base, *models], name=f"{strategy} {ratio}% seed {seed}"
            )
    if tracker.sync():
        raise AssertionError(f"the store took not everything: {tracker.away}")
    return ids


def _iteration(tracker: Tracker, row: Mapping[str, Any], counts: Any, *, name: str) -> str:
    run = tracker.run(row["run_id"], name=name, parent=None, tags=_tags(row))
    run.params(_settings(row))
    run.metrics(_metrics(row), step=int(row["cryossl.iteration"]))
    if counts is not None:
        run.json(counts, "counts.json")
    run.image(np.full((8, 32, 3), 90, np.uint8), key="validation_worst", step=1)
    if row["status"] != "RUNNING":
        run.finish(row["status"])
    return str(run.run_id)


def _arm(tracker: Tracker, models: Sequence[Mapping[str, Any]], *, name: str) -> str:
    tags = {
        key: value
        for key, value in _tags(models[-1]).items()
        if key not in ("cryossl.iteration", "cryossl.accepted")
    }
    best = max(
        (int(row["cryossl.iteration"]) for row in models if row["cryossl.accepted"] == "true"),
        default=0,
    )
    tags |= {"cryossl.kind": "arm", "cryossl.best_iteration": str(best)}
    with tracker.run(f"arm {name}", name=name, parent=None, tags=tags) as run:
        run.params(_settings(models[-1]))
        for row in models:
            run.metrics(_metrics(row), step=int(row["cryossl.iteration"]))
    return str(run.run_id)


def _tags(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in row.items()
        if name.startswith("cryossl.") and value is not None
    }


def _metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "/" in name}


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.items()
        if "." in name and "/" not in name and not name.startswith("cryossl.")
    }
