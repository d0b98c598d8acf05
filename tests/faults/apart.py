"""Programs that read hostile input run apart, in a process of their own, so that a signal that ends them is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
LAST_CASE = "last_case"


class EndedBySignalError(AssertionError):
    """The program did not live to tell."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that imports the project and its tests."""
    return (
        os.environ
        | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}", "OMP_NUM_THREADS": "1"}
        | more
    )


def apart(program: str, *words: object, folder: Path) -> dict[str, Any]:
    """What `python -m faults.<program>` found.

    Raises EndedBySignalError with the case that it was at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", f"faults.{program}", str(folder), *map(str, words)],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        case = folder / LAST_CASE
        at = (
            case.read_text(encoding="utf-8", errors="replace")[:2000]
            if case.exists()
            else "its start"
        )
        raise EndedBySignalError(
            f"{program} was ended by {signal.Signals(-done.returncode).name} at {at}"
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def judged(folder: Path, cases: int, read: Callable[[int], str]) -> dict[str, Any]:
    """Call `read` for each number of a case; it says what became of it.

    What it raises counts as a traceback.

    Returns the outcomes with their counts, and the faults: number of the case and what was raised.
    """
    outcomes: dict[str, int] = {}
    faults: list[str] = []
    for case in range(cases):
        try:
            outcome = read(case)
        except Exception as error:  # any: that is what is looked for
            outcome = "traceback"
            faults.append(
                f"case {case}: {type(error).__name__}: {str(error)[:200]}; see {folder / LAST_CASE}"
            )
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return {"cases": cases, "outcomes": outcomes, "faults": faults}


def tell(found: dict[str, Any]) -> None:
    """Print what was found as the last line."""
    sys.stdout.write(json.dumps(found) + "\n")
