"""A sweep of twelve selection settings against twelve runs, each in a work folder of its own.

Compared is the CPU time of all processes. Both train as many steps: a baseline and a student have
`STEPS` each, and the baseline is what the cells of the sweep share.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
STEPS = 100
THRESHOLDS, QUOTAS = ("0.5", "0.55", "0.6", "0.65"), ("1", "2", "4")
TRAINING = (
    *("--strategies", "class_balanced", "--max-iterations", "1", "--threads", "1"),
    *("--baseline-epochs", "1", "--student-epochs", "1", "--least-steps", str(STEPS)),
)


def main() -> dict[str, float]:
    """Print the table; return seconds and trainings of both, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "shared"
        together = _cpu_seconds(
            shared,
            *("sweep", "--seeds", "1", "--ratios", "5"),
            *("--vary", f"particle_threshold={','.join(THRESHOLDS)}"),
            *("--vary", f"max_pseudo_per_labelled={','.join(QUOTAS)}"),
        )
        apart, trained_apart = 0.0, 0
        for number, (threshold, quota) in enumerate(product(THRESHOLDS, QUOTAS)):
            own = Path(folder) / f"own_{number}"
            settings = ("--particle-threshold", threshold, "--max-pseudo-per-labelled", quota)
            apart += _cpu_seconds(own, "run", "--ratio", "5", *settings)
            trained_apart += _trainings(own)
        found = {
            "sweep_cpu_seconds": together,
            "separate_cpu_seconds": apart,
            "ratio": together / apart,
            "sweep_trainings": _trainings(shared),
            "separate_trainings": trained_apart,
        }
    sys.stdout.write(
        f"12 selection settings, {STEPS} steps a training: a sweep {together:.0f} s of CPU and "
        f"{found['sweep_trainings']} trainings, separate runs {apart:.0f} s and "
        f"{trained_apart}; ratio {found['ratio']:.3f}\n"
    )
    return found


def _cpu_seconds(folder: Path, *words: str) -> float:
    """CPU seconds of a command and of all processes that it started."""
    before = _children()
    subprocess.run(
        [
            *(sys.executable, str(PROJECT / "cli.py"), *words, *TRAINING),
            *("--work", str(folder / "work"), "--results", str(folder / "results")),
        ],
        check=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}.db"},
        stdout=subprocess.DEVNULL,
    )
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _trainings(folder: Path) -> int:
    return len(list((folder / "work" / "stages" / "train").glob("*/")))


if __name__ == "__main__":
    main()
