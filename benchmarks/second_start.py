"""A second start, with warm store and finished stages, against the first.

Both are the command that a user types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = {"max-iterations": "1"}


def main() -> dict[str, float]:
    """Print the table; return the seconds of both starts and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_start(Path(folder)) for _ in range(2))
    result = {"first_seconds": first, "second_seconds": second, "ratio": second / first}
    sys.stdout.write(
        f"embedded data, one iteration: first start {first:.0f} s, second {second:.0f} s, "
        f"ratio {result['ratio']:.3f} (bar 0.2)\n"
    )
    return result


def _start(folder: Path) -> float:
    options = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    began = time.monotonic()
    subprocess.run(
        [
            sys.executable,
            str(PROJECT / "cli.py"),
            "run",
            "--work",
            str(folder / "work"),
            "--results",
            str(folder / "results"),
            *options,
        ],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
