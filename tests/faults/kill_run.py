"""The real command, killed with SIGKILL at random moments and started again until it ends; then everything is compared.

    scripts/kill-test --kills 20              forks of one process that has imported everything:
    quick scripts/kill-test --kills 20 --real       a new interpreter for each start, as a user has
    it: minutes

Half of the kills come at any moment, half within a phase that has had the fewest so far. Options
behind `--` go to the command. Exit code 1 and one line per difference if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from faults.whole_runs import Bench, Place, differences, exit_code, import_everything

PHASES = (
    "supervised: train",
    "iteration: predict",
    "iteration: assess",
    "iteration: train",
    "iteration: score validation",
)
MOST_KILLS_PER_RUN = 10
MOST_RUNS_PER_KILL = 4  # a kill comes too late where the undisturbed run was slowed by others


def disturbed(
    place: Place, *, most_kills: int, seconds: float, hits: Counter[str], rng: random.Random
) -> None:
    """Start and kill until it ends by itself, or let it after so many kills.

    Counts what each kill interrupted.
    """
    kills = 0
    while kills < most_kills:
        child = place.start()
        limit = time.monotonic() + rng.uniform(0.02, 0.8) * seconds
        rare = min(PHASES, key=lambda phase: (hits[phase], rng.random()))
        if _ended_before(place, child, limit, rare if rng.random() < 0.5 else None, rng):
            return
        hits[place.phase()] += 1
        kills += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if exit_code(place.start()):
        raise SystemExit(f"the last start failed; see {place.log}")


def _ended_before(
    place: Place, child: int, limit: float, phase: str | None, rng: random.Random
) -> bool:
    """Wait for the moment of the kill: the limit, or soon after a phase began.

    True if the process ended before.
    """
    while phase or time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status):
                raise SystemExit(f"a start failed; see {place.log}")
            return True
        if phase and place.phase() == phase:
            phase, limit = None, time.monotonic() + max(0.0, rng.uniform(-0.02, 0.03))
        time.sleep(0.001)
    return False


def compared(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """An undisturbed run, then runs that are killed until so many kills have hit; what was found."""
    bench = Bench(
        folder,
        shared=given.shared,
        empty_store=given.empty_store,
        options=given.options,
        real=given.real,
    )
    rng = random.Random(given.seed)
    hits: Counter[str] = Counter()
    found: list[str] = []
    runs = 0
    while hits.total() < given.kills and runs < MOST_RUNS_PER_KILL * given.kills:
        killed = bench.place(f"killed-{runs}")
        most = min(MOST_KILLS_PER_RUN, given.kills - hits.total())
        disturbed(killed, most_kills=most, seconds=bench.seconds, hits=hits, rng=rng)
        unlike = [f"run {runs}: {one}" for one in differences(bench.calm, killed)]
        if not unlike:
            shutil.rmtree(killed.folder)
        found += unlike
        runs += 1
    return {
        "kills": hits.total(),
        "runs": runs,
        "undisturbed_seconds": round(bench.seconds, 2),
        "interrupted": dict(hits),
        "differences": found,
    }


def main() -> None:
    """Run it; print what was interrupted how often, and the differences."""
    parser = argparse.ArgumentParser(
        description="kill -9 of the real command until it ends, and compare"
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="a new interpreter for each start")
    parser.add_argument(
        "--empty-store",
        type=Path,
        help="an empty sqlite store to copy, for making one takes a while",
    )
    parser.add_argument(
        "--shared", type=Path, help="where data and undisturbed run are kept for several calls"
    )
    parser.add_argument("--folder", type=Path, help="keep everything here")
    parser.add_argument(
        "options",
        nargs="*",
        default=[],
        help="options of `cryossl run`, behind --; otherwise tiny ones",
    )
    given = parser.parse_args()
    import_everything()
    with tempfile.TemporaryDirectory() as temporary:
        report = compared((given.folder or Path(temporary)).resolve(), given)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if report["differences"] or report["kills"] < given.kills else 0)


if __name__ == "__main__":
    main()
