"""The whole command on a disk of a few megabytes that becomes full again and again: python -m faults.disk_full.

A tmpfs of its own, so root only. When a start has written so much, all that is left is taken by
another file; the start has to end with exit code 6 and one line. The space is freed and the next
start goes on. In the end everything is compared with the undisturbed run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.apart import tell
from faults.whole_runs import Bench, Place, complaint, differences, import_everything

DISK_MB = 96
STORAGE_EXIT = 6
PATIENCE_SECONDS = 300.0


@contextmanager
def small_disk(folder: Path, *, megabytes: int = DISK_MB) -> Iterator[Path]:
    """A disk of its own."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "cryossl-fault-test", str(folder)],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def used_bytes(folder: Path) -> int:
    usage = shutil.disk_usage(folder)
    return usage.used


def fill(ballast: Path) -> None:
    """Take all that is free, to the last page."""
    with ballast.open("ab", buffering=0) as stream:
        for piece in (2**20, 4096, 1):
            try:
                while True:
                    stream.write(bytes(piece))
            except OSError:
                continue


def interrupted(place: Place, disk: Path, limit: int) -> int | None:
    """The exit code of a start whose disk becomes full when so many bytes are used;

    None if it ended before.
    """
    child = place.start()
    filled, deadline = False, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if filled or code else None
        if not filled and used_bytes(disk) >= limit:
            fill(disk / "ballast")
            filled = True
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


class Filling:
    """Runs on small disks that become full at so many points in all."""

    def __init__(self, bench: Bench, points: int) -> None:
        self._bench, self._points = bench, points
        self.taken = sum(path.stat().st_blocks * 512 for path in bench.calm.folder.rglob("*"))
        self.full = self.passed = 0
        self.wrong: list[str] = []

    def one_run(self, place: Place, disk: Path) -> None:
        """Start and fill the disk, ever later, until the run ends by itself; then compare."""
        start = used_bytes(disk)
        step = max(1, (self.taken - start) // (self._points + 1))
        limit, code = start + step // 2, 0
        while code is not None and self.full < self._points:
            code = self._one_start(place, disk, limit)
            limit = max(limit, used_bytes(disk)) + step
        if code is not None and (code := interrupted(place, disk, 2**40)) is not None:
            self.wrong.append(f"with space again: exit code {code}")
        self.wrong += differences(self._bench.calm, place, failures=True)

    def _one_start(self, place: Place, disk: Path, limit: int) -> int | None:
        before = len(place.said())
        code = interrupted(place, disk, limit)
        (disk / "ballast").unlink(missing_ok=True)
        self.full += code is not None
        self.passed += code == 0
        said = place.said()[before:]
        problem = (
            f"exit code {code}"
            if code not in (None, 0, STORAGE_EXIT)
            else complaint(said)
            if code
            else ""
        )
        if problem:
            self.wrong.append(f"at {limit} bytes: {problem}: {said[-300:]}")
        return code


def main() -> None:
    folder, shared, points = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    import_everything()
    bench = Bench(folder, shared=shared)
    filling, runs = Filling(bench, points), 0
    while filling.full < points and runs < points + 3:  # a starved controller may miss the moment
        with small_disk(folder / f"disk-{runs}") as disk:
            bench.folder = disk
            place = bench.place("tried")
            place.log = folder / f"said-{runs}.log"
            filling.one_run(place, disk)
            if filling.wrong:
                shutil.copytree(place.folder, folder / f"kept-{runs}")
        runs += 1
    tell(
        {
            "full": filling.full,
            "runs": runs,
            "passed": filling.passed,
            "disk_mb": DISK_MB,
            "taken_mb": round(filling.taken / 2**20, 1),
            "wrong": filling.wrong,
        }
    )


if __name__ == "__main__":
    main()
