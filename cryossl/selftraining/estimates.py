"""What a run will count, take and write: arithmetic on a split and two speeds measured on this machine."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cryossl.config import Config
from cryossl.data.splits import Split
from cryossl.data.store.plan import StoredMicrograph, StorePlan
from cryossl.data.tiling import micrograph_of, tile_grid
from cryossl.network import architecture as networks
from cryossl.network import device as devices
from cryossl.network.device import Precision
from cryossl.network.losses import segmentation_loss
from cryossl.network.training import steps_for
from cryossl.pseudolabels.keep_rules import BestPerLabelled
from cryossl.pseudolabels.strategies import recipe_for, rounds_of
from cryossl.strategy_names import CONTROLS
from cryossl.system.files import write_durably

_TIMED_STEPS = 3
_COPIES_OF_WEIGHTS = (
    5  # last, best, after one and two thirds, and the journal's of the one that is the model
)
# Network, two moments of AdamW, the best, two snapshots and a moving average, in two generations
# and the one being written.
_WEIGHTS_IN_CHECKPOINTS = 21


@dataclass(frozen=True)
class Estimate:
    """Counts of a run, and its cost at most: as if every iteration were accepted and every candidate kept."""

    labelled: int
    unlabelled: int
    quota: int
    training_steps: int
    predicted_tiles: int
    seconds: float
    disk_bytes: int


def estimate(
    config: Config, store_plan: StorePlan, split: Split, *, step_seconds: float, tile_seconds: float
) -> Estimate:
    """The estimate from seconds per optimiser step and per predicted tile."""
    per_item = _tiles_per_item(config, store_plan)
    labelled = sum(per_item[micrograph_of(item)] for item in split.labelled)
    pool = sum(per_item[micrograph_of(item)] for item in split.unlabelled)
    settings = config.training
    iterations = config.loop.max_iterations
    steps = steps_for(settings, tiles=labelled, student=False)
    scored = _scored_tiles(config, store_plan, split)
    predictions = scored
    for strategy in config.selection.strategies if iterations else ():
        for iteration in range(1, rounds_of(strategy, iterations) + 1):
            pseudo = (
                pool
                if strategy in CONTROLS
                else _most_pseudo_tiles(strategy, config, iteration, labelled, pool)
            )
            steps += steps_for(settings, tiles=labelled + pseudo, student=True)
            predictions += scored + (0 if strategy in CONTROLS else pool * _views(strategy, config))
    quota = BestPerLabelled(config.selection.max_pseudo_per_labelled).limit(len(split.labelled))
    return Estimate(
        len(split.labelled),
        len(split.unlabelled),
        quota,
        steps,
        predictions,
        steps * step_seconds + predictions * tile_seconds,
        bytes_to_write(config, store_plan, split, store_is_there=False, finished=()),
    )


def measure_speed(
    config: Config, *, tile_px: int, device: torch.device, precision: Precision
) -> tuple[float, float]:
    """(seconds per optimiser step, seconds per predicted tile) of the config's network on noise, on this machine now."""
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

    training = _seconds(step, device)
    with torch.inference_mode():
        return training, _seconds(forward, device) / config.training.batch_size


def choose_threads(config: Config, *, tile_px: int, device: torch.device, memory: Path) -> int:
    """CPU threads for a config: as set, as OMP_NUM_THREADS says, or the faster of one and one per core, tried once.

    On a busy machine two threads wait for each other and can be slower than one by far. Results at
    another number of threads agree to rounding only, so the choice is kept in the file `memory` and
    holds for every later start.
    """
    settled = config.training.threads or devices.openmp_threads()
    cores = devices.usable_cores()
    if settled or device.type != "cpu" or cores == 1:
        return settled or cores
    precision = devices.resolve_precision(config.training.precision, device)
    name = (
        f"{config.network.model_dump_json()} {tile_px} px x {config.training.batch_size}, "
        f"{precision}, {cores} cores"
    )
    known = _remembered(memory)
    if name not in known:
        speeds = {}
        for threads in (cores, 1):
            torch.set_num_threads(threads)
            speeds[threads] = measure_speed(
                config, tile_px=tile_px, device=device, precision=precision
            )[0]
        known[name] = min(speeds, key=lambda threads: speeds[threads])
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_durably(memory, json.dumps(known, indent=1).encode())
    return known[name]


def _remembered(memory: Path) -> dict[str, int]:
    """Earlier choices; none if the file is missing or damaged, for they can be made again."""
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    """Median of a few timed calls after one to warm up."""
    taken = []
    for _ in range(1 + _TIMED_STEPS):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def _tiles_per_item(config: Config, store_plan: StorePlan) -> dict[str, int]:
    """Micrograph -> tiles of one of its items."""
    if config.split.label_unit == "tile":
        return {micrograph.id: 1 for micrograph in store_plan.micrographs}
    return {one.id: _tiles(one, store_plan) for one in store_plan.micrographs}


def _scored_tiles(config: Config, store_plan: StorePlan, split: Split) -> int:
    """What one training predicts of validation on its way, and of validation and test with its last and its best weights."""
    tiles = {one.id: _tiles(one, store_plan) for one in store_plan.micrographs}
    validation, test = (
        sum(tiles[item] for item in part) for part in (split.validation, split.test)
    )
    return config.training.validations * validation + 2 * config.evaluation.views * (
        validation + test
    )


def _tiles(micrograph: StoredMicrograph, store_plan: StorePlan) -> int:
    return len(
        tile_grid(
            micrograph=micrograph.id,
            height_px=micrograph.height_px,
            width_px=micrograph.width_px,
            tile_px=store_plan.tile_px,
        )
    )


def _most_pseudo_tiles(
    strategy: str, config: Config, iteration: int, labelled: int, pool: int
) -> int:
    keep = recipe_for(strategy, config.selection, iteration=iteration).selection.keep
    return keep.at_most(pool, labelled)


def _views(strategy: str, config: Config) -> int:
    """How many times a network sees a tile of the pool before it is labelled."""
    return recipe_for(strategy, config.selection).teaching.views * _maps(strategy, config)


def _maps(strategy: str, config: Config) -> int:
    """How many probability maps a teacher makes of a micrograph."""
    return 3 if recipe_for(strategy, config.selection).teaching.snapshots else 1


def bytes_to_write(
    config: Config,
    store_plan: StorePlan,
    split: Split,
    *,
    store_is_there: bool,
    finished: Collection[str],
) -> int:
    """What a run writes below its work folder at most, from its settings;

    0 if all strategies are `finished`.

    The store; probability maps of the pool, each teacher's until the run ends; pseudo-labels; the
    weights of each training with the journal's copy, and the checkpoints of one.
    """
    left = (
        [name for name in config.selection.strategies if name not in finished]
        if config.loop.max_iterations
        else []
    )
    if finished and not left:
        return 0
    sizes = {one.id: one.height_px * one.width_px for one in store_plan.micrographs}
    pool = [sizes[name] for name in {micrograph_of(item) for item in split.unlabelled}]
    students = [
        (name, number)
        for name in left
        if name not in CONTROLS
        for number in range(1, rounds_of(name, config.loop.max_iterations) + 1)
    ]
    first = {
        recipe_for(name, config.selection).teaching: _maps(name, config) for name, _ in students
    }  # of one teacher
    maps = sum(pool) * (
        sum(first.values()) + sum(_maps(name, config) for name, number in students if number > 1)
    )
    labels = sum(
        _most_label_bytes(name, config, number, len(split.labelled), pool)
        for name, number in students
    )
    trainings = 1 + sum(rounds_of(name, config.loop.max_iterations) for name in left)
    weights = _weight_bytes(config) * (_COPIES_OF_WEIGHTS * trainings + _WEIGHTS_IN_CHECKPOINTS)
    store = 0 if store_is_there else store_plan.picture_bytes + store_plan.truth_bytes
    return store + maps + labels + weights


def _most_label_bytes(
    strategy: str, config: Config, iteration: int, labelled: int, pool: Sequence[int]
) -> int:
    """A selected item brings the label map of its whole micrograph."""
    keep = recipe_for(strategy, config.selection, iteration=iteration).selection.keep
    return sum(sorted(pool, reverse=True)[: keep.at_most(len(pool), labelled)])


def _weight_bytes(config: Config) -> int:
    """Of the network, whose layers are laid out without memory or numbers."""
    with torch.device("meta"):
        network = networks.build(
            config.network.model_copy(update={"encoder_weights": "none"}), seed=0
        )
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
