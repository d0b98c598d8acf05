"""The whole command with a fault at every write call that it makes, one start after the other.

`python -m faults.run_write_calls`. A start fails at the first call that no start has failed at
before; the next one goes on from what that left. When a start passes without a new call, everything
is compared with the undisturbed run. With a stride one call in so many is tried.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from faults.apart import tell
from faults.whole_runs import Bench, Place, complaint, differences, exit_code, import_everything
from faults.write_faults import ERRORS, WriteFaults, untried

STORAGE_EXIT = 6


def one_start(place: Place, act: str, memory: Path, stride: int) -> tuple[int, str]:
    """Exit code of a start with a fault, and what is wrong with the way it ended."""
    before = len(place.said())
    code = exit_code(
        place.start(
            lambda: WriteFaults(place.folder, act, untried(memory, stride=stride)).install()
        )
    )
    if act not in ERRORS:
        return code, "" if code in (0, -9) else f"a start ended with {code}"
    if code not in (0, STORAGE_EXIT):
        return code, f"a start ended with {code}: {place.said()[before:][-300:]}"
    return code, complaint(place.said()[before:]) if code else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shared", type=Path)
    parser.add_argument("act")
    parser.add_argument("stride", type=int)
    given = parser.parse_args()
    import_everything()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    bench = Bench(given.folder, shared=given.shared)
    place = bench.place("tried")
    memory = given.folder / "tried.txt"
    starts, refused, wrong, code = 0, 0, [], -9
    while code:
        code, problem = one_start(place, given.act, memory, given.stride)
        tried = memory.read_text().splitlines() if memory.exists() else ["nothing"]
        if problem:
            wrong.append(f"{tried[-1]}: {problem}")
            if code not in (-9, STORAGE_EXIT):
                break
        starts += 1
        refused += code == STORAGE_EXIT
    wrong += differences(bench.calm, place, failures=given.act in ERRORS)
    tell(
        {
            "calls": len(memory.read_text().splitlines()),
            "starts": starts,
            "refused": refused,
            "wrong": wrong,
        }
    )


if __name__ == "__main__":
    main()
