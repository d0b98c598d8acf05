"""Run the benchmarks: `python -m benchmarks [NAME ...]`.

Each prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from pathlib import Path

import cryossl  # noqa: F401 (bounds the spinning of threads, before a benchmark loads torch)

NAMES = (
    "training_speed",
    "prediction_speed",
    "picking_speed",
    "memory",
    "picking_memory",
    "tracking",
    "guards",
    "query",
    "store",
    "second_start",
    "label_readings",
    "threads",
    "scale",
    "varied_sweep",
    "gpu_step",
)


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all.

    The `main` of each module prints a table and returns the result, which is written as JSON.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        sys.exit(f"benchmarks: unknown {unknown[0]!r}; there are {', '.join(NAMES)}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for name in names or NAMES:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        found = importlib.import_module(f"benchmarks.{name}").main()
        record = {
            "benchmark": name,
            "machine": platform.machine(),
            "python": platform.python_version(),
            "result": found,
        }
        (results / f"{name}.json").write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
