"""Training tiles per second, ours against a plain loop with the same network, batch size and loss.

Plain: for every item PIL decodes and reduces the micrograph (jpg, full size) and decodes the mask (png, reduced), a
DataLoader collates, fp32, NCHW, AdamW as it comes. Ours: the project's own `fit` on memory-mapped pictures of the
reduced size. Each side runs in its own process, because ours changes process-wide settings. Sides alternate, and the
ratio is the median over rounds, so that a machine whose load drifts slows both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cryossl import device as devices
from cryossl.batches import Example, TileBatches
from cryossl.checkpoints import Checkpoint
from cryossl.config import NetworkSettings
from cryossl.network import build
from cryossl.progress import Progress
from cryossl.tiling import Tile, tile_grid
from cryossl.training import fit

MICROGRAPH_PX = 4096  # as most of EMPIAR's are
STORE_PX = 1024
TILE_PX = 128
BATCH_SIZE = 8
MICROGRAPHS = 6
WARM_UP_STEPS = 3


def main(*, steps: int = 12, rounds: int = 3, threads: int = 0) -> dict[str, Any]:
    """Print the table; return tiles per second and the ratios ours / plain."""
    count = threads or devices.usable_cores()
    with tempfile.TemporaryDirectory() as name, \
            ProcessPoolExecutor(1, get_context("spawn")) as plain, ProcessPoolExecutor(1, get_context("spawn")) as ours:
        folder = Path(name)
        _write(folder)
        speeds: dict[str, list[float]] = {"plain, decoding": [], "plain, in memory": [], "ours": []}
        for _ in range(rounds):
            speeds["plain, decoding"].append(plain.submit(plain_decoding, folder, steps, count).result())
            speeds["plain, in memory"].append(plain.submit(plain_in_memory, folder, steps, count).result())
            speeds["ours"].append(ours.submit(own, folder, steps, count).result())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result: dict[str, Any] = {
        "tile_px": TILE_PX, "batch_size": BATCH_SIZE, "micrograph_px": MICROGRAPH_PX, "store_px": STORE_PX,
        "threads": count, "tiles_per_second": medians, "all_rounds": speeds,
        "ratio_with_decoding": _ratio(speeds["ours"], speeds["plain, decoding"]),
        "ratio_without_decoding": _ratio(speeds["ours"], speeds["plain, in memory"]),
    }
    print(f"training, tiles of {TILE_PX} px, batch {BATCH_SIZE}, {count} threads, "
          f"micrographs of {MICROGRAPH_PX} px reduced to {STORE_PX}")
    for label, value in medians.items():
        print(f"  {label:<18} {value:8.1f} tiles/s")
    print(f"  ours / plain with decoding {result['ratio_with_decoding']:.2f} (at least 3), "
          f"without {result['ratio_without_decoding']:.2f} (at least 1)")
    return result


def _ratio(ours: list[float], plain: list[float]) -> float:
    return statistics.median(own_speed / plain_speed for own_speed, plain_speed in zip(ours, plain, strict=True))


def _write(folder: Path) -> None:
    """Noise pictures as jpg, masks as png, and both as the store has them."""
    rng = np.random.default_rng(0)
    for index in range(MICROGRAPHS):
        picture = rng.normal(128, 25, (MICROGRAPH_PX, MICROGRAPH_PX)).clip(0, 255).astype(np.uint8)
        mask = (rng.random((STORE_PX // 32, STORE_PX // 32)) < 0.1).repeat(32, 0).repeat(32, 1).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.jpg", quality=90)
        Image.fromarray(mask).save(folder / f"{index}.png")
        np.asarray(Image.fromarray(picture).reduce(MICROGRAPH_PX // STORE_PX)).tofile(folder / f"{index}.picture")
        mask.tofile(folder / f"{index}.labels")


def _tiles() -> list[tuple[int, Tile]]:
    return [(index, tile) for index in range(MICROGRAPHS)
            for tile in tile_grid(micrograph=str(index), height_px=STORE_PX, width_px=STORE_PX, tile_px=TILE_PX)]


class _Decoded(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decode, reduce, cut and standardise per item."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tiles = _tiles()

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        number, tile = self._tiles[index]
        box = (tile.x, tile.y, tile.x + TILE_PX, tile.y + TILE_PX)
        with Image.open(self._folder / f"{number}.jpg") as picture, Image.open(self._folder / f"{number}.png") as mask:
            pixels = np.asarray(picture.reduce(MICROGRAPH_PX // STORE_PX).crop(box), dtype=np.float32)
            target = np.asarray(mask.crop(box), dtype=np.float32)
        standardised = (pixels - pixels.mean()) / (pixels.std() + 1e-6)
        return torch.from_numpy(standardised)[None], torch.from_numpy(target)[None]


class _Loaded(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Tiles that were decoded and standardised before the clock starts."""

    def __init__(self, folder: Path, *, count: int) -> None:
        decoded = _Decoded(folder)
        self._items = [decoded[index] for index in range(count)]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._items[index]


def plain_decoding(folder: Path, steps: int, threads: int) -> float:
    """Tiles per second of the plain loop that decodes each item."""
    return _plain(_Decoded(folder), steps, threads)


def plain_in_memory(folder: Path, steps: int, threads: int) -> float:
    """Tiles per second of the plain loop on tensors."""
    return _plain(_Loaded(folder, count=2 * BATCH_SIZE), steps, threads)


def _plain(dataset: Dataset[tuple[torch.Tensor, torch.Tensor]], steps: int, threads: int) -> float:
    torch.set_num_threads(threads)
    network = build(NetworkSettings(), seed=0).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    dice = smp.losses.DiceLoss(mode="binary", from_logits=True)
    entropy = nn.BCEWithLogitsLoss()
    clock = _Clock(steps)
    while not clock.over():
        for pictures, target in DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, drop_last=True):
            logits = network(pictures)
            loss = entropy(logits, target) + dice(logits, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
            clock.tick()
            if clock.over():
                break
    return clock.tiles_per_second


def own(folder: Path, steps: int, threads: int) -> float:
    """Tiles per second of `fit` on memory-mapped pictures, with augmentation and all."""
    cpu = torch.device("cpu")
    devices.prepare(threads=threads, device=cpu)
    shape = (STORE_PX, STORE_PX)
    pictures, labels = (
        [np.memmap(folder / f"{index}.{kind}", np.uint8, "r", shape=shape) for index in range(MICROGRAPHS)]
        for kind in ("picture", "labels"))
    examples = [Example(tile, pictures[index], labels[index]) for index, tile in _tiles()]
    batches = TileBatches(examples, batch_size=BATCH_SIZE, tile_px=TILE_PX, seed=0, purpose="bench", iteration=0)
    clock = _Clock(steps)
    with tempfile.TemporaryDirectory() as name:
        fit(build(NetworkSettings(), seed=0), batches, steps=WARM_UP_STEPS + steps, learning_rate=1e-3,
            weight_decay=1e-2, seed=0, iteration=0, device=cpu, precision="fp32", checkpoint=Checkpoint(Path(name)),
            validate=_unscored, validations=1, report=_ticking(clock), on_epoch=lambda _: None)
    return clock.tiles_per_second


def _unscored(_network: nn.Module) -> None:
    """Validation is no part of the measure."""


def _ticking(clock: _Clock) -> Callable[[Progress], None]:
    return lambda _progress: clock.tick()


class _Clock:
    """Median step time after the warm-up: a neighbour on the machine spoils single steps, not the median."""

    def __init__(self, steps: int) -> None:
        self._moments: list[float] = []
        self._wanted = WARM_UP_STEPS + steps

    def tick(self) -> None:
        """One step is done."""
        self._moments.append(time.perf_counter())

    def over(self) -> bool:
        """Whether there are enough steps."""
        return len(self._moments) >= self._wanted

    @property
    def tiles_per_second(self) -> float:
        """Tiles of a step / its median time."""
        return BATCH_SIZE / float(np.median(np.diff(self._moments[WARM_UP_STEPS - 1:])))


if __name__ == "__main__":
    main()
