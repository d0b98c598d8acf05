"""Measure how fast the network trains and predicts here, and choose its number of CPU threads."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cryossl.config import Config
from cryossl.network import architecture as networks
from cryossl.network import device as devices
from cryossl.network.device import Precision
from cryossl.network.losses import segmentation_loss
from cryossl.system.files import write_durably

_TIMED_CALLS = 3


def measure_speed(
    config: Config, *, tile_px: int, device: torch.device, precision: Precision
) -> tuple[float, float]:
    """Time the config's network on noise, on this machine as it is now.

    Returns:
        Seconds per optimiser step, and seconds per predicted tile.
    """
    network = networks.build(config.network, seed=0).to(device)
    optimiser = torch.optim.AdamW(network.parameters())
    tiles = torch.randn(config.training.batch_size, 1, tile_px, tile_px, device=device)
    target = (tiles > 2).to(tiles.dtype)

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits: torch.Tensor = network(tiles)
        return logits.float()

    def step() -> None:
        optimiser.zero_grad()
        segmentation_loss(forward(), target, torch.ones_like(tiles)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    step_seconds = _median_seconds(step, device)
    with torch.inference_mode():
        return step_seconds, _median_seconds(forward, device) / config.training.batch_size


def choose_threads(config: Config, *, tile_px: int, device: torch.device, memory: Path) -> int:
    """The number of CPU threads for a config.

    It is the setting, else OMP_NUM_THREADS, else the faster of one thread and one per core. On a
    busy machine two threads wait for each other and can be slower than one by far.

    Results with another number of threads agree to rounding only. The measured choice is therefore
    kept in the file `memory` and holds for every later start.
    """
    given = config.training.threads or devices.openmp_threads()
    cores = devices.usable_cores()
    if given or device.type != "cpu" or cores == 1:
        return given or cores
    precision = devices.resolve_precision(config.training.precision, device)
    name = (
        f"{config.network.model_dump_json()} {tile_px} px x {config.training.batch_size}, "
        f"{precision}, {cores} cores"
    )
    known = _earlier_choices(memory)
    if name not in known:
        step_seconds = {}
        for threads in (cores, 1):
            torch.set_num_threads(threads)
            step_seconds[threads], _ = measure_speed(
                config, tile_px=tile_px, device=device, precision=precision
            )
        known[name] = min(step_seconds, key=lambda threads: step_seconds[threads])
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_durably(memory, json.dumps(known, indent=1).encode())
    return known[name]


def _earlier_choices(memory: Path) -> dict[str, int]:
    """Name of a network, tile and machine -> threads; empty if the file is missing or damaged."""
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _median_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Median of a few timed calls, after one call to warm up."""
    taken = []
    for _ in range(1 + _TIMED_CALLS):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])
