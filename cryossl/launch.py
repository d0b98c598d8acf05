"""One function per command that computes: wires data, store, split, experiment and tracking into one run."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from filelock import FileLock, Timeout

from cryossl import device as devices
from cryossl import network as networks
from cryossl.bookkeeping import Bookkeeper
from cryossl.campaign import Campaign, plan
from cryossl.coco import DataSet, measured, read_dataset
from cryossl.config import Config
from cryossl.doctor import preflight
from cryossl.errors import BusyError, DataError, StorageError
from cryossl.experiment import Experiment
from cryossl.narration import Narrator, narrated
from cryossl.provenance import process_tags
from cryossl.splits import Split, draw_split
from cryossl.stages import Stages, digest
from cryossl.store import Store, build
from cryossl.synthetic import VERSION as SYNTHETIC_VERSION
from cryossl.synthetic import synthesise as write_synthetic
from cryossl.tracking import Tracker

SYNTHETIC = "synthetic"


def run(config: Config) -> None:
    """The whole experiment: baseline, arms, tracked runs, result files. A second start reuses all that is finished."""
    folder = config.run.results / config.run.name
    phases = plan(config.selection.strategies, iterations=config.loop.max_iterations)
    with _one_at_a_time(folder), _interruptible(), narrated(folder, name=config.run.name, plan=phases) as narrator:
        narrator.begin("Load the data")
        dataset = load(config, narrator)
        _preflight(config)
        device = devices.resolve(config.training.device)
        threads = devices.prepare(threads=config.training.threads, device=device)
        store = build(dataset, config.run.work / "stores", settings=config.input,
                      network_multiple=networks.multiple(config.network), report=narrator)
        split = draw(config, store)
        narrator.say(f"{len(split.labelled)} labelled and {len(split.unlabelled)} unlabelled {config.split.label_unit}s, "
                     f"{len(split.validation)} validation and {len(split.test)} test micrographs; {device.type}, {threads} threads")
        experiment = Experiment(config, store, split, Stages(config.run.work / "stages"), device=device,
                                precision=devices.resolve_precision(config.training.precision, device), report=narrator)
        narrator.say(f"Particle ratio of the labelled part: {100 * store.particle_ratio(split.labelled):.2f}%")
        _track(config, experiment, dataset, narrator)


def load(config: Config, narrator: Narrator) -> DataSet:
    """The data set of a config, its border and particle sizes measured on validation labels alone."""
    if config.input.data == SYNTHETIC:
        root = config.run.work / "data" / f"synthetic-{SYNTHETIC_VERSION}"
        write_synthetic(root, seed=0, report=narrator)
    else:
        root = Path(config.input.data)
    dataset = read_dataset(root, border=config.input.border, max_megapixels=config.input.max_megapixels)
    for note in dataset.notes:
        narrator.say(f"   {note}")
    return measured(dataset, border=config.input.border, visible=dataset.validation.particles.keys())


def draw(config: Config, store: Store) -> Split:
    """The split of a store's items under a config."""
    settings = config.split
    parts: dict[str, dict[str, str]] = {"train": {}, "validation": {}, "test": {}}
    labelable: set[str] = set()
    for stored in store.micrographs.values():
        if stored.part != "train":
            if stored.annotated:
                parts[stored.part][stored.id] = stored.source
            continue
        items = [stored.id] if settings.label_unit == "micrograph" else [tile.id for tile in store.tiles(stored.id)]
        parts["train"].update(dict.fromkeys(items, stored.source))
        if stored.annotated:
            labelable.update(items)
    names = _listed(settings.labelled) if settings.labelled is not None else None
    return draw_split(parts["train"], labelable, parts["validation"], parts["test"] or None,
                      ratio_percent=settings.ratio, seed=settings.seed, labelled=names)


def synthesise(folder: Path, *, seed: int, train: int, validation: int, test: int, size_px: int) -> None:
    """Write the simulator's data set."""
    with narrated(folder.parent, name=folder.name, plan=[]) as narrator:
        write_synthetic(folder, seed=seed, train=train, validation=validation, test=test, size_px=size_px, report=narrator)


def _track(config: Config, experiment: Experiment, dataset: DataSet, narrator: Narrator) -> None:
    tracker = Tracker(config.run.tracking_uri, config.run.experiment, config.run.work / "journals")
    split = experiment.split
    tags = {"cryossl.ratio_percent": f"{config.split.ratio:g}", "cryossl.seed": str(config.split.seed),
            "cryossl.dataset": config.input.data, "cryossl.labelled_count": str(len(split.labelled)),
            "cryossl.pool_count": str(len(split.unlabelled)), "cryossl.experiment_fingerprint": experiment.fingerprint()}
    name = f"{config.run.name} {config.split.ratio:g}% seed {config.split.seed}"
    with tracker.invocation(name=name, tags={**tags, "cryossl.kind": "experiment"}) as parent:
        parent.params(config.flat())
        parent.json(split.as_json(), "split.json")
        parent.json(config.model_dump(mode="json"), "config.json")
        parent.dataset([{"micrograph": stored.id, "part": stored.part, "source": stored.source}
                        for stored in experiment.store.micrographs.values()],
                       name=Path(config.input.data).name or "data", digest=experiment.store.key, context="training")
        Campaign(experiment, Bookkeeper(experiment, tracker, parent, narrator, tags=tags), narrator).run()
    missing = tracker.sync()
    if missing:
        narrator.say(f"⚠ the tracking store lacks {missing} entries; the next start sends them")


def _preflight(config: Config) -> None:
    for check in preflight(tracking_uri=config.run.tracking_uri, work=config.run.work, needed_bytes=0):
        if check.state == "fail":
            raise StorageError(f"{check.name}: {check.what}", cure=check.cure)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the labelled list {path}: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the results folder; a second start of the same name is refused and told who holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "running"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise BusyError(f"{folder} is in use by {who}", cure="wait for it, or choose another --name") from None
    try:
        tags = process_tags()
        holder.write_text(f"process {tags['cryossl.pid']} on {tags['cryossl.host']}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM into the exception that Ctrl-C raises, so that checkpoints and runs are closed in order."""
    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
