"""Estimate the counts, the time and the disk space of a run: arithmetic on settings and a split."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from cryossl.config import Config, SelectionSettings
from cryossl.data.splits import Split
from cryossl.data.store.plan import StoredMicrograph, StorePlan
from cryossl.data.tiling import micrograph_of, tile_grid
from cryossl.evaluation.scorings import EIGHT
from cryossl.network import architecture as networks
from cryossl.network.training import steps_for
from cryossl.pseudolabels.keep_rules import BestPerLabelled
from cryossl.pseudolabels.strategies import recipe_for, rounds_of
from cryossl.selftraining.arms import phase_title
from cryossl.strategy_names import BASELINE, CONTROLS, ENSEMBLE
from cryossl.strategy_settings import config_of_strategy

# The last, the best, those after one and two thirds, and the journal's copy of the model.
_COPIES_OF_WEIGHTS = 5
# Network, two moments of AdamW, the best, two snapshots and a moving average, in two generations
# and the one being written.
_WEIGHTS_IN_CHECKPOINTS = 21
_AVERAGES_IN_CHECKPOINTS = 3
"""Copies of the average that `average_decay` adds."""


SECONDS_PER_MODEL = 3.0
"""Files, pictures and tracked numbers of one trained model, on a core of today."""
_BACKEND_BYTES = 2**30
"""CUDA's context and the libraries of a process."""


@dataclass(frozen=True)
class Estimate:
    """Counts of a run, and its greatest cost.

    The greatest cost is that of a run that accepts every iteration and keeps every candidate. The
    least is that of a run whose strategies end with their first students.
    """

    labelled: int
    unlabelled: int
    quota: int
    training_steps: int
    predicted_tiles: int
    seconds: float
    least_seconds: float
    disk_bytes: int


@dataclass(frozen=True)
class _Cost:
    """What one phase of a run costs at most; `iteration` None is that of the test part."""

    strategy: str
    iteration: int | None
    steps: int
    tiles: int
    models: int = 1

    def seconds(self, *, step_seconds: float, tile_seconds: float) -> float:
        """Its time from seconds per optimiser step and per predicted tile."""
        computed = self.steps * step_seconds + self.tiles * tile_seconds
        return computed + self.models * SECONDS_PER_MODEL


def estimate(
    config: Config, store_plan: StorePlan, split: Split, *, step_seconds: float, tile_seconds: float
) -> Estimate:
    """The estimate from seconds per optimiser step and per predicted tile, as measured."""
    costs = list(_costs(config, store_plan, split))
    first = list(
        _costs(
            config.model_copy(
                update={
                    "loop": config.loop.model_copy(
                        update={"max_iterations": min(1, config.loop.max_iterations)}
                    )
                }
            ),
            store_plan,
            split,
        )
    )
    speed = {"step_seconds": step_seconds, "tile_seconds": tile_seconds}
    quota = BestPerLabelled(config.selection.max_pseudo_per_labelled).limit(len(split.labelled))
    return Estimate(
        len(split.labelled),
        len(split.unlabelled),
        quota,
        sum(cost.steps for cost in costs),
        sum(cost.tiles for cost in costs),
        sum(cost.seconds(**speed) for cost in costs),
        sum(cost.seconds(**speed) for cost in first),
        bytes_to_write(config, store_plan, split, store_is_there=False, finished=()),
    )


def phase_seconds(
    config: Config, store_plan: StorePlan, split: Split, *, step_seconds: float, tile_seconds: float
) -> dict[str, float]:
    """Title of a phase of `arms.plan` -> its time at most."""
    return {
        phase_title(cost.strategy, cost.iteration): cost.seconds(
            step_seconds=step_seconds, tile_seconds=tile_seconds
        )
        for cost in _costs(config, store_plan, split)
    }


def strategy_seconds(
    config: Config, store_plan: StorePlan, split: Split, *, step_seconds: float, tile_seconds: float
) -> dict[str, float]:
    """Strategy, or `supervised` -> the time of all its phases at most."""
    found: dict[str, float] = {}
    for cost in _costs(config, store_plan, split):
        seconds = cost.seconds(step_seconds=step_seconds, tile_seconds=tile_seconds)
        found[cost.strategy] = found.get(cost.strategy, 0.0) + seconds
    return found


def _costs(config: Config, store_plan: StorePlan, split: Split) -> Iterator[_Cost]:
    """What each phase costs at most."""
    per_item = _tiles_per_item(config, store_plan)
    labelled = sum(per_item[micrograph_of(item)] for item in split.labelled)
    pool = sum(per_item[micrograph_of(item)] for item in split.unlabelled)
    settings, iterations = config.training, config.loop.max_iterations
    watched, tested = _scored_tiles(config, store_plan, split)
    steps = steps_for(settings, tiles=labelled, student=False)
    yield _Cost(BASELINE, 0, steps, watched + tested)
    for strategy in config.selection.strategies if iterations else ():
        own = config_of_strategy(config, strategy).training
        if strategy in CONTROLS:
            steps = steps_for(own, tiles=labelled + pool, student=True)
            # An ensemble is scored at the end, with the baseline as one of its networks.
            last = _trainings(strategy, config)
            scored = tested if strategy != ENSEMBLE else (last + 1) * tested
            for number in range(1, last):
                yield _Cost(strategy, number, steps, watched, models=0)
            yield _Cost(strategy, last, steps, watched + scored)
            continue
        rounds = rounds_of(strategy, iterations)
        for iteration in range(1, rounds + 1):
            pseudo = _most_pseudo_tiles(strategy, config, iteration, labelled, pool)
            steps = steps_for(own, tiles=labelled + pseudo, student=True)
            yield _Cost(strategy, iteration, steps, watched + pool * _views(strategy, config))
        yield _Cost(strategy, None, 0, rounds * tested, models=0)


def _trainings(strategy: str, config: Config) -> int:
    """The most trainings of an arm, without that of the baseline."""
    if strategy == ENSEMBLE:
        return config.loop.ensemble_networks - 1
    return rounds_of(strategy, config.loop.max_iterations)


def _tiles_per_item(config: Config, store_plan: StorePlan) -> dict[str, int]:
    """Micrograph -> tiles of one of its items."""
    if config.split.label_unit == "tile":
        return {micrograph.id: 1 for micrograph in store_plan.micrographs}
    return {one.id: _tiles(one, store_plan) for one in store_plan.micrographs}


def _scored_tiles(config: Config, store_plan: StorePlan, split: Split) -> tuple[int, int]:
    """Tiles that are predicted for the scores of one training, and of its model.

    Validation is predicted several times during the training. Then validation and test are
    predicted with the last and with the best weights, and with the weights that are the model once
    more by eight views.
    """
    tiles = {one.id: _tiles(one, store_plan) for one in store_plan.micrographs}
    validation, test = (
        sum(tiles[item] for item in part) for part in (split.validation, split.test)
    )
    settings = config.evaluation
    passes = 2 * settings.views
    if settings.eight_views and settings.views != EIGHT:
        passes += EIGHT  # of the last weights alone
    return config.training.validations * validation, passes * (validation + test)


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
    keep = recipe_for(strategy, _selection(config, strategy), iteration=iteration).selection.keep
    return keep.at_most(pool, labelled)


def _selection(config: Config, strategy: str) -> SelectionSettings:
    return config_of_strategy(config, strategy).selection


def _views(strategy: str, config: Config) -> int:
    """How many times a network sees a tile of the pool before it is labelled."""
    return recipe_for(strategy, _selection(config, strategy)).teaching.views * _maps(
        strategy, config
    )


def _maps(strategy: str, config: Config) -> int:
    """How many probability maps a teacher makes of a micrograph."""
    return 3 if recipe_for(strategy, _selection(config, strategy)).teaching.snapshots else 1


def bytes_to_write(
    config: Config,
    store_plan: StorePlan,
    split: Split,
    *,
    store_is_there: bool,
    finished: Collection[str],
) -> int:
    """Bytes that a run writes below its work folder at most; 0 if all strategies are `finished`.

    Counted are the store, each teacher's probability maps of the pool (kept until the run ends),
    the pseudo-labels, the weights of each training with the journal's copy, and the checkpoints of
    one training.
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
    # Strategies with equal teaching share the maps of the baseline.
    first = {
        recipe_for(name, _selection(config, name)).teaching: _maps(name, config)
        for name, _ in students
    }
    maps = sum(pool) * (
        sum(first.values()) + sum(_maps(name, config) for name, number in students if number > 1)
    )
    labels = sum(
        _most_label_bytes(name, config, number, len(split.labelled), pool)
        for name, number in students
    )
    trainings = 1 + sum(_trainings(name, config) for name in left)
    copies = _COPIES_OF_WEIGHTS * trainings + _WEIGHTS_IN_CHECKPOINTS
    copies += ENSEMBLE in left  # its file holds the baseline's once more
    averaged = [config, *(config_of_strategy(config, name) for name in left)]
    if any(one.training.average_decay for one in averaged):
        copies += _AVERAGES_IN_CHECKPOINTS
    weights = _weight_bytes(config) * copies
    store = 0 if store_is_there else store_plan.picture_bytes + store_plan.truth_bytes
    return store + maps + labels + weights


def _most_label_bytes(
    strategy: str, config: Config, iteration: int, labelled: int, pool: Sequence[int]
) -> int:
    """Bytes of one iteration's pseudo-labels, at most; each has the map of its whole micrograph."""
    keep = recipe_for(strategy, _selection(config, strategy), iteration=iteration).selection.keep
    return sum(sorted(pool, reverse=True)[: keep.at_most(len(pool), labelled)])


def _weight_bytes(config: Config) -> int:
    """Bytes of the network's weights, counted on torch's meta device, which allocates nothing."""
    with torch.device("meta"):
        network = networks.build(
            config.network.model_copy(update={"encoder_weights": "none"}), seed=0
        )
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def training_bytes(config: Config, *, tile_px: int) -> int:
    """Bytes of a GPU that a training needs at most, about: the backend, weights, activations.

    What the backward pass keeps of a forward pass is counted on torch's meta device, in fp32 also
    where bf16 is computed with, and doubled for gradients and work space.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[id(tensor.untyped_storage())] = tensor.numel() * tensor.element_size()
        storages.append(tensor.untyped_storage())  # so that no id is given to another one
        return tensor

    storages: list[torch.UntypedStorage] = []
    with torch.device("meta"):
        network = networks.build(
            config.network.model_copy(update={"encoder_weights": "none"}), seed=0
        )
        tiles = torch.empty(config.training.batch_size, 1, tile_px, tile_px)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(tiles)
    return _BACKEND_BYTES + 4 * _weight_bytes(config) + 2 * sum(kept.values())
