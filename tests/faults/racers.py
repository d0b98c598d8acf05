"""Processes that start at the same moment: on a fresh tracking store, and with the same command: python -m faults.racers.

Forks of one process that has imported everything, so that they meet within milliseconds.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cryossl.system.folder_lock import held_by
from faults.apart import tell
from faults.whole_runs import NAME, Bench, exit_code, import_everything

RACERS = 8
STEPS = 5
BUSY_EXIT = 6
PATIENCE_SECONDS = 120.0


def forked(action: Callable[[], object]) -> int:
    """Process id of a fork that does it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            action()
            code = 0
        except BaseException:  # any: the parent reads it
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def on_a_fresh_store(folder: Path, rounds: int) -> dict[str, Any]:
    """So many processes open a store that is not there yet and write one run between them."""
    from cryossl.tracking.tracker import Tracker

    wrong = []
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir(parents=True)

        def race(name: str, place: Path = place) -> None:
            tracker = Tracker(f"sqlite:///{place / 'mlflow.db'}", "cryossl", place / "journals")
            with tracker.run("shared", name="n", parent=None, tags={}) as run:
                for step in range(STEPS):
                    run.metrics({name: 1.0, "same": 2.0}, step=step)
            if tracker.sync():
                raise RuntimeError("entries are left")

        racers = [forked(lambda name=f"own{one}": race(name)) for one in range(RACERS)]
        codes = [exit_code(racer) for racer in racers]
        with closing(sqlite3.connect(place / "mlflow.db")) as database:
            statuses = [status for (status,) in database.execute("SELECT status FROM runs")]
            points = database.execute(
                "SELECT count(*), count(DISTINCT key || ' ' || step) FROM metrics"
            ).fetchone()
        if any(codes) or statuses != ["FINISHED"] or points != ((RACERS + 1) * STEPS,) * 2:
            wrong.append(f"round {number}: exit codes {codes}, runs {statuses}, {points} points")
    return {"rounds": rounds, "racers": RACERS, "wrong": wrong}


def with_the_same_command(folder: Path, shared: Path, rounds: int) -> dict[str, Any]:
    """Two starts at once: one works, the other names it.

    The one that works is then killed, and its lock is free.
    """
    import_everything()
    bench = Bench(folder, shared=shared)
    place = bench.place("raced")
    results = place.folder / "results" / NAME
    wrong, slowest = [], 0.0
    for number in range(rounds):
        before = len(place.said())
        pair = {place.start(), place.start()}
        refused, status = os.waitpid(-1, 0)
        (worker,) = pair - {refused}
        said = place.said()[before:]
        named = re.search(r"in use by process (\d+) on (\S+);", said)
        code = os.waitstatus_to_exitcode(status)
        if (
            code != BUSY_EXIT
            or named is None
            or named.groups() != (str(worker), os.uname().nodename)
        ):
            wrong.append(f"round {number}: exit code {code}, process {worker} works: {said[-200:]}")
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        began = time.monotonic()
        while held_by(results) is not None and time.monotonic() - began < PATIENCE_SECONDS:
            time.sleep(0.001)
        slowest = max(slowest, time.monotonic() - began)
    if code := exit_code(place.start()):
        wrong.append(f"a start of its own ended with {code}")
    return {"rounds": rounds, "slowest_ms": round(1000 * slowest, 1), "wrong": wrong}


def main() -> None:
    folder, kind, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if kind == "store":
        import_everything()
        tell(on_a_fresh_store(folder, rounds))
    else:
        tell(with_the_same_command(folder, Path(kind), rounds))


if __name__ == "__main__":
    main()
