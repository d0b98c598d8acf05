"""A sweep to which everything happens at once, and the same sweep in quiet: every number must be the same.

    scripts/chaos --minutes 10

While the minutes last a worker is killed every 5 to 20 s, and then by turns the MLflow server is
killed and started again, its sqlite file is held locked, or (as root) the disk becomes full for a
moment. The sweep is started again until it ends well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import psutil
from light_server import Server

from faults.apart import PROJECT, environment, tell
from faults.disk_full import fill, small_disk
from faults.whole_runs import NAME, TINY, Place, make_empty_store, numbers_below

GRID = ("--jobs", "2", "--strategies", "naive,class_balanced", "--max-iterations", "1")
DISK_MB = 512
MOST_STARTS = 60


class Sweep:
    """The place of a sweep: its results, its work, and what its tracking store holds."""

    def __init__(self, folder: Path, data: Path, uri: str, cells: list[str]) -> None:
        self.place = Place(folder, data, [], real=True, uri=uri)
        given = dict(zip(TINY[::2], TINY[1::2], strict=True))
        given.pop("--ratio")
        options = [word for pair in given.items() for word in pair]
        self._command = [
            sys.executable,
            str(PROJECT / "cli.py"),
            "sweep",
            "--data",
            str(data),
            "--work",
            str(folder / "work"),
            "--results",
            str(folder / "results"),
            "--tracking-uri",
            uri,
            *options,
            *GRID,
            *cells,
        ]

    def start(self) -> subprocess.Popen[bytes]:
        """One start of the command."""
        quiet = {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
        with self.place.log.open("ab") as said:
            return subprocess.Popen(
                self._command,
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                env=environment(**quiet),
            )

    def found(self) -> dict[str, object]:
        """All numbers, digests and points."""
        results = self.place.folder / "results" / NAME
        points = {str(key): value for key, value in self.place.points().items()}
        return {**numbers_below(results), **self.place.digests(), **points}


class Controller:
    """What happens to a sweep."""

    def __init__(self, sweep: Sweep, server: Server, disk: Path | None, rng: random.Random) -> None:
        self._sweep, self._server, self._disk, self._rng = sweep, server, disk, rng
        acts = [self.restart_server, self.lock_store, *([self.fill_disk] if disk else [])]
        self._turns = cycle(rng.sample(acts, len(acts)))
        self.done: Counter[str] = Counter()

    def trouble(self, process: subprocess.Popen[bytes], until: float) -> None:
        """Act while the sweep runs and the time lasts."""
        while process.poll() is None and time.monotonic() < until:
            pause = time.monotonic() + self._rng.uniform(5, 20)
            while process.poll() is None and time.monotonic() < pause:
                time.sleep(0.1)
            if process.poll() is None:
                self.kill_worker(process)
                next(self._turns)(process)

    def kill_worker(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL for a cell at work."""
        with contextlib.suppress(psutil.Error):
            workers = [
                child
                for child in psutil.Process(process.pid).children()
                if "run" in child.cmdline()
            ]
            if workers:
                self._rng.choice(workers).kill()
                self.done["workers killed"] += 1

    def restart_server(self, _process: subprocess.Popen[bytes]) -> None:
        """SIGKILL for the server, which comes back."""
        self._server.kill()
        time.sleep(self._rng.uniform(0, 5))
        self._server.start()
        self.done["servers killed and restarted"] += 1

    def lock_store(self, _process: subprocess.Popen[bytes]) -> None:
        """Nobody can read or write the server's database for a while."""
        store = sqlite3.connect(
            self._sweep.place.folder / "mlflow.db", timeout=30, isolation_level=None
        )
        with contextlib.closing(store), contextlib.suppress(sqlite3.OperationalError):
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(self._rng.uniform(1, 12))
            store.execute("ROLLBACK")
            self.done["database locks held"] += 1

    def fill_disk(self, _process: subprocess.Popen[bytes]) -> None:
        """No space for a while."""
        ballast = (self._disk or Path()) / "ballast"
        fill(ballast)
        time.sleep(self._rng.uniform(0.5, 3))
        ballast.unlink()
        self.done["disks filled and freed"] += 1


@contextlib.contextmanager
def place_for_trouble(folder: Path) -> Iterator[tuple[Path, bool]]:
    """A small disk where one can be mounted, else a folder; and whether it is one."""
    if os.geteuid():
        folder.mkdir()
        yield folder, False
        return
    with small_disk(folder, megabytes=DISK_MB) as disk:
        yield disk, True


def cells_of(given: argparse.Namespace) -> list[str]:
    """Options that name the cells."""
    return ["--ratios", given.ratios, "--seeds", str(given.seeds)]


def troubled(
    folder: Path, data: Path, empty: Path, given: argparse.Namespace, disk: Path | None
) -> tuple[Sweep, Counter[str], int]:
    """The sweep with trouble, until it ends well; what was done to it, and how often it was started."""
    folder.mkdir()
    shutil.copyfile(empty, folder / "mlflow.db")
    server = Server(f"sqlite:///{folder / 'mlflow.db'}", folder)
    sweep = Sweep(folder, data, server.uri, cells_of(given))
    controller = Controller(sweep, server, disk, random.Random(given.seed))
    until = time.monotonic() + 60 * given.minutes
    starts, code = 0, 1
    try:
        server.start()
        while code and starts < MOST_STARTS:
            process = sweep.start()
            starts += 1
            controller.trouble(process, until)
            code = process.wait()
            if code < 0 and -code != signal.SIGKILL:
                break
        subprocess.run(
            [
                sys.executable,
                str(PROJECT / "cli.py"),
                "sync",
                "--tracking-uri",
                server.uri,
                "--work",
                str(folder / "work"),
            ],
            env=environment(),
            check=True,
            capture_output=True,
        )
    finally:
        server.kill()
    if code:
        raise SystemExit(f"the sweep never ended well: {sweep.place.said()[-3000:]}")
    return sweep, controller.done, starts


def main() -> None:
    """Quiet, troubled, compared."""
    from cryossl.data.synthetic.dataset import synthesise
    from cryossl.progress.events import silent

    parser = argparse.ArgumentParser(description="a sweep to which everything happens at once")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ratios", default="5,10")
    parser.add_argument("--seeds", type=int, default=3, help="of each ratio")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        synthesise(
            folder / "data", seed=0, train=64, validation=4, test=4, size_px=64, report=silent
        )
        make_empty_store(folder / "empty.db")
        (folder / "quiet").mkdir()
        shutil.copyfile(folder / "empty.db", folder / "quiet" / "mlflow.db")
        quiet = Sweep(
            folder / "quiet",
            folder / "data",
            f"sqlite:///{folder / 'quiet' / 'mlflow.db'}",
            cells_of(given),
        )
        if quiet.start().wait():
            raise SystemExit(f"the quiet sweep failed: {quiet.place.said()[-3000:]}")
        with place_for_trouble(folder / "disk") as (disk, mounted):
            sweep, done, starts = troubled(
                disk / "troubled",
                folder / "data",
                folder / "empty.db",
                given,
                disk if mounted else None,
            )
            ours, theirs = quiet.found(), sweep.found()
            wrong = [
                name
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)
            ]
            wrong += sweep.place.doubled(failures=True) + [
                f"left behind: {name}" for name in sweep.place.leftovers()
            ]
    tell({"starts": starts, "done": dict(done), "compared": len(ours), "wrong": wrong})
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
