"""`run` and `baseline`: connect data, store, split, experiment and tracking to one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
import yaml

from cryossl.commands.expected_time import range_text, say_expected_time
from cryossl.config import Config, deciding
from cryossl.data.coco.dataset import DataSet
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.errors import FailedArmsError, TrackingError
from cryossl.network import device as devices
from cryossl.network.speed import choose_threads, measure_speed
from cryossl.picking.packaging import package
from cryossl.progress.console import ProgressConsole
from cryossl.progress.events import OnProgress
from cryossl.progress.interruption import interruptible
from cryossl.progress.narrator import Narrator, narrated
from cryossl.progress.terminal import echo
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.arms import Arms, Scoring, experiment_of, left_out, plan
from cryossl.selftraining.estimates import estimate
from cryossl.selftraining.preflight import finished_strategies, require_fit_machine
from cryossl.selftraining.records.logged_models import LoggedModels
from cryossl.selftraining.records.recorder import Recorder
from cryossl.selftraining.records.result_files import forget_outcome, made_from, write_outcome
from cryossl.selftraining.stage_code import StageCode, stage_code
from cryossl.selftraining.steps import Experiment
from cryossl.system.file_lock import shared_as
from cryossl.system.folder_lock import one_at_a_time
from cryossl.tracking.address import store_uri
from cryossl.tracking.tracker import Tracker, lacking_text, link_text


def run(config: Config, *, alone: bool = False) -> tuple[str, int]:
    """Run the whole experiment: baseline, arms, tracked runs, result files.

    A second start reuses all that is finished. `alone`: only the baseline is wanted, so nothing is
    said of strategies that are left out. Returns the experiment's fingerprint, which its
    tracked runs carry, and the number of entries that the tracking store lacks.
    """
    # A wrong address, and a device or number format that this machine lacks, are refused before
    # data are read.
    store_uri(config.run.tracking_uri)
    devices.resolve_precision(config.training.precision, devices.resolve(config.training.device))
    folder = config.run.folder
    phases = plan(
        config.selection.strategies,
        iterations=config.loop.max_iterations,
        ensemble_networks=config.loop.ensemble_networks,
    )
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
        narrator.say(f"   all messages: {narrator.log_path}")
        prepared = _prepare(config, report, on_note=narrator.say)
        config, code = prepared.config, prepared.code
        code.remember(config.run.code_file)
        if said := code.said(keep=config.run.keep_stages):
            narrator.say(said)
        experiment, scoring, resolved = _experiment(prepared, narrator, report)
        said = left_out(config.selection.strategies, iterations=config.loop.max_iterations)
        if said and not alone:
            narrator.say(f"⚠ {said}")
        if prepared.unfinished:
            say_expected_time(experiment, prepared.store_plan, narrator)
        source = made_from(data=experiment.store.key, code=code.present)
        try:
            missing = _track(
                config,
                experiment,
                scoring,
                narrator,
                code=code,
                resolved=resolved,
            )
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


def _experiment(
    prepared: _Prepared, narrator: Narrator, report: OnProgress
) -> tuple[Experiment, Scoring, dict[str, object]]:
    """The experiment over the decoded data, and its scoring; says what it learns from.

    The third value is what the automatic settings of this machine came to.
    """
    config, split, code = prepared.config, prepared.split, prepared.code
    device = devices.resolve(config.training.device)
    precision = devices.resolve_precision(config.training.precision, device)
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
    experiment, scoring = experiment_of(
        config,
        store,
        split,
        code,
        device=device,
        precision=precision,
        report=report,
        notice=lambda line: narrator.say(f"⚠ {line}"),
    )
    narrator.say(
        "Particle ratio of the labelled part: "
        f"{100 * store.particle_ratio(split.labelled):.2f}% ({device.type}, threads: {threads})"
    )
    return (
        experiment,
        scoring,
        {"device": str(device), "precision": precision, "threads": threads},
    )


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
    echo(
        f"\n{found.labelled + found.unlabelled:,} training {unit}s: {found.labelled:,} labelled "
        f"({preparation.labelled_share(split)}), {found.unlabelled:,} unlabelled; "
        f"at most K = {found.quota:,} class-balanced pseudo-labels\n"
        f"{len(split.validation):,} validation and {len(split.test):,} test micrographs; tiles of "
        f"{store_plan.tile_px} px"
        f"{preparation.roles_text(config, tested=prepared.tested)}\n"
        f"at most {found.training_steps:,} optimiser steps and {found.predicted_tiles:,} predicted "
        f"tiles: {range_text(found.least_seconds, found.seconds)} on {device.type} (decoding not "
        "counted)\n"
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
    unfinished: bool

    @property
    def tested(self) -> bool:
        """Whether the data set has an annotated test part."""
        return self.dataset.test is not None and bool(self.dataset.test.particles)


def _prepare(config: Config, report: OnProgress, *, on_note: Callable[[str], None]) -> _Prepared:
    """Read the data set, draw the split, and refuse what could not end."""
    preparation.require_network(config)
    dataset = preparation.load(config, report)
    store_plan = preparation.sketch(config, dataset)
    for note in preparation.notes_of(dataset, store_plan):
        on_note(note)
    split = preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px)
    preparation.check(config, split, tile_px=store_plan.tile_px)
    config = preparation.with_counted_ratio(config, split)
    code = stage_code(config.run.code_file, keep=config.run.keep_stages)
    require_fit_machine(config, dataset, store_plan, split, code=code)
    there = finished_strategies(config, dataset, split, code=code)
    unfinished = not there or set(there) != set(config.selection.strategies)
    return _Prepared(config, dataset, store_plan, split, code, unfinished)


def _track(
    config: Config,
    experiment: Experiment,
    scoring: Scoring,
    narrator: Narrator,
    *,
    code: StageCode,
    resolved: Mapping[str, object],
) -> int:
    """Run the arms below one tracked run; return how many entries the tracking store lacks.

    `resolved`: what the automatic settings of this machine came to.
    """
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
        "cryossl.headline_views": str(config.evaluation.headline_views),
    }
    if config.selection.tries:  # a tag, because a finished run takes the count of a longer tuning
        tags["cryossl.tries"] = ",".join(config.selection.tries)
    name = f"{config.run.name} {config.split.ratio:g}% s{config.split.seed}"
    nothing = deciding("nothing")
    flat = {name: value for name, value in config.flat().items() if name not in nothing}
    params = flat | {f"resolved.{name}": value for name, value in resolved.items()}
    with tracker.invocation(name=name, tags={"cryossl.kind": "experiment", **tags}) as parent:
        parent.params(params)
        parent.json(split.as_json(), "split.json")
        parent.json(config.model_dump(mode="json"), "config.json")
        preparation.data_sets(parent, config, experiment.store, split, listed=True)
        models = LoggedModels(experiment, package)
        recorder = Recorder(
            experiment, tracker, parent, narrator, tags=tags, models=models, params=params
        )
        try:
            Arms(experiment, scoring, recorder, narrator).run()
        except FailedArmsError:
            _register(models, narrator)
            recorder.answer()
            raise
        _register(models, narrator)
        recorder.answer()
    return _sent(tracker, tags, narrator, config)


def _sent(tracker: Tracker, tags: dict[str, str], narrator: Narrator, config: Config) -> int:
    """Send what is left, say where it can be seen; return how many entries the store lacks."""
    missing = tracker.sync()
    for line in tracker.registered:
        narrator.say(f"✅ {line}")
    if link := tracker.keep_views(tags):
        narrator.say(f"Curves by iteration and strategy: {link_text(link, config.run)}")
    if missing:
        narrator.say(lacking_text(missing))
    return missing


def _register(models: LoggedModels, narrator: Narrator) -> None:
    if said := models.register():
        narrator.say(said)
