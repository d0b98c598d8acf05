"""Peak memory of prediction and selection over a pool of 1x and 10x: it must not grow.

Each size runs in a process of its own; the peak is the kernel's VmHWM. Python, torch and the
network, which the process holds before it predicts, are part of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

SMALL, FACTOR = 64, 10
POOL = """
import sys
from pathlib import Path
import numpy as np
import torch
from cryossl.network import architecture as network
from cryossl.config import NetworkSettings, SelectionSettings
from cryossl.network.prediction import predict
from cryossl.pseudolabels.priors import Priors
from cryossl.progress.events import silent
from cryossl.pseudolabels.pool import Pool
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.data.store.plan import StoredMicrograph
from cryossl.data.tiling import tile_grid

SIDE = 256

class Shelf:
    tile_px = SIDE

    def __init__(self, path, count):
        self.micrographs = {f"{i:05d}": StoredMicrograph(
            id=f"{i:05d}", part="train", source="noise", height_px=SIDE, width_px=SIDE, scale=1.0,
            annotated=False, particle_count=0, original_height_px=SIDE, original_width_px=SIDE,
            pixel_size_angstrom=None,
            picture_offset=i * SIDE * SIDE, truth_offset=None) for i in range(count)}
        rng = np.random.default_rng(0)
        with path.open("wb") as stream:
            for _ in range(count):
                stream.write(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8).tobytes())
        self._path = path

    def picture(self, name):
        offset = self.micrographs[name].picture_offset
        return np.fromfile(self._path, np.uint8, SIDE * SIDE, offset=offset).reshape(SIDE, SIDE)

    def tiles(self, name):
        return tile_grid(micrograph=name, height_px=SIDE, width_px=SIDE, tile_px=SIDE)

folder, count = Path(sys.argv[1]), int(sys.argv[2])
shelf = Shelf(folder / "pictures", count)
net = network.build(NetworkSettings(), seed=0)
pool = Pool(shelf, tuple(shelf.micrographs))
predicted, chosen = folder / "predicted", folder / "chosen"
predicted.mkdir()
chosen.mkdir()
cpu = torch.device("cpu")
pool.predict(predicted, lambda ids: predict(net, shelf, ids, batch_size=4, device=cpu,
                                            precision="fp32", report=silent), report=silent)
pool.select(predicted, chosen, recipe_for("class_balanced", SelectionSettings()).selection,
            priors=Priors(0.04, {}, {"s": max(1, count // 20)}), report=silent)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def main() -> dict[str, float]:
    """Print the table; return the peaks in MiB and their ratio."""
    peaks = {count: _peak_mib(count) for count in (SMALL, SMALL * FACTOR)}
    result = {
        "peak_1x_mib": peaks[SMALL],
        "peak_10x_mib": peaks[SMALL * FACTOR],
        "ratio": peaks[SMALL * FACTOR] / peaks[SMALL],
    }
    sys.stdout.write(
        f"prediction and selection, {SMALL} and {SMALL * FACTOR} micrographs of 256 x 256 px: "
        f"{result['peak_1x_mib']:.0f} and {result['peak_10x_mib']:.0f} MiB, "
        f"ratio {result['ratio']:.3f} (bar 1.10)\n"
    )
    return result


def _peak_mib(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", POOL, folder, str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
    return int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
