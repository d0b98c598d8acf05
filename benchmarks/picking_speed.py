"""Micrographs per second of `pick` against the bare forward pass of the same network.

`pick`: MRC files of 4096 x 4096 float32 are hashed, decoded, reduced and normalised, the network
sees their tiles, peaks are sought, results are kept and STAR files written. Bare: forward passes of
the same network, with the same views, on as many tiles that are already tensors. Rounds alternate
in one process with the same number of threads; the ratio is the median over rounds. Two cores.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np
import torch

from cryossl.config import InputSettings, NetworkSettings, TrainingSettings
from cryossl.data.tiling import tile_grid
from cryossl.network import architecture
from cryossl.network import device as devices
from cryossl.network.picking_model import (
    SCHEMA,
    Description,
    Origin,
    PickingModel,
    Size,
    Source,
    probabilities,
)
from cryossl.picking.results import Results
from cryossl.picking.stream import Stream
from cryossl.progress.events import silent

SIDE_PX = 4096
DIAMETER_PX = 64
BAR = 0.8
CPU = torch.device("cpu")


def main(*, micrographs: int = 8, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Print the table; return by views and threads: micrographs per second, and their ratio."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [
            _micrograph(folder / f"{number}.mrc", seed=number) for number in range(micrographs)
        ]
        print(f"pick, MRC of {SIDE_PX} x {SIDE_PX} float32, {len(cores)} cores")
        cases: tuple[tuple[Literal[1, 4], int], ...] = ((1, 1), (1, 2), (4, 1), (4, 2))
        for views, threads in cases:
            label = f"{views} views, {threads} threads"
            found[label] = _compared(folder, paths, rounds, views=views, threads=threads)
            print(
                f"  {label}: pick {found[label]['pick']:.2f}, bare {found[label]['bare']:.2f} "
                f"micrographs/s, ratio {found[label]['ratio']:.2f} (at least {BAR})"
            )
    return found


def model_of(
    *, views: Literal[1, 4, 8], side_px: int = SIDE_PX, tile_px: int = InputSettings().tile_px
) -> PickingModel:
    """A model of the default network, not trained: its maps have more maxima than trained ones."""
    settings = NetworkSettings()
    description = Description(
        format=SCHEMA,
        network=settings,
        tile_px=tile_px,
        views=views,
        particle_radius_fraction=1.0,
        sources={
            "noise": Source(
                diameter_px=min(DIAMETER_PX, side_px / 4),
                pixel_size_angstrom=None,
                sizes=(
                    Size(
                        height_px=side_px,
                        width_px=side_px,
                        scale=min(1.0, InputSettings().image_px / side_px),
                    ),
                ),
            )
        },
        pixel_threshold8=128,
        pick_threshold16=2**15,
        origin=Origin(
            run_key="",
            strategy="none",
            ratio_percent=0,
            seed=0,
            iteration=0,
            data_digest="",
            code_digest="",
            fingerprint="",
            chosen_on="nothing",
            scores={},
        ),
    )
    return PickingModel(description, architecture.build(settings, seed=0).state_dict())


def _compared(
    folder: Path, paths: list[Path], rounds: int, *, views: Literal[1, 4], threads: int
) -> dict[str, float]:
    devices.prepare(device=CPU, threads=threads)
    model = model_of(views=views)
    network = model.network().eval()
    network.to(memory_format=torch.channels_last)
    speeds: dict[str, list[float]] = {"bare": [], "pick": []}
    _bare(network, model, 1)
    for number in range(rounds):
        speeds["bare"].append(_bare(network, model, len(paths)))
        results = folder / f"{views}-{threads}-{number}"
        speeds["pick"].append(_picked(network, model, paths, results))
    pairs = zip(*speeds.values(), strict=True)
    return {
        **{name: statistics.median(values) for name, values in speeds.items()},
        "ratio": statistics.median(ours / bare for bare, ours in pairs),
    }


def _bare(network: torch.nn.Module, model: PickingModel, micrographs: int) -> float:
    """Micrographs per second of the forward pass alone."""
    side, tile = InputSettings().image_px, model.description.tile_px
    grid = tile_grid(micrograph="", height_px=side, width_px=side, tile_px=tile)
    batch_size = TrainingSettings().batch_size
    batch = torch.randn(batch_size, 1, tile, tile).contiguous(memory_format=torch.channels_last)
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(-(-micrographs * len(grid) // batch_size)):
            network(batch)
    return micrographs / (time.perf_counter() - began)


def _picked(
    network: torch.nn.Module, model: PickingModel, paths: list[Path], folder: Path
) -> float:
    stream = Stream(
        Results(folder, key="k"),
        partial(
            probabilities,
            network,
            tile_px=model.description.tile_px,
            batch_size=TrainingSettings().batch_size,
            device=CPU,
            precision="fp32",
        ),
        model.description,
        scale_of=lambda _path, height, width: model.scale_of(height_px=height, width_px=width),
        max_megapixels=InputSettings().max_megapixels,
    )
    began = time.perf_counter()
    faults = stream.pick(paths, report=silent)
    seconds = time.perf_counter() - began
    if faults:
        raise RuntimeError(next(iter(faults.values())))
    return len(paths) / seconds


def _micrograph(path: Path, *, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    grey = rng.normal(size=(SIDE_PX, SIDE_PX)).astype(np.float32)
    rows, columns = np.mgrid[:DIAMETER_PX, :DIAMETER_PX] + 0.5 - DIAMETER_PX / 2
    disc = (np.hypot(rows, columns) <= DIAMETER_PX / 2).astype(np.float32)
    for y, x in rng.integers(0, SIDE_PX - DIAMETER_PX, size=(400, 2)):
        grey[y : y + DIAMETER_PX, x : x + DIAMETER_PX] -= disc
    with mrcfile.new(path, data=grey):
        pass
    return path


if __name__ == "__main__":
    main()
