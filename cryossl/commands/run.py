"""`run` and `baseline`: connect data, store, split, experiment and tracking to one run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from cryossl.config import Config
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.errors import FailedArmsError, TrackingError
from cryossl.network import device as devices
from cryossl.network.speed import choose_threads, measure_speed
from cryossl.picking.packaging import package
from cryossl.progress.console import ProgressConsole
from cryossl.progress.eta import duration_text
from cryossl.progress.events import OnProgress
from cryossl.progress.interruption import interruptible
from cryossl.progress.narrator import Narrator, narrated
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.arms import Arms, plan
from cryossl.selftraining.estimates import estimate
from cryossl.selftraining.logged_models import LoggedModels
from cryossl.selftraining.preflight import require_fit_machine
from cryossl.selftraining.recorder import Recorder
from cryossl.selftraining.result_files import forget_outcome, made_from, write_outcome
from cryossl.selftraining.stage_code import StageCode, stage_code
from cryossl.selftraining.steps import Experiment
from cryossl.system.file_lock import shared_as
from cryossl.system.folder_lock import one_at_a_time
from cryossl.system.stages import Stages
from cryossl.tracking.address import store_uri
from cryossl.tracking.tracker import Tracker


def run(config: Config) -> tuple[str, int]:
    """Run the whole experiment: baseline, arms, tracked runs, result files.

    A second start reuses all that is finished. Returns the experiment's fingerprint, which its
    tracked runs carry, and the number of entries that the tracking store lacks.
    """
    # A wrong address, and a device or number format that this machine lacks, are refused before
    # data are read.
    store_uri(config.run.tracking_uri)
    device = devices.resolve(config.training.device)
    precision = devices.resolve_precision(config.training.precision, device)
    folder = config.run.folder
    phases = plan(config.selection.strategies, iterations=config.loop.max_iterations)
    with (
        devices.enough_memory(),
        shared_as(config.run.work),
        one_at_a_time(folder),
        interruptible() as interruption,
        narrated(folder, name=config.run.name, plan=phases) as narrator,
    ):
        forget_outcome(folder)
        report = interruption.after(narrator)
        narrator.begin("Load the data")
        prepared = _prepare(config, report, on_note=narrator.say)
        config, split, code = prepared.config, prepared.split, prepared.code
        code.remember(config.run.code_file)
        if said := code.said(keep=config.run.keep_stages):
            narrator.say(said)
        threads = devices.prepare(
            device=device,
            threads=choose_threads(
                config,
                tile_px=prepared.store_plan.tile_px,
                device=device,
                memory=config.run.threads_file,
            ),
        )
        store = preparation.store_of(prepared.dataset, config, code, report)
        for note in store.notes:
            narrator.say(f"   {note}")
        narrator.say(preparation.parts_text(config, split, tested=prepared.tested))
        experiment = Experiment(
            config,
            store,
            split,
            Stages(
                config.run.stages,
                code=code.present,
                kept=code.kept,
                notice=lambda line: narrator.say(f"⚠ {line}"),
            ),
            device=device,
            precision=precision,
            report=report,
        )
        narrator.say(
            "Particle ratio of the labelled part: "
            f"{100 * store.particle_ratio(split.labelled):.2f}% "
            f"({device.type}, threads: {threads})"
        )
        source = made_from(data=store.key, code=code.present)
        try:
            missing = _track(config, experiment, narrator, code=code)
        except FailedArmsError as fault:  # the other arms are finished: a sweep gathers them
            write_outcome(folder, fingerprint=fault.experiment, made_from=source)
            raise
        write_outcome(folder, fingerprint=experiment.fingerprint(), made_from=source)
        if missing and config.run.strict_tracking:
            raise TrackingError(
                f"the run has finished, but the tracking store lacks {missing} entries",
                cure="start the store, then `cryossl sync`",
            )
    return experiment.fingerprint(), missing


@devices.enough_memory()
def dry_run(config: Config) -> None:
    """Print the settings, the counts and the estimates of a run; train nothing."""
    store_uri(config.run.tracking_uri)
    with ProgressConsole(sys.stderr) as console:
        prepared = _prepare(config, console, on_note=click.echo)
    config, store_plan, split = prepared.config, prepared.store_plan, prepared.split
    device = devices.resolve(config.training.device)
    devices.prepare(
        device=device,
        threads=choose_threads(
            config, tile_px=store_plan.tile_px, device=device, memory=config.run.threads_file
        ),
    )
    precision = devices.resolve_precision(config.training.precision, device)
    step_seconds, tile_seconds = measure_speed(
        config, tile_px=store_plan.tile_px, device=device, precision=precision
    )
    found = estimate(
        config, store_plan, split, step_seconds=step_seconds, tile_seconds=tile_seconds
    )
    unit = config.split.label_unit
    click.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
    click.echo(
        f"\n{found.labelled + found.unlabelled:,} training {unit}s: {found.labelled:,} labelled "
        f"({preparation.labelled_share(split)}), {found.unlabelled:,} unlabelled; "
        f"at most K = {found.quota:,} class-balanced pseudo-labels\n"
        f"{len(split.validation):,} validation and {len(split.test):,} test micrographs; tiles of "
        f"{store_plan.tile_px} px"
        f"{preparation.roles_text(config, tested=prepared.tested)}\n"
        f"at most {found.training_steps:,} optimiser steps and {found.predicted_tiles:,} predicted "
        "tiles: "
        f"about {duration_text(found.seconds)} on {device.type} (decoding not counted)\n"
        f"at most {found.disk_bytes / 2**20:,.0f} MiB in {config.run.work}"
    )


@dataclass(frozen=True)
class _Prepared:
    """What is known of a run before a picture is decoded."""

    config: Config
    dataset: DataSet
    store_plan: StorePlan
    split: Split
    code: StageCode

    @property
    def tested(self) -> bool:
        """Whether the data set has an annotated test part."""
        return self.dataset.test is not None and bool(self.dataset.test.particles)


def _prepare(config: Config, report: OnProgress, *, on_note: Callable[[str], None]) -> _Prepared:
    """Read the data set, draw the split, and refuse what could not end."""
    dataset = preparation.load(config, report)
    store_plan = preparation.sketch(config, dataset)
    for note in preparation.notes_of(dataset, store_plan):
        on_note(note)
    split = preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px)
    preparation.check(config, split, tile_px=store_plan.tile_px)
    config = preparation.with_counted_ratio(config, split)
    code = stage_code(config.run.code_file, keep=config.run.keep_stages)
    require_fit_machine(config, dataset, store_plan, split, code=code)
    return _Prepared(config, dataset, store_plan, split, code)


def _track(config: Config, experiment: Experiment, narrator: Narrator, *, code: StageCode) -> int:
    """Run the arms below one tracked run; return how many entries the tracking store lacks."""
    tracker = Tracker(config.run.tracking_uri, config.run.experiment, config.run.journals)
    split = experiment.split
    tags = {
        "cryossl.ratio_percent": f"{config.split.ratio:g}",
        "cryossl.seed": str(config.split.seed),
        "cryossl.dataset": config.input.data,
        "cryossl.labelled_count": str(len(split.labelled)),
        "cryossl.pool_count": str(len(split.unlabelled)),
        "cryossl.experiment_fingerprint": experiment.fingerprint(),
        "cryossl.data_digest": experiment.data_digest(),
        "cryossl.code_digest": code.name,
    }
    name = f"{config.run.name} {config.split.ratio:g}% seed {config.split.seed}"
    with tracker.invocation(name=name, tags={**tags, "cryossl.kind": "experiment"}) as parent:
        parent.params(config.flat())
        parent.json(split.as_json(), "split.json")
        parent.json(config.model_dump(mode="json"), "config.json")
        parent.dataset(
            [
                {"micrograph": stored.id, "part": stored.part, "source": stored.source}
                for stored in experiment.store.micrographs.values()
            ],
            name=Path(config.input.data).name or "data",
            digest=experiment.store.key,
            context="training",
        )
        models = LoggedModels(experiment, package)
        recorder = Recorder(experiment, tracker, parent, narrator, tags=tags, models=models)
        try:
            Arms(experiment, recorder, narrator).run()
        except FailedArmsError:
            _register(models, narrator)
            raise
        _register(models, narrator)
    missing = tracker.sync()
    for line in tracker.registered:
        narrator.say(f"✅ {line}")
    if missing:
        narrator.say(
            f"⚠ the tracking store lacks {missing} entries; `cryossl sync` or the next start sends "
            "them"
        )
    return missing


def _register(models: LoggedModels, narrator: Narrator) -> None:
    if said := models.register():
        narrator.say(said)
