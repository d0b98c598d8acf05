"""Training tiles per second against a plain loop with the same network, batch size and loss.

Plain: for every item PIL decodes and reduces the micrograph (jpg, full size) and decodes the mask
(png, reduced); a DataLoader collates; fp32, NCHW, AdamW with its defaults. Ours: the project's own
`fit` on memory-mapped pictures of the reduced size, in the precision that it chooses itself. Each
side runs in its own process, because ours changes process-wide settings. The sides alternate, and
the ratio is the median over rounds, so that a changing load of the machine slows both. With CUDA
both run on the GPU too, with the small network and with a resnet34 on larger tiles.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cryossl.config import NetworkSettings
from cryossl.data.tiling import Tile, tile_grid
from cryossl.network import device as devices
from cryossl.network.architecture import build
from cryossl.network.batches import Example, Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.training import Hyperparameters, fit
from cryossl.progress.events import Progress

MICROGRAPH_PX = 4096  # as most of EMPIAR's are
STORE_PX = 1024
MICROGRAPHS = 6
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Scale:
    """The network, the batches and the device of one measurement."""

    tile_px: int = 128
    batch_size: int = 8
    network: NetworkSettings = field(default_factory=NetworkSettings)
    device: str = "cpu"


STUDY = Scale(tile_px=64, batch_size=16, device="cuda")
LARGE = Scale(
    tile_px=256,
    batch_size=16,
    device="cuda",
    network=NetworkSettings(encoder="resnet34", encoder_depth=5, decoder_width=16),
)


def main(*, steps: int = 12, rounds: int = 3, threads: int = 0) -> list[dict[str, Any]]:
    """Print the tables; return tiles per second and the ratios ours / plain of each scale."""
    scales = [Scale(), *([STUDY, LARGE] if torch.cuda.is_available() else [])]
    return [
        measure(scale, steps=steps, rounds=rounds, threads=threads or devices.usable_cores())
        for scale in scales
    ]


def measure(scale: Scale, *, steps: int, rounds: int, threads: int) -> dict[str, Any]:
    """Print the table of one scale; return its tiles per second and its ratios."""
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, get_context("spawn")) as plain,
        ProcessPoolExecutor(1, get_context("spawn")) as ours,
    ):
        folder = Path(name)
        write_micrographs(folder)
        speeds: dict[str, list[float]] = {"plain, decoding": [], "plain, in memory": [], "ours": []}
        for _ in range(rounds):
            speeds["plain, decoding"].append(
                plain.submit(plain_decoding, folder, scale, steps, threads).result()
            )
            speeds["plain, in memory"].append(
                plain.submit(plain_in_memory, folder, scale, steps, threads).result()
            )
            speeds["ours"].append(ours.submit(own, folder, scale, steps, threads).result())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result: dict[str, Any] = {
        "tile_px": scale.tile_px,
        "batch_size": scale.batch_size,
        "encoder": scale.network.encoder,
        "device": scale.device,
        "micrograph_px": MICROGRAPH_PX,
        "store_px": STORE_PX,
        "threads": threads,
        "tiles_per_second": medians,
        "all_rounds": speeds,
        "ratio_with_decoding": _ratio(speeds["ours"], speeds["plain, decoding"]),
        "ratio_without_decoding": _ratio(speeds["ours"], speeds["plain, in memory"]),
    }
    print(
        f"training, {scale.network.encoder} on {scale.device}, tiles of {scale.tile_px} px, batch "
        f"{scale.batch_size}, "
        f"{threads} threads, micrographs of {MICROGRAPH_PX} px reduced to {STORE_PX}"
    )
    for label, value in medians.items():
        print(f"  {label:<18} {value:8.1f} tiles/s")
    print(
        f"  ours / plain with decoding {result['ratio_with_decoding']:.2f} (at least 3), "
        f"without {result['ratio_without_decoding']:.2f} (at least 1)"
    )
    return result


def _ratio(ours: list[float], plain: list[float]) -> float:
    return statistics.median(
        own_speed / plain_speed for own_speed, plain_speed in zip(ours, plain, strict=True)
    )


def write_micrographs(folder: Path) -> None:
    """Noise pictures as jpg, masks as png, and both as the store has them."""
    rng = np.random.default_rng(0)
    for index in range(MICROGRAPHS):
        picture = rng.normal(128, 25, (MICROGRAPH_PX, MICROGRAPH_PX)).clip(0, 255).astype(np.uint8)
        mask = (
            (rng.random((STORE_PX // 32, STORE_PX // 32)) < 0.1)
            .repeat(32, 0)
            .repeat(32, 1)
            .astype(np.uint8)
        )
        Image.fromarray(picture).save(folder / f"{index}.jpg", quality=90)
        Image.fromarray(mask).save(folder / f"{index}.png")
        np.asarray(Image.fromarray(picture).reduce(MICROGRAPH_PX // STORE_PX)).tofile(
            folder / f"{index}.picture"
        )
        mask.tofile(folder / f"{index}.labels")


def _tiles(tile_px: int) -> list[tuple[int, Tile]]:
    return [
        (index, tile)
        for index in range(MICROGRAPHS)
        for tile in tile_grid(
            micrograph=str(index), height_px=STORE_PX, width_px=STORE_PX, tile_px=tile_px
        )
    ]


class _Decoded(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decode, reduce, cut and standardise per item."""

    def __init__(self, folder: Path, tile_px: int) -> None:
        self._folder, self._tile_px = folder, tile_px
        self._tiles = _tiles(tile_px)

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        number, tile = self._tiles[index]
        box = (tile.x, tile.y, tile.x + self._tile_px, tile.y + self._tile_px)
        with (
            Image.open(self._folder / f"{number}.jpg") as picture,
            Image.open(self._folder / f"{number}.png") as mask,
        ):
            pixels = np.asarray(
                picture.reduce(MICROGRAPH_PX // STORE_PX).crop(box), dtype=np.float32
            )
            target = np.asarray(mask.crop(box), dtype=np.float32)
        standardised = (pixels - pixels.mean()) / (pixels.std() + 1e-6)
        return torch.from_numpy(standardised)[None], torch.from_numpy(target)[None]


class _Loaded(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Tiles that were decoded and standardised before the clock starts."""

    def __init__(self, folder: Path, tile_px: int, *, count: int) -> None:
        decoded = _Decoded(folder, tile_px)
        self._items = [decoded[index] for index in range(count)]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._items[index]


def plain_decoding(folder: Path, scale: Scale, steps: int, threads: int) -> float:
    """Tiles per second of the plain loop that decodes each item."""
    return _plain(_Decoded(folder, scale.tile_px), scale, steps, threads)


def plain_in_memory(folder: Path, scale: Scale, steps: int, threads: int) -> float:
    """Tiles per second of the plain loop on tensors."""
    return _plain(_Loaded(folder, scale.tile_px, count=2 * scale.batch_size), scale, steps, threads)


def _plain(
    dataset: Dataset[tuple[torch.Tensor, torch.Tensor]], scale: Scale, steps: int, threads: int
) -> float:
    torch.set_num_threads(threads)
    network = build(scale.network, seed=0).to(scale.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    dice = smp.losses.DiceLoss(mode="binary", from_logits=True)
    entropy = nn.BCEWithLogitsLoss()
    clock = _Clock(steps, scale.batch_size)
    while not clock.over():
        for pictures, masks in DataLoader(
            dataset, batch_size=scale.batch_size, shuffle=True, drop_last=True
        ):
            logits, target = network(pictures.to(scale.device)), masks.to(scale.device)
            loss = entropy(logits, target) + dice(logits, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
            clock.tick()
            if clock.over():
                break
    return clock.tiles_per_second


def own(folder: Path, scale: Scale, steps: int, threads: int) -> float:
    """Tiles per second of `fit` on memory-mapped pictures, augmentation included."""
    device = torch.device(scale.device)
    devices.prepare(threads=threads, device=device)
    shape = (STORE_PX, STORE_PX)
    pictures, labels = (
        [
            np.memmap(folder / f"{index}.{kind}", np.uint8, "r", shape=shape)
            for index in range(MICROGRAPHS)
        ]
        for kind in ("picture", "labels")
    )
    examples = [
        Example(tile, pictures[index], labels[index]) for index, tile in _tiles(scale.tile_px)
    ]
    batches = TileBatches(
        examples,
        Sampling(
            batch_size=scale.batch_size,
            tile_px=scale.tile_px,
            seed=0,
            purpose="bench",
            iteration=0,
            pinned=device.type == "cuda",
        ),
    )
    clock = _Clock(steps, scale.batch_size)
    with tempfile.TemporaryDirectory() as name:
        fit(
            build(scale.network, seed=0),
            batches,
            Hyperparameters(
                steps=WARM_UP_STEPS + steps,
                learning_rate=1e-3,
                weight_decay=1e-2,
                seed=0,
                iteration=0,
                precision=devices.resolve_precision("auto", device),
                validations=1,
            ),
            device=device,
            checkpoint=Checkpoint(Path(name)),
            validate=_unscored,
            report=_ticking(clock),
            on_epoch=lambda _: None,
        )
    return clock.tiles_per_second


def _unscored(_network: nn.Module) -> None:
    """Validation is no part of the measure."""


def _ticking(clock: _Clock) -> Callable[[Progress], None]:
    return lambda _progress: clock.tick()


class _Clock:
    """Median step time after the warm-up.

    Other processes on the machine slow single steps, not the median.
    """

    def __init__(self, steps: int, batch_size: int) -> None:
        self._moments: list[float] = []
        self._wanted, self._batch_size = WARM_UP_STEPS + steps, batch_size

    def tick(self) -> None:
        """One step is done."""
        self._moments.append(time.perf_counter())

    def over(self) -> bool:
        """Whether there are enough steps."""
        return len(self._moments) >= self._wanted

    @property
    def tiles_per_second(self) -> float:
        """Tiles of a step / its median time."""
        return self._batch_size / float(np.median(np.diff(self._moments[WARM_UP_STEPS - 1 :])))


if __name__ == "__main__":
    main()
