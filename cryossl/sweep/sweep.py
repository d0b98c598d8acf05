"""Run a grid of experiments over ratios, seeds and settings; each is a `cryossl run` of its own.

The sweep reads the data set and decodes the store once for all cells that see it alike. Then it
starts the cells that have not finished, gathers their result files in its own folder, and prints
the comparison of all cells.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from cryossl.config import Config
from cryossl.data.tiling import micrograph_of
from cryossl.errors import ChangedDataError, ConfigError, FailedArmsError, StorageError
from cryossl.progress.eta import PlannedPhase
from cryossl.progress.narrator import Narrator, narrated
from cryossl.redaction import shown
from cryossl.selftraining.records.result_files import gather, read_outcome
from cryossl.sweep.executors import Executor, LocalExecutor
from cryossl.sweep.grid import Axes, Cell, cells, exit_code
from cryossl.sweep.planning import (
    PreparedCells,
    choose_place,
    plan_cells,
    prepare_cells,
    print_cells,
    share_gpus,
)
from cryossl.sweep.scheduler import Failure, PlannedCell, Schedule
from cryossl.sweep.slurm import SlurmExecutor, slurm_options
from cryossl.sweep.state import STATE_FILE, SweepState
from cryossl.sweep.variations import Variation, variants, variations
from cryossl.system.folder_lock import one_at_a_time
from cryossl.system.stages import Stages
from cryossl.tracking.tracker import Tracker, lacking_text, link_text

SECONDS_FOR_FILES_TO_APPEAR = 10.0


Conclude = Callable[[Config, Collection[str], Sequence[str]], None]
"""Prints the comparison of a sweep: its config, fingerprints of experiments, settings that vary."""


def sweep(
    config: Config,
    axes: Axes,
    *,
    jobs: int,
    executor: str,
    slurm: str | None,
    dry_run: bool,
    conclude: Conclude,
) -> int:
    """Run the cells of a grid that have not finished, then print the comparison of all of them.

    Args:
        config: of every cell but for what the axes say; its seed is the first.
        axes: ratios, seeds and settings of the grid.
        jobs: cells at a time.
        executor: local or slurm.
        slurm: sbatch's options as NAME=VALUE, separated by commas.
        dry_run: only list the cells.
        conclude: called at the end with the config, the fingerprints of the experiments, and the
            settings that varied; prints their comparison.

    Returns:
        The exit code: 0, or the highest of the cells that failed.

    Raises:
        ConfigError: an option or setting with which no cell could run.
    """
    if slurm is not None and executor != "slurm":
        raise ConfigError(
            "--slurm says how jobs are submitted, and there are none", cure="add --executor slurm"
        )
    varied = variations(axes.vary, config)
    grid = cells(config, ratios=axes.ratios, seeds=axes.seeds, variants=variants(config, varied))
    chosen = (
        LocalExecutor()
        if executor == "local"
        else SlurmExecutor(threads=config.training.threads, options=slurm_options(slurm))
    )
    if dry_run:
        print_cells(config, grid, chosen, jobs=jobs)
        return 0
    _hand_over_password(config)
    return _run_cells(config, grid, chosen, varied, jobs=jobs, conclude=conclude)


def _run_cells(
    config: Config,
    grid: Sequence[Cell],
    executor: Executor,
    varied: Sequence[Variation],
    *,
    jobs: int,
    conclude: Conclude,
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
        prepared = prepare_cells(grid, narrator, on_note=narrator.say)
        store_plan = prepared.cells[0].store_plan
        place = choose_place(config, store_plan, executor, jobs=jobs, threads_before=state.threads)
        state.keep_threads(place.threads)
        jobs = share_gpus(place, prepared, executor, narrator, jobs=jobs)
        planned = plan_cells(config, place, prepared, narrator)
        todo = [each for each in planned if state.fingerprint(each.key) is None]
        narrator.say(
            f"{len(planned)} cell{'s' * (len(planned) != 1)}, {len(planned) - len(todo)} of them "
            f"finished; {jobs} at a time ({place.device}, threads: {place.threads})"
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
        _remove_maps(config, prepared)
        fingerprints = [
            found for each in planned if (found := state.fingerprint(each.key)) is not None
        ]
        narrator.say(
            f"{len(fingerprints)} of {len(planned)} cells have finished"
            + (f", {len(failures)} failed; the same command tries again:" if failures else "")
        )
        fingerprints += _report_failures(failures, folder, narrator)
        missing = tracker.sync(everything=True)
        if varied and (link := tracker.keep_views(None, by=[one.param for one in varied])):
            narrator.say(f"F1 by the settings that varied: {link_text(link, config.run)}")
        if missing:
            narrator.say(lacking_text(missing))
    conclude(config, fingerprints, [one.place for one in varied])
    return exit_code(failure.code for failure in failures)


def _remove_maps(config: Config, prepared: PreparedCells) -> None:
    """Remove the probability maps that variants have left for one another."""
    if config.run.keep_maps or not any(each.cell.variant_folder for each in prepared.cells):
        return
    pools = {
        tuple(sorted({micrograph_of(item) for item in each.split.unlabelled}))
        for each in prepared.cells
    }
    stages = Stages(config.run.stages, code=prepared.code.present, kept=prepared.code.kept)
    for key in stages.keys("predict", lambda inputs: tuple(inputs.get("pool", ())) in pools):
        stages.discard("predict", key)


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
    into = folder / finished.cell.variant_folder
    gather(finished.folder, into, strategies=config.selection.strategies)
    state.record(
        finished.key,
        fingerprint=fingerprint,
        facts={
            "ratio_percent": config.split.ratio,
            "seed": config.split.seed,
            "varied": finished.cell.variant.title if finished.cell.variant else "",
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
            into = folder / cell.variant_folder
            gather(failure.planned.folder, into, strategies=cell.config.selection.strategies)
            found.append(outcome[0])
    return found
