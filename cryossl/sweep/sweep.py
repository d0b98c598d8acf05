"""Run a grid of experiments over ratios and seeds; each cell is a `cryossl run` of its own.

The sweep reads the data set and decodes the store once. Then it starts the cells that have not
finished, gathers their result files in its own folder, and prints the comparison of all cells.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.errors import ChangedDataError, ConfigError, FailedArmsError, StorageError
from cryossl.network import device as devices
from cryossl.network.speed import choose_threads, measure_speed
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import PlannedPhase, duration_text
from cryossl.progress.events import OnProgress
from cryossl.progress.narrator import Narrator, narrated
from cryossl.redaction import shown
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.estimates import estimate, training_bytes
from cryossl.selftraining.preflight import require_fit_machine
from cryossl.selftraining.records.result_files import gather, made_from, read_outcome
from cryossl.selftraining.stage_code import StageCode, stage_code
from cryossl.sweep.executors import Executor, LocalExecutor
from cryossl.sweep.grid import Cell, cells, exit_code, threads_each
from cryossl.sweep.scheduler import Failure, PlannedCell, Schedule
from cryossl.sweep.slurm import SlurmExecutor, slurm_options
from cryossl.sweep.state import SweepState
from cryossl.system.folder_lock import one_at_a_time
from cryossl.system.gpus import environment_of, present_gpus, shared, visible_gpus
from cryossl.tracking.address import experiment_choice, store_name, store_uri
from cryossl.tracking.tracker import Tracker, lacking_text

STATE_FILE = "sweep.json"
SECONDS_FOR_FILES_TO_APPEAR = 10.0
# A training step costs a forward pass, and a backward pass for inputs and for weights.
PREDICTIONS_PER_TRAINING = 3


@dataclass(frozen=True)
class Place:
    """The device of every cell, and its number of CPU threads."""

    device: str
    threads: int


@dataclass(frozen=True)
class PreparedCells:
    """What a sweep prepares: data set, plan of the store, cells with their splits, present code.

    Where a list names the labelled items, the ratio of the cells is counted from the list.
    """

    dataset: DataSet
    store_plan: StorePlan
    cells: list[tuple[Cell, Split]]
    code: StageCode


def sweep(
    config: Config,
    *,
    ratios: str | None,
    seeds: int,
    jobs: int,
    executor: str,
    slurm: str | None,
    dry_run: bool,
    conclude: Callable[[Config, Collection[str]], None],
) -> int:
    """Run the cells of a grid that have not finished, then print the comparison of all of them.

    Args:
        config: of every cell but for ratio and seed; its seed is the first.
        ratios: labelled parts in percent, separated by commas; None: the config's.
        seeds: how many seeds in a row.
        jobs: cells at a time.
        executor: local or slurm.
        slurm: sbatch's options as NAME=VALUE, separated by commas.
        dry_run: only list the cells.
        conclude: called at the end with the config and the fingerprints of the experiments; prints
            their comparison.

    Returns:
        The exit code: 0, or the highest of the cells that failed.

    Raises:
        ConfigError: an option or setting with which no cell could run.
    """
    if slurm is not None and executor != "slurm":
        raise ConfigError(
            "--slurm says how jobs are submitted, and there are none", cure="add --executor slurm"
        )
    grid = cells(config, ratios=ratios, seeds=seeds)
    chosen = (
        LocalExecutor()
        if executor == "local"
        else SlurmExecutor(threads=config.training.threads, options=slurm_options(slurm))
    )
    if dry_run:
        _print_cells(config, grid, chosen, jobs=jobs)
        return 0
    _hand_over_password(config)
    return _run_cells(config, grid, chosen, jobs=jobs, conclude=conclude)


def _run_cells(
    config: Config,
    grid: Sequence[Cell],
    executor: Executor,
    *,
    jobs: int,
    conclude: Callable[[Config, Collection[str]], None],
) -> int:
    """Run the cells that have not finished, and return the exit code of the sweep."""
    folder = config.run.folder
    phases = [PlannedPhase("Prepare", share=0.0), PlannedPhase("Run the cells")]
    with (
        one_at_a_time(folder),
        narrated(folder, name=config.run.name, plan=phases) as narrator,
    ):
        narrator.begin("Prepare")
        state = SweepState(folder / STATE_FILE)
        prepared = prepare_cells(config, grid, narrator, on_note=narrator.say)
        place = choose_place(
            config, prepared.store_plan, executor, jobs=jobs, threads_before=state.threads
        )
        state.keep_threads(place.threads)
        jobs = share_gpus(config, place, prepared.store_plan, executor, narrator, jobs=jobs)
        planned = _plan_cells(config, place, prepared, narrator)
        todo = [each for each in planned if state.fingerprint(each.key) is None]
        narrator.say(
            f"{len(planned)} cells, {len(planned) - len(todo)} of them finished; {jobs} at a time "
            f"({place.device}, threads: {place.threads})"
        )
        # Several processes that open a fresh tracking store at once break it. It is made, or
        # migrated, here.
        tracker = Tracker(config.run.tracking_uri, config.run.experiment, config.run.journals)
        failures = []
        if todo:
            narrator.begin("Run the cells")
            failures = Schedule(
                todo,
                executor,
                jobs=jobs,
                narrator=narrator,
                on_finished=partial(_record_finished, state, folder),
            ).run()
        fingerprints = [
            found for each in planned if (found := state.fingerprint(each.key)) is not None
        ]
        narrator.say(
            f"{len(fingerprints)} of {len(planned)} cells have finished"
            + (f", {len(failures)} failed; the same command tries again:" if failures else "")
        )
        fingerprints += _report_failures(failures, folder, narrator)
        missing = tracker.sync(everything=True)
        if missing:
            narrator.say(lacking_text(missing))
    conclude(config, fingerprints)
    return exit_code(failure.code for failure in failures)


def share_gpus(
    config: Config,
    place: Place,
    store_plan: StorePlan,
    executor: Executor,
    narrator: Narrator,
    *,
    jobs: int,
) -> int:
    """Give each of the cells at a time a GPU of this machine; return how many there is room for."""
    if not isinstance(executor, LocalExecutor) or place.device != "cuda":
        return jobs
    gpus = visible_gpus(os.environ, present_gpus())
    needed = training_bytes(config, tile_px=store_plan.tile_px)
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


def _record_finished(
    state: SweepState, folder: Path, finished: PlannedCell, seconds: float
) -> None:
    """Gather the result files of a cell in the sweep's folder, and record that it has finished."""
    outcome = _patient_outcome(finished.folder)
    if outcome is None:
        raise StorageError(
            f"{finished.folder} lacks the files of the run that has just ended well there",
            cure="leave the folder alone while the sweep runs",
        )
    fingerprint, source = outcome
    if source != finished.made_from:
        raise ChangedDataError(
            f"{finished.cell.title} ran with data or code that changed after the sweep had begun",
            cure="start the sweep again: it runs every cell with the present ones",
        )
    config = finished.cell.config
    gather(finished.folder, folder, strategies=config.selection.strategies)
    state.record(
        finished.key,
        fingerprint=fingerprint,
        facts={
            "ratio_percent": config.split.ratio,
            "seed": config.split.seed,
            "folder": finished.folder.name,
            "seconds": round(seconds, 1),
        },
    )


def _patient_outcome(folder: Path) -> tuple[str, str] | None:
    """The outcome of a run that has ended; on a network's disk it may appear seconds later."""
    deadline = time.monotonic() + SECONDS_FOR_FILES_TO_APPEAR
    while (outcome := read_outcome(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    return outcome


def _hand_over_password(config: Config) -> None:
    """Put a tracking address with a password into the environment, which the cells inherit.

    The files with the cells' settings do not contain the password.
    """
    uri = config.run.tracking_uri
    if shown(uri) != uri:
        os.environ.setdefault("MLFLOW_TRACKING_URI", uri)


def _report_failures(failures: Sequence[Failure], folder: Path, narrator: Narrator) -> list[str]:
    """Report the cells that failed, and gather the result files of cells that finished in part.

    Returns:
        The fingerprints of the cells in which only some arms failed.
    """
    found = []
    for failure in failures:
        cell = failure.planned.cell
        narrator.say(f"❌ {cell.title} (exit code {exit_code([failure.code])}): {failure.reason}")
        if failure.code != FailedArmsError.exit_code:
            continue
        outcome = read_outcome(failure.planned.folder)
        if outcome is not None:
            gather(failure.planned.folder, folder, strategies=cell.config.selection.strategies)
            found.append(outcome[0])
    return found


def _print_cells(config: Config, grid: Sequence[Cell], executor: Executor, *, jobs: int) -> None:
    """Print which cells have finished, and how long each of the others will take at most."""
    state = SweepState(config.run.folder / STATE_FILE)
    with ProgressConsole(sys.stderr) as console:
        prepared = prepare_cells(config, grid, console, on_note=click.echo)
        place = choose_place(
            config, prepared.store_plan, executor, jobs=jobs, threads_before=state.threads
        )
        # The keys need the store, which takes long to decode. Without a finished cell there is no
        # key to compare with.
        planned = _plan_cells(config, place, prepared, console) if len(state) else []
    finished = {each.cell.title for each in planned if state.fingerprint(each.key) is not None}
    device = devices.resolve(config.training.device)
    devices.prepare(device=device, threads=place.threads)
    precision = devices.resolve_precision(config.training.precision, device)
    step_seconds, tile_seconds = measure_speed(
        config, tile_px=prepared.store_plan.tile_px, device=device, precision=precision
    )
    left = []
    for cell, split in prepared.cells:
        if cell.title in finished:
            click.echo(f"{cell.title}: finished")
            continue
        seconds = estimate(
            cell.config,
            prepared.store_plan,
            split,
            step_seconds=step_seconds,
            tile_seconds=tile_seconds,
        ).seconds
        click.echo(f"{cell.title}: about {duration_text(seconds)}")
        left.append(seconds)
    whole = max(sum(left) / jobs, max(left, default=0.0))
    click.echo(
        f"\n{len(grid)} cells of {', '.join(config.selection.strategies)}: "
        f"{len(grid) - len(left)} finished, "
        f"{len(left)} to run, at most about {duration_text(whole)} with {jobs} at a time "
        f"({device.type}, threads: {place.threads}; decoding not counted)"
    )


def prepare_cells(
    config: Config, grid: Sequence[Cell], report: OnProgress, *, on_note: Callable[[str], None]
) -> PreparedCells:
    """Read the data set and draw each cell's split.

    Raises:
        CryosslError: a cell could never run, or this machine cannot hold the results.
    """
    dataset = preparation.load(config, report)
    store_plan = preparation.sketch(config, dataset)
    for note in preparation.notes_of(dataset, store_plan):
        on_note(note)
    tile_px = store_plan.tile_px
    drawn = [
        (cell, preparation.draw(cell.config, store_plan.micrographs, tile_px=tile_px))
        for cell in grid
    ]
    for cell, split in drawn:
        preparation.check(cell.config, split, tile_px=tile_px)
    _refuse_twins(drawn)
    code = stage_code(config.run.code_file, keep=config.run.keep_stages)
    require_fit_machine(config, dataset, store_plan, drawn[0][1], code=code)
    counted = [
        (Cell(preparation.with_counted_ratio(cell.config, split)), split) for cell, split in drawn
    ]
    return PreparedCells(dataset, store_plan, counted, code)


def _refuse_twins(drawn: Sequence[tuple[Cell, Split]]) -> None:
    """Raise ConfigError if two ratios label the same items.

    They would be one experiment, written by two processes at once.
    """
    known: dict[tuple[int, str], Cell] = {}
    for cell, split in drawn:
        twin = known.setdefault((cell.config.split.seed, split.digest()), cell)
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


def _plan_cells(
    config: Config, place: Place, prepared: PreparedCells, report: OnProgress
) -> list[PlannedCell]:
    """Give each cell its results folder, its key and its cost.

    The store that all cells share is decoded here, before any of them starts.
    """
    code = prepared.code
    store = preparation.store_of(prepared.dataset, config, code, report)
    name, identifier = experiment_choice(config.run.experiment)
    tracked_in = (store_name(store_uri(config.run.tracking_uri)), identifier or name)
    source = made_from(data=store.key, code=code.present)
    planned = []
    for cell, split in prepared.cells:
        placed = cell.within(config, device=place.device, threads=place.threads)
        key = placed.key(
            data=store.key, split=split.digest(), tracked_in=tracked_in, code=code.present
        )
        cost = estimate(
            cell.config,
            prepared.store_plan,
            split,
            tile_seconds=1.0,
            step_seconds=PREDICTIONS_PER_TRAINING * config.training.batch_size,
        ).seconds
        planned.append(PlannedCell(placed, key, source, cost))
    return planned
