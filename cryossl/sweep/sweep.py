"""A grid of experiments over ratios and seeds: each cell is a `cryossl run` of its own, and the grid resumes as they do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.data.store.store import build
from cryossl.errors import ConfigError, FailedArmsError, StorageError
from cryossl.network import architecture as networks
from cryossl.network import device as devices
from cryossl.network.speed import THREADS_FILE, choose_threads, measure_speed
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import PlannedPhase, duration_text
from cryossl.progress.events import OnProgress
from cryossl.progress.interruption import interrupted_at_once
from cryossl.progress.narrator import Narrator, narrated
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.estimates import estimate
from cryossl.selftraining.models import method_versions
from cryossl.selftraining.preflight import require_fit_machine
from cryossl.selftraining.result_files import gather, read_outcome
from cryossl.sweep.executors import Executor, LocalExecutor, SlurmExecutor, slurm_options
from cryossl.sweep.grid import Cell, cells, exit_code, threads_each
from cryossl.sweep.scheduler import Failure, Planned, Schedule
from cryossl.sweep.state import SweepState
from cryossl.system.folder_lock import one_at_a_time
from cryossl.tracking.address import experiment_choice, redacted, store_uri
from cryossl.tracking.tracker import Tracker

STATE_FILE = "sweep.json"
SECONDS_BETWEEN_LINES = 30.0
PREDICTIONS_PER_TRAINING = 3  # forward, and backward for inputs and for weights


@dataclass(frozen=True)
class Place:
    """Where cells run: how many at a time, on which device, with how many CPU threads each.

    The same for every cell.
    """

    executor: Executor
    jobs: int
    device: str
    threads: int


@dataclass(frozen=True)
class PreparedCells:
    """The data set of a sweep, what its store will hold, and the cells with the split of each.

    Where a list says what is labelled, the ratio of the cells is the one that it amounts to.
    """

    dataset: DataSet
    store_plan: StorePlan
    cells: list[Cell]
    splits: list[Split]


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
        seeds: how many.
        jobs: cells at a time.
        executor: local or slurm.
        slurm: submitit's parameters as NAME=VALUE, separated by commas.
        dry_run: only list the cells.
        conclude: called at the end with the config and the fingerprints of the experiments; prints
            their comparison.

    Returns:
        The exit code: 0, or the highest of the cells that failed.
    """
    if slurm is not None and executor != "slurm":
        raise ConfigError(
            "--slurm says how jobs are submitted, and there are none", cure="add --executor slurm"
        )
    wanted = cells(config, ratios=ratios, seeds=seeds)
    chosen = (
        LocalExecutor()
        if executor == "local"
        else SlurmExecutor(
            config.run.results / config.run.name / "slurm",
            threads=config.training.threads,
            options=slurm_options(slurm),
        )
    )
    if dry_run:
        _list(config, wanted, chosen, jobs=jobs)
        return 0
    _hand_over_password(config)
    return _run(config, wanted, chosen, jobs=jobs, conclude=conclude)


def _run(
    config: Config,
    wanted: Sequence[Cell],
    executor: Executor,
    *,
    jobs: int,
    conclude: Callable[[Config, Collection[str]], None],
) -> int:
    folder = config.run.results / config.run.name
    phases = [PlannedPhase("Prepare", share=0.0), PlannedPhase("Run the cells")]
    with (
        one_at_a_time(folder),
        interrupted_at_once(),
        narrated(
            folder, name=config.run.name, plan=phases, seconds_between_lines=SECONDS_BETWEEN_LINES
        ) as narrator,
    ):
        narrator.begin("Prepare")
        state = SweepState(folder / STATE_FILE)
        drawn = _drawn(config, wanted, narrator)
        place = _placed(config, drawn.store_plan, executor, state, jobs=jobs)
        state.keep_threads(place.threads)
        planned = _planned(config, place, drawn, narrator)
        todo = [one for one in planned if state.fingerprint(one.key) is None]
        narrator.say(
            f"{len(planned)} cells, {len(planned) - len(todo)} of them finished; {jobs} at a time "
            f"({place.device}, threads: {place.threads})"
        )

        def finished(one: Planned, seconds: float) -> None:
            fingerprint = read_outcome(one.folder)
            if fingerprint is None:
                raise StorageError(
                    f"{one.folder} lacks the files of the run that has just ended well there",
                    cure="leave the folder alone while the sweep runs",
                )
            gather(one.folder, folder, strategies=config.selection.strategies)
            split = one.cell.config.split
            state.record(
                one.key,
                fingerprint=fingerprint,
                facts={
                    "ratio_percent": split.ratio,
                    "seed": split.seed,
                    "folder": one.folder.name,
                    "seconds": round(seconds, 1),
                },
            )

        failures = []
        # A fresh tracking store that several processes open at once breaks: it is made, or
        # migrated, before.
        tracker = Tracker(
            config.run.tracking_uri, config.run.experiment, config.run.work / "journals"
        )
        if todo:
            narrator.begin("Run the cells")
            failures = Schedule(
                todo, place.executor, jobs=jobs, narrator=narrator, finished=finished
            ).work()
        fingerprints = [
            found for one in planned if (found := state.fingerprint(one.key)) is not None
        ]
        narrator.say(
            f"{len(fingerprints)} of {len(planned)} cells have finished"
            + (f", {len(failures)} failed; the same command tries again:" if failures else "")
        )
        fingerprints += _rest_of(failures, folder, narrator)
        missing = tracker.sync(everything=True)
        if missing:
            narrator.say(
                f"⚠ the tracking store lacks {missing} entries; `cryossl sync` or the next start "
                "sends them"
            )
    conclude(config, fingerprints)
    return exit_code(failure.code for failure in failures)


def _hand_over_password(config: Config) -> None:
    """Cells inherit an address with a password: in the files of their settings it has none."""
    uri = config.run.tracking_uri
    if redacted(uri) != uri:
        os.environ.setdefault("MLFLOW_TRACKING_URI", uri)


def _rest_of(failures: Sequence[Failure], folder: Path, narrator: Narrator) -> list[str]:
    """Tell the failures, and gather what finished in cells of which only some arms failed; the fingerprints of those."""
    found = []
    for failure in failures:
        cell = failure.planned.cell
        narrator.say(f"❌ {cell.title} (exit code {exit_code([failure.code])}): {failure.said}")
        partly = (
            read_outcome(failure.planned.folder)
            if failure.code == FailedArmsError.exit_code
            else None
        )
        if partly is not None:
            gather(failure.planned.folder, folder, strategies=cell.config.selection.strategies)
            found.append(partly)
    return found


def _list(config: Config, wanted: Sequence[Cell], executor: Executor, *, jobs: int) -> None:
    """Print the cells: which have finished, and what the others will take."""
    state = SweepState(config.run.results / config.run.name / STATE_FILE)
    with ProgressConsole(sys.stderr) as console:
        drawn = _drawn(config, wanted, console)
        place = _placed(config, drawn.store_plan, executor, state, jobs=jobs)
        # Keys need the store, which takes long to decode; while no cell has finished nothing is
        # asked of them.
        planned = _planned(config, place, drawn, console) if len(state) else []
    device = devices.resolve(config.training.device)
    devices.prepare(device=device, threads=place.threads)
    precision = devices.resolve_precision(config.training.precision, device)
    step_seconds, tile_seconds = measure_speed(
        config, tile_px=drawn.store_plan.tile_px, device=device, precision=precision
    )
    finished = {one.cell.title for one in planned if state.fingerprint(one.key) is not None}
    left = []
    for cell, split in zip(drawn.cells, drawn.splits, strict=True):
        done = cell.title in finished
        seconds = estimate(
            cell.config,
            drawn.store_plan,
            split,
            step_seconds=step_seconds,
            tile_seconds=tile_seconds,
        ).seconds
        click.echo(f"{cell.title}: " + ("finished" if done else f"about {duration_text(seconds)}"))
        if not done:
            left.append(seconds)
    whole = max(sum(left) / jobs, max(left, default=0.0))
    click.echo(
        f"\n{len(wanted)} cells of {', '.join(config.selection.strategies)}: "
        f"{len(wanted) - len(left)} finished, "
        f"{len(left)} to run, at most about {duration_text(whole)} with {jobs} at a time "
        f"({device.type}, threads: {place.threads}; decoding not counted)"
    )


def _drawn(config: Config, wanted: Sequence[Cell], report: OnProgress) -> PreparedCells:
    """Read the data set and draw each cell's split. Raises for a cell that could never run."""
    dataset = preparation.load(config, report)
    store_plan = preparation.sketch(config, dataset)
    splits = [
        preparation.draw(cell.config, store_plan.micrographs, tile_px=store_plan.tile_px)
        for cell in wanted
    ]
    for cell, split in zip(wanted, splits, strict=True):
        preparation.check(cell.config, split, tile_px=store_plan.tile_px)
    _refuse_twins(wanted, splits)
    require_fit_machine(config, dataset, store_plan, splits[0])
    counted = [
        Cell(preparation.with_counted_ratio(cell.config, split))
        for cell, split in zip(wanted, splits, strict=True)
    ]
    return PreparedCells(dataset, store_plan, counted, splits)


def _refuse_twins(wanted: Sequence[Cell], splits: Sequence[Split]) -> None:
    """Two ratios that label the same items would be one experiment, written by two processes at once."""
    known: dict[tuple[int, str], Cell] = {}
    for cell, split in zip(wanted, splits, strict=True):
        twin = known.setdefault((cell.config.split.seed, split.digest()), cell)
        if twin is not cell:
            items = f"{len(split.labelled)} {cell.config.split.label_unit}s"
            raise ConfigError(
                f"{twin.title} and {cell.title} label the same {items}",
                cure="leave one of the ratios out",
            )


def _placed(
    config: Config, store_plan: StorePlan, executor: Executor, state: SweepState, *, jobs: int
) -> Place:
    """Device and threads of every cell.

    What is chosen here and not set is remembered, for it decides the last bits.
    """
    if isinstance(executor, SlurmExecutor):
        return Place(
            executor,
            jobs,
            config.training.device,
            config.training.threads or state.threads or executor.cpus,
        )
    device = devices.resolve(config.training.device)
    devices.resolve_precision(
        config.training.precision, device
    )  # refused once, and not by every cell
    threads = config.training.threads or devices.openmp_threads() or state.threads
    if not threads and jobs == 1:
        threads = choose_threads(
            config, tile_px=store_plan.tile_px, device=device, memory=config.run.work / THREADS_FILE
        )
    return Place(
        executor,
        jobs,
        device.type,
        threads or threads_each(cores=devices.usable_cores(), jobs=jobs),
    )


def _planned(
    config: Config, place: Place, drawn: PreparedCells, report: OnProgress
) -> list[Planned]:
    """The cells with their folders, keys and costs.

    The store that they share is decoded here, before any of them starts.
    """
    store = build(
        drawn.dataset,
        config.run.work / "stores",
        settings=config.input,
        network_multiple=networks.multiple(config.network),
        report=report,
    )
    name, identifier = experiment_choice(config.run.experiment)
    tracked_in = (redacted(store_uri(config.run.tracking_uri)), identifier or name)
    planned = []
    for cell, split in zip(drawn.cells, drawn.splits, strict=True):
        placed = cell.within(config, device=place.device, threads=place.threads)
        key = placed.key(
            data=store.key, split=split.digest(), tracked_in=tracked_in, versions=method_versions()
        )
        cost = estimate(
            cell.config,
            drawn.store_plan,
            split,
            tile_seconds=1.0,
            step_seconds=PREDICTIONS_PER_TRAINING * config.training.batch_size,
        ).seconds
        planned.append(Planned(placed, key, cost))
    return planned
