"""Micrographs per second of `pick` against the bare forward pass of the same network.

`pick`: MRC files of 4096 x 4096 float32 are hashed, decoded, reduced and normalised, the network
sees their tiles, peaks are sought, results are kept and STAR files written. Bare: forward passes of
the same network, with the same views, on as many tiles that are already tensors. Rounds alternate
in one process with the same number of threads; the ratio is the median over rounds. Two cores.
Seconds of CPU are given too: what a busy machine leaves of the two cores moves them least.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np
import torch

from cryossl.config import InputSettings, NetworkSettings, TrainingSettings
from cryossl.data.tiling import tile_grid
from cryossl.evaluation.picking import FULL_SCORE
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
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.outputs import write_all
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
        # A model that was scored by eight views picks so, with one thread unless told otherwise.
        cases: tuple[tuple[Literal[1, 8], int], ...] = ((8, 1), (8, 2), (1, 1))
        for views, threads in cases:
            label = f"{views} views, {threads} threads"
            found[label] = _compared(folder, paths, rounds, views=views, threads=threads)
            print(
                f"  {label}: pick {found[label]['pick']:.2f}, bare {found[label]['bare']:.2f} "
                f"micrographs/s, ratio {found[label]['ratio']:.2f} (at least {BAR}); CPU seconds "
                f"each {found[label]['pick_cpu_seconds']:.2f} and "
                f"{found[label]['bare_cpu_seconds']:.2f}"
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


@dataclass(frozen=True)
class _Pace:
    """Micrographs per second of wall time, and seconds of CPU per micrograph."""

    speed: float
    cpu_seconds: float


def _timed(work: Callable[[], object], micrographs: int) -> _Pace:
    began, used = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - began
    return _Pace(micrographs / seconds, (time.process_time() - used) / micrographs)


def _compared(
    folder: Path, paths: list[Path], rounds: int, *, views: Literal[1, 8], threads: int
) -> dict[str, float]:
    devices.prepare(device=CPU, threads=threads)
    model = model_of(views=views)
    network = model.network().eval()
    network.to(memory_format=torch.channels_last)
    _bare(network, model, 1)
    bare, picked = [], []
    for number in range(rounds):
        results = folder / f"{views}-{threads}-{number}"
        bare.append(_timed(lambda: _bare(network, model, len(paths)), len(paths)))
        picked.append(
            _timed(lambda to=results: _pick(network, model, paths, to), len(paths))  # type: ignore[misc]
        )
    pairs = list(zip(picked, bare, strict=True))
    return {
        "pick": statistics.median(one.speed for one in picked),
        "bare": statistics.median(one.speed for one in bare),
        "pick_cpu_seconds": statistics.median(one.cpu_seconds for one in picked),
        "bare_cpu_seconds": statistics.median(one.cpu_seconds for one in bare),
        "ratio": statistics.median(ours.speed / theirs.speed for ours, theirs in pairs),
    }


def _bare(network: torch.nn.Module, model: PickingModel, micrographs: int) -> None:
    """The forward pass alone, on as many tiles as so many micrographs have."""
    side, tile = InputSettings().image_px, model.description.tile_px
    grid = tile_grid(micrograph="", height_px=side, width_px=side, tile_px=tile)
    batch_size = TrainingSettings().batch_size
    batch = torch.randn(batch_size, 1, tile, tile).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(-(-micrographs * len(grid) // batch_size)):
            network(batch)


def _pick(network: torch.nn.Module, model: PickingModel, paths: list[Path], folder: Path) -> None:
    results = Results(folder, key="k")
    stream = Stream(
        results,
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
    faults = stream.pick(paths, report=silent)
    if faults:
        raise RuntimeError(next(iter(faults.values())))
    # The contact sheet is left out: its dozen pictures are the same for any number of micrographs.
    found = ((path.name, result) for path in paths if (result := results.read(path)) is not None)
    write_all(
        folder,
        ("star",),
        lambda: (
            Coordinates(
                name,
                result.picks.centres.astype(np.float64),
                scores=result.picks.scores / FULL_SCORE,
            )
            for name, result in found
        ),
        pixel_size_angstrom=None,
    )


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
