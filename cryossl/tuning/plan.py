"""What `tune` was asked for: checked before anything is read, and printed by `--dry-run`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from cryossl.config import Config
from cryossl.config_file import build, read_document
from cryossl.data.splits import Split
from cryossl.data.store.plan import StoredMicrograph, StorePlan
from cryossl.errors import ConfigError
from cryossl.network import device as devices
from cryossl.network.speed import measure_speed
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import duration_text
from cryossl.progress.terminal import echo
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining.arms import phase_title
from cryossl.selftraining.estimates import phase_seconds
from cryossl.strategy_names import BASELINE, CONTROLS
from cryossl.strategy_settings import config_of_strategy, with_own
from cryossl.sweep.executors import Executor
from cryossl.sweep.grid import Cell, cells
from cryossl.sweep.planning import choose_place, prepare_cells
from cryossl.tuning.space import Dimension, Range, Space, space_of

PRESET = Path(__file__).resolve().parents[2] / "presets" / "space.yaml"
_COST_GROWS = {
    "student_epochs": True,
    "least_steps": True,
    "max_pseudo_per_labelled": True,
    "batch_size": False,
}
"""Settings that decide how long a training takes, and whether it grows with them."""


@dataclass(frozen=True)
class Request:
    """The options of the command; a `space` without a name is the preset."""

    space: Path | None
    trials: int
    seeds: int
    tuning_seed: int
    jobs: int
    executor: str
    slurm: str | None
    dry_run: bool


@dataclass(frozen=True)
class Plan:
    """What is tuned.

    Attributes:
        config: the strategies with their settings as they are; its seed plays no part.
        space: of each strategy.
        trials: of each strategy.
        seeds: of each trial.
        jobs: trials at a time.
    """

    config: Config
    space: Space
    trials: int
    seeds: range
    jobs: int

    @property
    def window(self) -> int:
        """How many trials of one strategy may be under way at a time."""
        return -(-self.jobs // len(self.space))

    @property
    def cells(self) -> list[Cell]:
        """The experiment of each seed."""
        split = self.config.split.model_copy(update={"seed": self.seeds[0]})
        first = self.config.model_copy(update={"split": split})
        return cells(first, ratios=None, seeds=len(self.seeds))


def plan_of(config: Config, request: Request) -> Plan:
    """The plan of what was asked for. Raises ConfigError if it cannot be tuned like that."""
    chosen = range(request.tuning_seed, request.tuning_seed + request.seeds)
    build({"seed": chosen[-1]})
    if config.selection.tuned_by:
        raise ConfigError(
            f"these settings were tuned before ({config.selection.tuned_by}): the tries of both "
            "tunings would have to be counted",
            cure="tune from the settings that tuning began with, with more --trials",
        )
    controls = [one for one in config.selection.strategies if one in CONTROLS]
    if controls:
        raise ConfigError(
            f"{controls[0]} has no pseudo-labels, so there is no student to tune",
            cure="name strategies with pseudo-labels in --strategies",
        )
    if not config.loop.max_iterations:
        raise ConfigError(
            "max_iterations is 0: there is no student to tune", cure="give --max-iterations 1"
        )
    if config.split.seed in chosen:
        raise ConfigError(
            f"--seed {config.split.seed}, the first seed of the tables, is a seed of the tuning",
            cure="choose another --tuning-seed",
        )
    given = request.space if request.space and str(request.space).strip(".") else None
    file = given or PRESET
    name = f"space {file if given else file.name}"
    space = space_of(read_document(file, name=name), config, name=name)
    for strategy, dimensions in space.items():
        _require_recipe(config, strategy, dimensions, name=name)
    return Plan(config, space, request.trials, chosen, request.jobs)


def _require_recipe(
    config: Config, strategy: str, dimensions: tuple[Dimension, ...], *, name: str
) -> None:
    """Raise ConfigError if the strategy cannot have the lowest values of its space together."""
    lowest = {
        one.name: one.text(one.low) if isinstance(one, Range) else one.values[0]
        for one in dimensions
    }
    own = config_of_strategy(with_own(config, strategy, lowest), strategy)
    try:
        recipe_for(strategy, own.selection)
    except ConfigError as error:
        raise ConfigError(f"{name}: {strategy}: {error.cause}", cure=error.cure) from None


def costliest(config: Config, strategy: str, dimensions: tuple[Dimension, ...]) -> Config:
    """The config with the values of the space with which the strategy takes longest."""
    values = {}
    for one in dimensions:
        grows = _COST_GROWS.get(one.name)
        if grows is None:
            continue
        ends = (
            [one.text(one.low), one.text(one.high)]
            if isinstance(one, Range)
            else sorted(one.values, key=float)
        )
        values[one.name] = ends[-1 if grows else 0]
    selection = config.selection.model_copy(update={"strategies": (strategy,)})
    return with_own(config.model_copy(update={"selection": selection}), strategy, values)


def require_test_part(config: Config, micrographs: tuple[StoredMicrograph, ...]) -> None:
    """Raise ConfigError where the validation micrographs of one seed are the test of another."""
    tested = any(one.part == "test" and one.annotated for one in micrographs)
    if tested or config.split.validation_from == "labelled" or config.split.test_half == "fixed":
        return
    raise ConfigError(
        "the data set has no test part: each seed sets another half of validation aside as test, "
        "so tuning would choose on micrographs that are the test of another seed",
        cure="give --test-half fixed, then all seeds have the same half as test, or add an "
        "annotated test part",
    )


@devices.enough_memory()
def print_plan(plan: Plan, executor: Executor) -> None:
    """Print what is tuned, and how long it takes at most; train nothing."""
    config = plan.config
    with ProgressConsole(sys.stderr) as console:
        prepared = prepare_cells(plan.cells, console, on_note=click.echo)
    first = prepared.cells[0]
    require_test_part(config, first.store_plan.micrographs)
    place = choose_place(config, first.store_plan, executor, jobs=plan.jobs, threads_before=None)
    device = devices.resolve(config.training.device)
    devices.prepare(device=device, threads=place.threads)
    step_seconds, tile_seconds = measure_speed(
        config,
        tile_px=first.store_plan.tile_px,
        device=device,
        precision=devices.resolve_precision(config.training.precision, device),
    )
    speed = {"step_seconds": step_seconds, "tile_seconds": tile_seconds}
    for strategy, dimensions in plan.space.items():
        echo(f"{strategy}: {plan.trials} trials")
        for one in dimensions:
            echo(f"  {one.name}: {one}")
    found = {
        strategy: _seconds(costliest(config, strategy, one), first.store_plan, first.split, speed)
        for strategy, one in plan.space.items()
    }
    baseline = max(one[0] for one in found.values())
    longest = max(one[1] for one in found.values())
    whole = baseline + plan.trials * sum(one[1] for one in found.values())
    seconds = len(plan.seeds) * max(whole / plan.jobs, baseline + longest)
    echo(
        f"\n{plan.trials * len(plan.space)} trials, each on seeds {plan.seeds[0]} to "
        f"{plan.seeds[-1]}: at most about {duration_text(seconds)} with {plan.jobs} at a time "
        f"({device.type}, threads: {place.threads}; decoding not counted); trials that are given "
        "up take less"
    )


def _seconds(
    config: Config, store_plan: StorePlan, split: Split, speed: dict[str, float]
) -> tuple[float, float]:
    """Seconds of the baseline and of one trial on one seed, at most."""
    (strategy,) = config.selection.strategies
    phases = phase_seconds(config, store_plan, split, **speed)
    baseline = phases.pop(phase_title(BASELINE, 0))
    phases.pop(phase_title(strategy, None), None)
    return baseline, sum(phases.values())
