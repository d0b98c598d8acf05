"""Peak memory of `cryossl pick` with 100 and 10,000 micrographs: it must not grow.

Each call is a process of its own, with every format, the masks, the contact sheet, the counts and
a tracked run; the peak is the kernel's. Python, torch, MLflow and the network are part of both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np

from benchmarks.picking_speed import model_of
from cryossl.picking.writing import FORMATS
from cryossl.system.process import PROJECT

SMALL, LARGE = 100, 10_000
SIDE_PX, TILE_PX = 64, 64
BAR = 1.10


def main() -> dict[str, float]:
    """Print the table; return the peaks in MiB and their ratio."""
    found: dict[str, float] = {}
    for count in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds = _peak_mib(Path(folder), count)
        found[f"peak of {count}, MiB"] = peak
        print(f"pick, {count:,} micrographs of {SIDE_PX} px: {peak:.0f} MiB, {seconds:.0f} s")
    found["ratio"] = found[f"peak of {LARGE}, MiB"] / found[f"peak of {SMALL}, MiB"]
    print(f"ratio {found['ratio']:.3f} (at most {BAR})")
    return found


def _peak_mib(folder: Path, count: int) -> tuple[float, float]:
    (folder / "mics").mkdir()
    noise = np.random.default_rng(0).normal(size=(count + SIDE_PX, SIDE_PX)).astype(np.float32)
    for number in range(count):
        with mrcfile.new(folder / "mics" / f"mic_{number:05d}.mrc") as file:
            file.set_data(noise[number : number + SIDE_PX])
            file.voxel_size = 2.0
    model = folder / "model.safetensors"
    model.write_bytes(model_of(views=1, side_px=SIDE_PX, tile_px=TILE_PX).to_bytes())
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, str(PROJECT / "cli.py"), "pick", str(folder / "mics")),
            *("--to", str(folder / "picks"), "--model", str(model), "--work", str(folder / "work")),
            *("--format", ",".join(FORMATS), "--tracking-uri", f"sqlite:///{folder}/mlflow.db"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"pick ended with status {status}")
    return usage.ru_maxrss / 1024, time.monotonic() - began


if __name__ == "__main__":
    main()
