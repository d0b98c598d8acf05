"""How long the threads of OpenMP spin is bounded before torch loads its runtime, wherever a process starts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
LIBRARIES = Path(importlib.util.find_spec("torch").origin).parent / "lib"


def spinning(code: str, **variables: str) -> list[str]:
    """The variables in a process that has run the code; and what torch's GNU OpenMP has read of them."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    runtimes = sorted(
        [*LIBRARIES.glob("libgomp*"), *LIBRARIES.parent.glob("../torch.libs/libgomp*")]
    )
    if not runtimes:
        pytest.skip("torch has no GNU OpenMP of its own here")
    show = f"import os, ctypes; ctypes.CDLL({str(runtimes[0])!r}); " + "; ".join(
        f"print(os.environ.get({name!r}))" for name in VARIABLES
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {show}"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **variables},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    (read,) = (line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line)
    return [*done.stdout.split(), read]


@pytest.mark.parametrize("entry", ["cli", "cryossl", "benchmarks.__main__", "analysis.commands"])
def test_every_entry_bounds_it_before_the_runtime_reads_it(entry):
    assert spinning(f"import {entry}") == ["None", "1000", "1", "None", "1000"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"GOMP_SPINCOUNT": "7"}, ["None", "7", "1", "None", "7"]),
        ({"KMP_BLOCKTIME": "200"}, ["None", "1000", "200", "None", "1000"]),
        ({"KMP_LIBRARY": "turnaround"}, ["None", "1000", "None", "turnaround", "1000"]),
        ({"OMP_WAIT_POLICY": "passive"}, ["passive", "None", "None", "None", "0"]),
    ],
)
def test_what_the_user_has_set_stays(given, expected):
    assert spinning("import cryossl", **given) == expected
