"""The cost of the guards: the share of a run's wall time in work that only an accident needs.

Guards are: flushing files and folders to the disk, checkpoints, the hashes with which stages and
the decoded store are sealed and verified, hashing pictures and checking whether they changed,
reading and checking COCO records, the check of machine and disk before the start, and the check for
a signal between two steps. Each is timed from outside in a run of the default settings with one
iteration instead of three. Without them a run would take (1 - share) of its time.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.stopwatch import Stopwatch, watched
from cryossl.commands import run as launch
from cryossl.config_file import build
from cryossl.data.coco import dataset as coco
from cryossl.data.store import decoding, store
from cryossl.network import checkpoints, training
from cryossl.system import stages

GUARDS: dict[str, list[tuple[Any, str]]] = {
    "flushing to the disk": [(os, "fsync")],
    "checkpoints": [(checkpoints.Checkpoint, "save"), (checkpoints.Checkpoint, "load")],
    "sealing and verifying stages": [(stages, "_seal"), (stages, "_is_whole")],
    "verifying the decoded store": [(store, "_is_whole")],
    "hashes of pictures": [
        (store, "hash_files"),
        (store, "remembered_hashes"),
        (decoding, "_require_unchanged"),
    ],
    "checking COCO records": [(coco, "read_records")],
    "machine and disk": [(launch, "require_fit_machine")],
    "signals between steps": [(training, "_report")],
}


def main() -> dict[str, float]:
    """Print the table; return the seconds of the run and the share of each guard and of all."""
    with tempfile.TemporaryDirectory() as name:
        found = shares_of_a_run(Path(name))
    print(f"guards of a run of {found['run_seconds']:.1f} s (all together under 3%)")
    for guard in (*GUARDS, "all"):
        print(f"  {guard:<30} {100 * found[guard]:6.2f}%")
    return found


def shares_of_a_run(folder: Path) -> dict[str, float]:
    """Guard -> share of the wall time of a whole run.

    Time in a guard that another guard calls counts for both, but only once in `all`.
    """
    config = build(
        {
            "data": "synthetic",
            "work": folder / "work",
            "results": folder / "experiments",
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "max_iterations": 1,
        }
    )
    each, together = {guard: Stopwatch() for guard in GUARDS}, Stopwatch()
    calls = [(owner, name, each[guard]) for guard, named in GUARDS.items() for owner, name in named]
    with watched(calls), watched([(owner, name, together) for owner, name, _ in calls]):
        began = time.perf_counter()
        launch.run(config)
        run_seconds = time.perf_counter() - began
    shares = {guard: stopwatch.seconds / run_seconds for guard, stopwatch in each.items()}
    return {"run_seconds": run_seconds, **shares, "all": together.seconds / run_seconds}


if __name__ == "__main__":
    main()
