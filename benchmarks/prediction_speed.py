"""Pseudo-labelling tiles per second against the bare forward pass of the same network.

Pseudo-labelling: pictures cut from memory-mapped files, forward pass, sigmoid, bytes, whole maps,
quality of each image and its label map. Bare: forward passes on one batch that is already a tensor.
Rounds alternate in one process with the same settings; the ratio is the median over rounds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryossl.config import NetworkSettings, SelectionSettings
from cryossl.data.tiling import Tile, tile_grid
from cryossl.network import device as devices
from cryossl.network.architecture import build
from cryossl.network.prediction import predict
from cryossl.progress.events import silent
from cryossl.pseudolabels.pixel_rules import probability_counts
from cryossl.pseudolabels.selection import assess, label_map
from cryossl.pseudolabels.strategies import recipe_for

MICROGRAPH_PX = 1024
TILE_PX = 256
BATCH_SIZE = 8
CPU = torch.device("cpu")


class _Pictures:
    """Micrographs in memory-mapped files."""

    tile_px = TILE_PX

    def __init__(self, folder: Path, count: int) -> None:
        rng = np.random.default_rng(0)
        shape = (MICROGRAPH_PX, MICROGRAPH_PX)
        self._maps: dict[str, np.memmap[Any, np.dtype[np.uint8]]] = {}
        for index in range(count):
            path = folder / str(index)
            rng.normal(128, 25, shape).clip(0, 255).astype(np.uint8).tofile(path)
            self._maps[str(index)] = np.memmap(path, np.uint8, "r", shape=shape)

    @property
    def ids(self) -> list[str]:
        return list(self._maps)

    def picture(self, micrograph: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self._maps[micrograph]

    def tiles(self, item: str) -> tuple[Tile, ...]:
        return tile_grid(
            micrograph=item, height_px=MICROGRAPH_PX, width_px=MICROGRAPH_PX, tile_px=TILE_PX
        )


def main(*, micrographs: int = 4, rounds: int = 5, threads: int = 0) -> dict[str, Any]:
    """Print the table; return tiles per second and their ratio, pseudo-labelling / bare."""
    count = devices.prepare(threads=threads, device=CPU)
    network = build(NetworkSettings(), seed=0).eval()
    network.to(memory_format=torch.channels_last)
    speeds: dict[str, list[float]] = {"bare forward pass": [], "pseudo-labelling": []}
    with tempfile.TemporaryDirectory() as name:
        pictures = _Pictures(Path(name), micrographs)
        tiles = sum(len(pictures.tiles(item)) for item in pictures.ids)
        _bare(network, BATCH_SIZE)
        for _ in range(rounds):
            speeds["bare forward pass"].append(_bare(network, tiles))
            speeds["pseudo-labelling"].append(_pseudo_label(network, pictures, tiles))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratio = statistics.median(ours / bare for bare, ours in zip(*speeds.values(), strict=True))
    print(f"prediction, tiles of {TILE_PX} px, batch {BATCH_SIZE}, {count} threads")
    for label, value in medians.items():
        print(f"  {label:<18} {value:8.1f} tiles/s")
    print(f"  ratio {ratio:.2f} (at least 0.85)")
    return {
        "tile_px": TILE_PX,
        "batch_size": BATCH_SIZE,
        "micrograph_px": MICROGRAPH_PX,
        "threads": count,
        "tiles_per_second": medians,
        "all_rounds": speeds,
        "ratio": ratio,
    }


def _bare(network: torch.nn.Module, tiles: int) -> float:
    batch = torch.randn(BATCH_SIZE, 1, TILE_PX, TILE_PX).contiguous(
        memory_format=torch.channels_last
    )
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(tiles // BATCH_SIZE):
            network(batch)
    return tiles / (time.perf_counter() - began)


def _pseudo_label(network: torch.nn.Module, pictures: _Pictures, tiles: int) -> float:
    selection = recipe_for("class_balanced", SelectionSettings()).selection
    began = time.perf_counter()
    for _item, probabilities in predict(
        network,
        pictures,
        pictures.ids,
        batch_size=BATCH_SIZE,
        device=CPU,
        precision="fp32",
        report=silent,
    ):
        assess(probability_counts(probabilities), selection, target_ratio=0.04)
        label_map(probabilities, selection)
    return tiles / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
