"""Reading 200 iteration runs of a sqlite store that holds 1,000, and of one that holds 10,000.

Each store is read in a process of its own: seconds of our filtered query, the process's peak memory
after it (the kernel's VmHWM, with Python, pandas and mlflow in it), then seconds of MLflow's
unfiltered `search_runs` over all its pages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

WANTED, SMALL, LARGE = 200, 1_000, 10_000
METRICS, PARAMS = 30, 20
BARS = {"seconds": 2.0, "peak_mib": 300.0, "ratio": 20.0}
READ = """
import json, sys, time
from pathlib import Path
from mlflow import MlflowClient
from cryossl.tracking.reader import read_runs
uri = sys.argv[1]
# The first call imports mlflow and opens the store.
read_runs(uri, "cryossl", kind="iteration", tags={"cryossl.dataset": "none"})
began = time.perf_counter()
found = len(read_runs(uri, "cryossl", kind="iteration", tags={"cryossl.dataset": "wanted"}))
seconds = time.perf_counter() - began
peak_mib = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
client, token, every = MlflowClient(uri), None, 0
experiment = client.get_experiment_by_name("cryossl").experiment_id
began = time.perf_counter()
while token or not every:
    page = client.search_runs([experiment], page_token=token)
    every, token = every + len(page), page.token
unfiltered = time.perf_counter() - began
print(json.dumps({"found": found, "seconds": seconds, "peak_mib": peak_mib, "every": every,
                  "unfiltered_seconds": unfiltered, "ratio": unfiltered / seconds}))
"""


def main() -> dict[str, Any]:
    """Print the table; return the measurements of each store, and which bars are met."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            stored: _read(fill(Path(folder) / f"{stored}.db", stored), stored)
            for stored in (SMALL, LARGE)
        }
    for stored, one in measured.items():
        print(
            f"{WANTED} of {stored:6,} iteration runs: {one['seconds']:.2f} s, peak "
            f"{one['peak_mib']:.0f} MiB; all of them "
            f"without a filter {one['unfiltered_seconds']:.1f} s, ratio {one['ratio']:.0f}"
        )
    large = measured[LARGE]
    met = {
        "seconds": large["seconds"] < BARS["seconds"],
        "peak_mib": large["peak_mib"] < BARS["peak_mib"],
        "ratio": large["ratio"] >= BARS["ratio"],
    }
    growth = large["seconds"] / measured[SMALL]["seconds"]
    print(
        f"ten times the runs stored, the same number read: {growth:.2f} times the time\n"
        f"bars at {LARGE:,} (under 2 s, under 300 MiB, 20 times faster): "
        + ", ".join(f"{name} {'met' if good else 'MISSED'}" for name, good in met.items())
    )
    return {
        "stored": {str(stored): one for stored, one in measured.items()},
        "growth": growth,
        "met": met,
    }


def fill(path: Path, runs: int) -> str:
    """The URI of a fresh store with `runs` iteration runs, `WANTED` of them of data set `wanted`.

    Written in bulk into MLflow's tables: through its client it would take an hour.
    """
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import create_engine, insert

    from cryossl.tracking.tracker import Tracker

    uri = f"sqlite:///{path}"
    Tracker(uri, "cryossl", path.parent / "journals")  # makes store and experiment
    tables = {
        name: getattr(models, f"Sql{name}")
        for name in ("Run", "Tag", "Param", "LatestMetric", "Metric")
    }
    engine = create_engine(uri)
    with engine.begin() as connection:
        for start in range(0, runs, 500):
            numbers = range(start, min(start + 500, runs))
            for name, table in tables.items():
                connection.execute(
                    insert(table), [row for number in numbers for row in _rows(name, number, runs)]
                )
    engine.dispose()
    return uri


def _rows(table: str, number: int, runs: int) -> Iterator[dict[str, Any]]:
    """The rows of one run in one of MLflow's tables."""
    run = {"run_uuid": UUID(int=number).hex}
    if table == "Run":
        yield run | {
            "name": f"run {number}",
            "status": "FINISHED",
            "start_time": 1_700_000_000_000 + number,
            "end_time": 1_700_000_001_000 + number,
            "lifecycle_stage": "active",
            "artifact_uri": "file:///none",
            "experiment_id": 1,
            "source_type": "LOCAL",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "u",
            "source_version": "",
        }
    elif table == "Tag":
        wanted = number % (runs // WANTED) == 0
        tags = {
            "cryossl.kind": "iteration",
            "cryossl.dataset": "wanted" if wanted else "other",
            "cryossl.strategy": "naive",
            "cryossl.ratio_percent": "5",
            "cryossl.seed": str(number),
            "cryossl.iteration": "1",
            "cryossl.fingerprint": f"{number:064x}",
            "cryossl.experiment_fingerprint": f"{number % 97:064x}",
            "cryossl.accepted": "true",
            "mlflow.runName": f"run {number}",
        }
        yield from (run | {"key": key, "value": value} for key, value in tags.items())
    elif table == "Param":
        yield from (
            run | {"key": f"section.field_{index}", "value": str(index)} for index in range(PARAMS)
        )
    else:
        yield from (
            run
            | {
                "key": f"test/metric_{index}",
                "value": index / METRICS,
                "step": 1,
                "is_nan": False,
                "timestamp": 1_700_000_000_000,
            }
            for index in range(METRICS)
        )


def _read(uri: str, stored: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", READ, uri], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if (found["found"], found["every"]) != (WANTED, stored):
        raise AssertionError(
            f"read {found['found']} and {found['every']} runs, {WANTED} and {stored} are there"
        )
    return found


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
