"""Tiny runs, one after the other in one process, each with another seed: python -m faults.soak.

What is held after a run (memory, file handles, threads) must not grow with their number.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import sys
from pathlib import Path

import psutil
from typed_commands import call

from cryossl.data.synthetic.dataset import synthesise
from cryossl.progress.events import silent
from faults.apart import tell

TINIEST = (
    "--ratio",
    "30",
    "--strategies",
    "naive",
    "--max-iterations",
    "1",
    "--baseline-epochs",
    "1",
    "--student-epochs",
    "1",
    "--validations",
    "1",
    "--least-steps",
    "0",
    "--batch-size",
    "4",
    "--decoder-width",
    "4",
    "--threads",
    "1",
    "--naive-threshold",
    "0.5",
)


def main() -> None:
    folder, runs, warm_up = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    data = folder / "data"
    synthesise(data, seed=0, train=12, validation=4, test=4, size_px=64, report=silent)
    process = psutil.Process()
    held: list[tuple[int, int, int]] = []
    codes = set()
    for seed in range(runs):
        place = folder / "run"
        done = call(
            "run",
            "--data",
            str(data),
            "--work",
            str(place / "work"),
            "--results",
            str(place / "results"),
            "--tracking-uri",
            f"sqlite:///{folder / 'mlflow.db'}",
            "--seed",
            str(seed),
            *TINIEST,
        )
        codes.add(done.code)
        shutil.rmtree(place)
        gc.collect()
        held.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
    width = max(1, warm_up // 5)
    before, after = (
        tuple(statistics.median(column) for column in zip(*part, strict=True))
        for part in (held[warm_up - width : warm_up], held[-width:])
    )
    growth = [
        round(100 * (late - early) / early, 2) for early, late in zip(before, after, strict=True)
    ]
    tell(
        {
            "runs": runs,
            "warm_up": warm_up,
            "codes": sorted(codes),
            "growth_percent": growth,
            "memory_mb": [round(before[0] / 2**20), round(after[0] / 2**20)],
            "handles": [before[1], after[1]],
            "threads": [before[2], after[2]],
        }
    )


if __name__ == "__main__":
    main()
