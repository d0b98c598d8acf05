"""The store: time to open it, decoding speed, a second start, peak memory at 1x and 10x."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, Micrograph, Part, Particles
from cryossl.data.store.store import Store, build, open_store
from cryossl.progress.events import silent

NOTE_MICROGRAPHS = 5172
WALK = """
import sys
from pathlib import Path
from cryossl.data.store.store import open_store
store = open_store(Path(sys.argv[1]), border_px={})
for name in store.micrographs:
    store.picture(name).sum()
    store.truth(name, border=True).sum()
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])
"""


def write_pictures(root: Path, *, count: int, side_px: int) -> DataSet:
    """A data set of noise with a particle in every micrograph, as 8-bit JPEG."""
    (root / "train").mkdir(parents=True)
    micrographs = []
    noise = np.random.default_rng(0).integers(0, 256, (side_px + 64, side_px + 64), dtype=np.uint8)
    for index in range(count):
        # Each picture is another part of the same noise with its number in the corner: no two are
        # equal.
        y, x = divmod(index, 64)
        picture = noise[y % 64 : y % 64 + side_px, x : x + side_px].copy()
        picture[0, :2] = divmod(index, 256)
        path = root / "train" / f"{index:05}.jpg"
        Image.fromarray(picture).save(path, quality=90)
        micrographs.append(Micrograph(f"train/{path.name}", path, side_px, side_px, "noise", None))
    box = Particles(np.array([[side_px / 4, side_px / 4, side_px / 8, side_px / 8]]))
    train = Part(tuple(micrographs), {micrograph.id: box for micrograph in micrographs})
    return DataSet(root, train, Part((), {}), None, {}, {}, ())


def timed_build(dataset: DataSet, work: Path) -> tuple[float, Store]:
    """(seconds, store)."""
    begin = time.perf_counter()
    store = build(
        dataset, work, settings=InputSettings(), network_multiple=8, code="", report=silent
    )
    return time.perf_counter() - begin, store


def peak_bytes(store: Store) -> int:
    """Peak resident memory of a new process that reads every picture and label map of a store."""
    command = [sys.executable, "-c", WALK, str(store.folder)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(finished.stdout) * 1024


def measure() -> dict[str, float]:
    """Name with unit -> value."""
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        many = write_pictures(root / "many", count=NOTE_MICROGRAPHS, side_px=64)
        _, store = timed_build(many, root / "work")
        # A hash is remembered once the file is unchanged for two seconds: this start hashes all
        # files, the next one uses the remembered hashes.
        time.sleep(2.1)
        timed_build(many, root / "work")
        results["second start of 5,172 micrographs, seconds"], _ = timed_build(many, root / "work")
        begin = time.perf_counter()
        open_store(store.folder, border_px={})
        results["opening a store of 5,172 micrographs, seconds"] = time.perf_counter() - begin

        peaks = {}
        for times, count in (("1x", 20), ("10x", 200)):
            dataset = write_pictures(root / times, count=count, side_px=1024)
            seconds, store = timed_build(dataset, root / "work")
            peaks[times] = peak_bytes(store)
        results["decoding, micrographs of 1 megapixel per second"] = count / seconds
        results["walking through 20 micrographs, peak megabytes"] = peaks["1x"] / 1e6
        results["walking through 200 micrographs, peak megabytes"] = peaks["10x"] / 1e6
        results["peak at 10x / peak at 1x"] = peaks["10x"] / peaks["1x"]
    return results


def main() -> dict[str, float]:
    """Print the table; return the measurements."""
    measured = measure()
    for name, value in measured.items():
        sys.stdout.write(f"{value:10.3f}  {name}\n")
    return measured


if __name__ == "__main__":
    main()
