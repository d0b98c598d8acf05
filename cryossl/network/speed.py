"""Measure how fast the network trains and predicts here, and choose its number of CPU threads."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from cryossl.config import Config
from cryossl.data.store.store import Store
from cryossl.network import architecture as networks
from cryossl.network import device as devices
from cryossl.network import training
from cryossl.network.batches import Sampling
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.device import Precision
from cryossl.network.examples import student_batches
from cryossl.network.losses import segmentation_loss
from cryossl.progress.events import Progress
from cryossl.pseudolabels.recipe import Learning
from cryossl.system.files import write_durably

_CPU = torch.device("cpu")
_TIMED_CALLS = 3
TRIAL_STEPS = 12
_WARM_UP_STEPS = 2
_ROUNDS = 3
_CHOICE_SECONDS = 30.0
_CLEARLY_SLOWER = 1.15


def measure_speed(
    config: Config,
    *,
    tile_px: int,
    device: torch.device,
    precision: Precision,
    calls: int = _TIMED_CALLS,
) -> tuple[float, float]:
    """Time the config's network on noise, on this machine as it is now.

    The mean of `calls` calls counts, not the median: on a busy machine some of them wait, and so
    will the steps of a run.

    Returns:
        Seconds per optimiser step, and seconds per predicted tile.
    """
    forward, step = _work(config, tile_px=tile_px, device=device, precision=precision)
    step_seconds = _mean_seconds(step, device, calls=calls)
    with torch.inference_mode():
        tile_seconds = _mean_seconds(forward, device, calls=max(1, calls // 2))
    return step_seconds, tile_seconds / config.training.batch_size


def trial_step_seconds(
    config: Config,
    store: Store,
    labelled: Sequence[str],
    *,
    device: torch.device,
    precision: Precision,
) -> float:
    """Mean seconds per optimiser step of the baseline on its own tiles, over a few steps."""
    settings, moments = config.training, list[float]()
    captured = settings.cuda_graph and device.type == "cuda"
    warm_up = devices.CALLS_BEFORE_CAPTURE + 1 if captured else _WARM_UP_STEPS

    def note(_event: Progress) -> None:
        if captured:  # else the step has waited for its loss
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    sampling = Sampling(
        settings.batch_size,
        store.tile_px,
        seed=config.split.seed,
        iteration=0,
        shift_px=round(settings.tile_shift * store.tile_px),
        pinned=device.type == "cuda",
    )
    network = networks.build(
        config.network.model_copy(update={"encoder_weights": "none"}), seed=config.split.seed
    )
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            network,
            student_batches(
                store, labelled, None, Learning(), sampling=sampling, steps=TRIAL_STEPS
            ),
            training.Hyperparameters(
                steps=TRIAL_STEPS,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                seed=config.split.seed,
                iteration=0,
                precision=precision,
                validations=1,
            ),
            device=device,
            checkpoint=Checkpoint(Path(folder)),
            validate=lambda _network: None,
            report=note,
            on_epoch=lambda _record: None,
            captured=captured,
        )
    return (moments[-2] - moments[warm_up - 1]) / (len(moments) - 1 - warm_up)


def choose_threads(
    config: Config, *, tile_px: int, device: torch.device, memory: Path, most: int | None = None
) -> int:
    """The number of CPU threads for a config, at most `most`, or one per usable core.

    It is the setting, else OMP_NUM_THREADS, else the smallest number that is about as fast as the
    fastest on this machine as it is now. On a busy machine threads wait for each other, and more of
    them gain little.

    Results with another number of threads agree to rounding only. The measured choice is therefore
    kept in the file `memory` and holds for every later start.
    """
    given = config.training.threads or devices.openmp_threads()
    most = most or devices.usable_cores()
    if given or device.type != "cpu" or most == 1:
        return given or most
    precision = devices.resolve_precision(config.training.precision, device)
    name = (
        f"{config.network.model_dump_json()} {tile_px} px x {config.training.batch_size}, "
        f"{precision}, {most} cores"
    )
    known = _earlier_choices(memory)
    if not 1 <= known.get(name, 0) <= most:
        _, step = _work(config, tile_px=tile_px, device=device, precision=precision)
        known[name] = fewest_threads(step_seconds_by_threads(step, most=most))
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_durably(memory, json.dumps(known, indent=1).encode())
    return known[name]


def step_seconds_by_threads(step: Callable[[], object], *, most: int) -> dict[int, float]:
    """Median seconds of a step on a CPU with 1, 2, 4 ... and `most` threads.

    The numbers take turns, so that a load that comes and goes slows all of them alike.
    """
    counts = sorted({most, *(2**power for power in range(most.bit_length()) if 2**power < most)})
    taken: dict[int, list[float]] = {threads: [] for threads in counts}
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        for threads in counts:
            torch.set_num_threads(threads)
            taken[threads].append(_median_seconds(step, _CPU, calls=1))
        if time.perf_counter() - began > _CHOICE_SECONDS:
            break
    return {threads: statistics.median(seconds) for threads, seconds in taken.items()}


def fewest_threads(step_seconds: Mapping[int, float]) -> int:
    """The smallest number of threads whose step is not clearly slower than the fastest."""
    bar = _CLEARLY_SLOWER * min(step_seconds.values())
    return min(threads for threads, seconds in step_seconds.items() if seconds <= bar)


def _work(
    config: Config, *, tile_px: int, device: torch.device, precision: Precision
) -> tuple[Callable[[], torch.Tensor], Callable[[], None]]:
    """A forward pass and an optimiser step of the config's network on noise."""
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

    return forward, step


def _earlier_choices(memory: Path) -> dict[str, int]:
    """Name of a network, tile and machine -> threads; what is damaged is left out."""
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: threads for name, threads in pairs if type(threads) is int}


def _mean_seconds(action: Callable[[], object], device: torch.device, *, calls: int) -> float:
    return statistics.fmean(_timed(action, device, calls=calls))


def _median_seconds(
    action: Callable[[], object], device: torch.device, *, calls: int = _TIMED_CALLS
) -> float:
    return statistics.median(_timed(action, device, calls=calls))


def _timed(action: Callable[[], object], device: torch.device, *, calls: int) -> list[float]:
    """The seconds of a few calls, after one call to warm up."""
    taken = []
    for _ in range(1 + calls):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return taken[1:]
