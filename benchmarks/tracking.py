"""The cost of tracking: its share of a run's wall time.

The share is measured on a real run of the whole experiment. The run is shorter than a typical one,
so the share is an upper bound. Every public call that writes to the tracker is timed from outside,
with journal, fsync and a sqlite store.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stopwatch import Stopwatch, watched
from cryossl.commands import run as launch
from cryossl.config_file import build
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.tracker import Tracker

EPOCHS, STUDENT_EPOCHS, ITERATIONS = 20, 10, 1
WRITING = {
    TrackedRun: (
        "params",
        "metrics",
        "tags",
        "describe",
        "text",
        "json",
        "table",
        "image",
        "file",
        "dataset",
        "finish",
    ),
    Tracker: ("__init__", "invocation", "run", "sync"),
}


def main() -> dict[str, float]:
    """Print the table; return seconds and the share."""
    with tempfile.TemporaryDirectory() as name:
        share = share_of_a_run(Path(name))
    print(
        f"tracking, sqlite\n  run of {share['run_seconds']:.1f} s, {share['tracking_seconds']:.2f} "
        "s in tracking calls, of "
        f"which {share['opening_seconds']:.2f} s import mlflow and make a fresh store, once\n"
        f"  share {100 * share['share']:.1f}% without that (under 2%)"
    )
    return share


def share_of_a_run(folder: Path) -> dict[str, float]:
    """Seconds of a whole run and of its tracking calls, and the share of these calls.

    The share leaves out the opening of a fresh store.
    """
    config = build(
        {
            "data": "synthetic",
            "work": folder / "work",
            "results": folder / "experiments",
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "baseline_epochs": EPOCHS,
            "student_epochs": STUDENT_EPOCHS,
            "least_steps": 0,
            "max_iterations": ITERATIONS,
        }
    )
    total, opening = Stopwatch(), Stopwatch()
    calls = [
        (owner, name, opening if name == "__init__" else total)
        for owner, names in WRITING.items()
        for name in names
    ]
    with watched(calls):
        began = time.perf_counter()
        launch.run(config)
        run_seconds = time.perf_counter() - began
    return {
        "run_seconds": run_seconds,
        "tracking_seconds": total.seconds + opening.seconds,
        "opening_seconds": opening.seconds,
        "share": total.seconds / (run_seconds - opening.seconds),
    }


if __name__ == "__main__":
    measured = main()
    if "--json" in sys.argv[1:]:
        print(json.dumps(measured, indent=1))
