"""What is known of a sweep before its cells run: data, splits, place, keys and costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.errors import ConfigError
from cryossl.network import device as devices
from cryossl.network.speed import choose_threads, measure_speed
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import duration_text
from cryossl.progress.events import OnProgress
from cryossl.progress.narrator import Narrator
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.estimates import strategy_seconds, training_bytes
from cryossl.selftraining.preflight import require_fit_machine
from cryossl.selftraining.records.result_files import made_from
from cryossl.selftraining.stage_code import StageCode, stage_code
from cryossl.sweep.executors import Executor, LocalExecutor
from cryossl.sweep.grid import Cell, threads_each
from cryossl.sweep.scheduler import PlannedCell
from cryossl.sweep.slurm import SlurmExecutor
from cryossl.sweep.state import STATE_FILE, SweepState
from cryossl.sweep.variations import arm_identity
from cryossl.system.digest import digest
from cryossl.system.gpus import environment_of, present_gpus, shared, visible_gpus
from cryossl.tracking.address import experiment_choice, store_name, store_uri

# A training step costs a forward pass, and a backward pass for inputs and for weights.
PREDICTIONS_PER_TRAINING = 3


@dataclass(frozen=True)
class Place:
    """The device of every cell, and its number of CPU threads."""

    device: str
    threads: int


@dataclass(frozen=True)
class PreparedCell:
    """A cell with its split, its data set, and the plan of the store.

    Where a list names the labelled items, the ratio of the cell is counted from the list.
    """

    cell: Cell
    split: Split
    dataset: DataSet
    store_plan: StorePlan


@dataclass(frozen=True)
class PreparedCells:
    """The cells of a sweep as they are prepared, and the present code."""

    cells: list[PreparedCell]
    code: StageCode

    def bytes_of_a_gpu(self) -> int:
        """What the largest training of a cell needs of a GPU, about."""
        sizes = {
            (each.cell.config.network, each.cell.config.training.batch_size, tile_px): (
                each.cell.config,
                tile_px,
            )
            for each in self.cells
            for tile_px in [each.store_plan.tile_px]
        }
        return max(training_bytes(config, tile_px=tile_px) for config, tile_px in sizes.values())


def prepare_cells(
    grid: Sequence[Cell], report: OnProgress, *, on_note: Callable[[str], None]
) -> PreparedCells:
    """Read the data set and draw each cell's split.

    Cells that see the data in the same way share data set and plan. Raises CryosslError where a
    cell could never run, or this machine cannot hold the results.
    """
    for config in {cell.config.network: cell.config for cell in grid}.values():
        preparation.require_network(config)
    read: dict[str, tuple[DataSet, StorePlan]] = {}
    drawn = []
    for cell in grid:
        config = cell.config
        seen = _view_of_data(config)
        if seen not in read:
            dataset = preparation.load(config, report)
            read[seen] = dataset, preparation.sketch(config, dataset)
            for note in preparation.notes_of(*read[seen]):
                on_note(note)
        dataset, store_plan = read[seen]
        tile_px = store_plan.tile_px
        split = preparation.draw(config, store_plan.micrographs, tile_px=tile_px)
        preparation.check(config, split, tile_px=tile_px)
        drawn.append(PreparedCell(cell, split, dataset, store_plan))
    _refuse_twins(drawn)
    run = grid[0].config.run
    code = stage_code(run.code_file, keep=run.keep_stages)
    firsts = {each.cell.variant_folder: each for each in reversed(drawn)}
    for one in firsts.values():
        require_fit_machine(one.cell.config, one.dataset, one.store_plan, one.split, code=code)
    return PreparedCells([_with_counted_ratio(each) for each in drawn], code)


def _view_of_data(config: Config) -> str:
    """Digest of what decides how a data set is read, and how its store is planned."""
    read, network = config.input.model_dump(mode="json"), config.network.model_dump(mode="json")
    return digest([read, network, config.split.validation_from, config.split.test_half])


def _with_counted_ratio(each: PreparedCell) -> PreparedCell:
    config = preparation.with_counted_ratio(each.cell.config, each.split)
    return PreparedCell(each.cell.with_config(config), each.split, each.dataset, each.store_plan)


def _refuse_twins(drawn: Sequence[PreparedCell]) -> None:
    """Raise ConfigError if two ratios label the same items.

    They would be one experiment, written by two processes at once.
    """
    known: dict[tuple[str, int, str], Cell] = {}
    for each in drawn:
        cell, split = each.cell, each.split
        named = (cell.variant_folder, cell.config.split.seed, split.digest())
        twin = known.setdefault(named, cell)
        if twin is not cell:
            items = f"{len(split.labelled)} {cell.config.split.label_unit}s"
            raise ConfigError(
                f"{twin.title} and {cell.title} label the same {items}",
                cure="leave one of the ratios out",
            )


def choose_place(
    config: Config,
    store_plan: StorePlan,
    executor: Executor,
    *,
    jobs: int,
    threads_before: int | None,
) -> Place:
    """Choose the device and the number of threads of every cell, as set or as chosen before.

    An earlier choice holds, because another number of threads changes the last bits of the numbers.
    Raises ConfigError for a device or precision that is not there.
    """
    training = config.training
    if isinstance(executor, SlurmExecutor):
        threads = training.threads or threads_before or executor.cpus
        return Place(training.device, threads)
    device = devices.resolve(training.device)
    devices.resolve_precision(training.precision, device)  # refused once, and not by every cell
    threads = (
        training.threads
        or devices.openmp_threads()
        or threads_before
        or choose_threads(
            config,
            tile_px=store_plan.tile_px,
            device=device,
            memory=config.run.threads_file,
            most=threads_each(cores=devices.usable_cores(), jobs=jobs),
        )
    )
    return Place(device.type, threads)


def share_gpus(
    place: Place, prepared: PreparedCells, executor: Executor, narrator: Narrator, *, jobs: int
) -> int:
    """Give each of the parts at a time a GPU of this machine; return how many there is room for."""
    if not isinstance(executor, LocalExecutor) or place.device != "cuda":
        return jobs
    gpus = visible_gpus(os.environ, present_gpus())
    needed = prepared.bytes_of_a_gpu()
    places = shared(gpus, count=jobs, bytes_each=needed)
    if not places:
        return jobs
    executor.spread([environment_of(gpu, os.environ) for gpu in places])
    if len(places) < jobs:
        narrator.say(
            f"⚠ a cell needs about {needed / 2**30:.1f} GiB of a GPU: {len(places)} at a time "
            f"on {len(gpus)} GPUs, and not {jobs}"
        )
    return len(places)


def plan_cells(
    config: Config, place: Place, prepared: PreparedCells, report: OnProgress
) -> list[PlannedCell]:
    """Give each cell its results folder, its key and its cost.

    The stores of the cells are decoded here, before any of them starts. An arm that several cells
    share is in the cost of the first.
    """
    code = prepared.code
    name, identifier = experiment_choice(config.run.experiment)
    tracked_in = (store_name(store_uri(config.run.tracking_uri)), identifier or name)
    stores: dict[str, str] = {}
    costs = costs_of(
        prepared,
        tile_seconds=1.0,
        step_seconds=PREDICTIONS_PER_TRAINING * config.training.batch_size,
    )
    planned = []
    for each, cost in zip(prepared.cells, costs, strict=True):
        seen = _view_of_data(each.cell.config)
        if seen not in stores:
            stores[seen] = preparation.store_of(each.dataset, each.cell.config, code, report).key
        data = stores[seen]
        placed = each.cell.within(config, device=place.device, threads=place.threads)
        key = placed.key(
            data=data, split=each.split.digest(), tracked_in=tracked_in, code=code.present
        )
        source = made_from(data=data, code=code.present)
        planned.append(PlannedCell(placed, key, source, cost))
    return planned


def costs_of(prepared: PreparedCells, *, tile_seconds: float, step_seconds: float) -> list[float]:
    """Seconds of each cell at most, without the arms that an earlier cell has trained."""
    trained: set[str] = set()
    costs = []
    for each in prepared.cells:
        config = each.cell.config
        seconds = strategy_seconds(
            config,
            each.store_plan,
            each.split,
            tile_seconds=tile_seconds,
            step_seconds=step_seconds,
        )
        named = {strategy: arm_identity(config, strategy) for strategy in seconds}
        costs.append(
            sum(cost for strategy, cost in seconds.items() if named[strategy] not in trained)
        )
        trained.update(named.values())
    return costs


def print_cells(config: Config, grid: Sequence[Cell], executor: Executor, *, jobs: int) -> None:
    """Print which cells have finished, and how long each of the others will take at most."""
    state = SweepState(config.run.folder / STATE_FILE)
    with ProgressConsole(sys.stderr) as console:
        prepared = prepare_cells(grid, console, on_note=click.echo)
        store_plan = prepared.cells[0].store_plan
        place = choose_place(config, store_plan, executor, jobs=jobs, threads_before=state.threads)
        # The keys need the store, which takes long to decode. Without a finished cell there is no
        # key to compare with.
        planned = plan_cells(config, place, prepared, console) if len(state) else []
    finished = {each.cell.title for each in planned if state.fingerprint(each.key) is not None}
    device = devices.resolve(config.training.device)
    devices.prepare(device=device, threads=place.threads)
    precision = devices.resolve_precision(config.training.precision, device)
    step_seconds, tile_seconds = measure_speed(
        config, tile_px=store_plan.tile_px, device=device, precision=precision
    )
    costs = costs_of(prepared, step_seconds=step_seconds, tile_seconds=tile_seconds)
    left = []
    for each, seconds in zip(prepared.cells, costs, strict=True):
        if each.cell.title in finished:
            click.echo(f"{each.cell.title}: finished")
            continue
        click.echo(f"{each.cell.title}: about {duration_text(seconds)}")
        left.append(seconds)
    whole = max(sum(left) / jobs, max(left, default=0.0))
    click.echo(
        f"\n{len(grid)} cells of {', '.join(config.selection.strategies)}: "
        f"{len(grid) - len(left)} finished, "
        f"{len(left)} to run, at most about {duration_text(whole)} with {jobs} at a time "
        f"({device.type}, threads: {place.threads}; decoding not counted)"
    )
