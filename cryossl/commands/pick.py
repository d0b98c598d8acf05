"""`pick`: find particles with a model of a run, and write them for other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from cryossl.commands.pick_parts import Task, executor_for, find_in_parts
from cryossl.commands.pick_run import Record, tracked
from cryossl.config import Config
from cryossl.errors import ChangedDataError, ConfigError, StorageError
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.evaluation.scorings import EIGHT, WORDS, scored_by
from cryossl.network import device as devices
from cryossl.network.picking_model import LabelReading, PickingModel, read
from cryossl.picking.choice import Choice, expecting, spaced, threshold_of
from cryossl.picking.finding import KEPT, Finder, Found, Machine, Scaling
from cryossl.picking.micrographs import Named, micrographs_of
from cryossl.picking.model_choice import fetched
from cryossl.picking.results import Results
from cryossl.picking.writing import FORMATS, MASK, SHEET, Picked, Wanted, Written, write
from cryossl.progress.console import ProgressConsole
from cryossl.progress.events import OnProgress
from cryossl.progress.interruption import interruptible
from cryossl.progress.terminal import echo
from cryossl.sweep.executors import Executor
from cryossl.system.folder_lock import one_at_a_time


@dataclass(frozen=True)
class Request:
    """What is to be picked and how; the fields are the options of the command.

    `threshold` is a score in [0, 1], `expected` a mean number of picks per micrograph; at most one
    of them. `most` limits each micrograph; `min_spacing` is in diameters. `flip_y` None is as in
    the labels that the model learned from.
    """

    micrographs: tuple[Path, ...]
    to: Path
    model: str | None
    formats: tuple[str, ...]
    threshold: float | None
    expected: float | None
    most: int | None
    min_spacing: float
    source: str | None
    diameter_angstrom: float | None
    diameter_px: float | None
    pixel_size: float | None
    flip_y: bool | None
    jobs: int
    executor: str
    slurm: str | None
    track: bool

    @property
    def scaling(self) -> Scaling:
        """What it says of the micrographs' scale."""
        return Scaling(self.source, self.diameter_angstrom, self.diameter_px, self.pixel_size)


def pick(config: Config, request: Request) -> None:
    """Find the particles of micrographs, write them in every format, and print what was done.

    Raises:
        ChangedDataError: some micrographs cannot be used; the others are picked and written.
        ConfigError: two options contradict each other.
        DataError: the model or a list of micrographs cannot be used.
        StorageError: a file cannot be written.
        TrackingError: the tracking store can never be written as it is.
    """
    _check(request)
    machine = _machine(config)
    executor = executor_for(request.executor, machine, slurm=request.slurm, jobs=request.jobs)
    model, path = _model(config, request)
    named = micrographs_of(request.micrographs)
    request.scaling.require_known(model, named, max_megapixels=machine.max_megapixels)
    flip_y = _flips(request, model.description.reading)
    with devices.enough_memory(), one_at_a_time(request.to), _reporting() as report:
        with tracked(
            config,
            request.to,
            tracks=request.track,
            asked=_asked(request, flip_y=flip_y),
            model=model.description,
        ) as record:
            found = _found(request, machine, executor, model, path, named, report=report)
            usable = [one for one in named if one.path not in found.faults]
            if not usable:
                raise _none_usable(found.faults)
            picked = Picked(usable, Results(request.to / KEPT, key=found.key))
            choice = Choice(_threshold(request, model, picked), request.most, request.min_spacing)
            wanted = Wanted(request.formats, choice, flip_y, request.pixel_size)
            facts = _facts(request, model, choice)
            written = write(request.to, picked, wanted, facts=facts, faults=found.faults)
            record(Record(written, found.faults, request.to / SHEET, facts))
        _tell(request, written, facts)
    if found.faults:
        raise ChangedDataError(
            f"{len(found.faults)} of {len(named)} micrographs could not be picked, first: "
            f"{next(iter(found.faults.values()))}",
            cure="mend them and pick again; the others are done",
        )


def _none_usable(faults: Mapping[Path, str]) -> ChangedDataError:
    return ChangedDataError(
        f"none of {len(faults)} micrographs could be picked, first: {next(iter(faults.values()))}",
        cure="mend them or name others; nothing was written",
    )


def formats_of(listed: str) -> tuple[str, ...]:
    """The formats in a list as typed. Raises ConfigError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise ConfigError(
            f"unknown format {(unknown or [listed])[0]!r}", cure=f"known: {', '.join(FORMATS)}"
        )
    return names


def _check(request: Request) -> None:
    if request.threshold is not None and request.expected is not None:
        raise ConfigError("--threshold and --expected both set the threshold", cure="give one")
    if request.diameter_angstrom is not None and request.diameter_px is not None:
        raise ConfigError(
            "--diameter-angstrom and --diameter-px both give the diameter", cure="give one"
        )
    to = request.to.resolve()
    for folder in request.micrographs:
        if MASK in request.formats and folder.is_dir() and to.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"masks in {request.to} would be micrographs of the next pick of {folder}",
                cure="give a folder outside of it with --to",
            )


def _machine(config: Config) -> Machine:
    training = config.training
    return Machine(
        device=training.device,
        precision=training.precision,
        threads=training.threads,
        batch_size=training.batch_size,
        max_megapixels=config.input.max_megapixels,
    )


def _model(config: Config, request: Request) -> tuple[PickingModel, Path]:
    """Read the model, and say which it is; with its file."""
    try:
        request.to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make {request.to}: {error.strerror}", cure="choose another folder with --to"
        ) from None
    path = fetched(
        request.model,
        request.to,
        uri=config.run.tracking_uri,
        experiment=config.run.experiment,
        say=click.echo,
    )
    model = read(path)
    origin = model.description.origin
    eight = origin.scores.get(scored_by("validation/particle_f1", EIGHT))
    f1 = origin.scores.get("validation/particle_f1") if eight is None else eight
    by = "" if eight is None else f" by {WORDS[EIGHT]}"
    score = "" if f1 is None else f", particle F1 {100 * f1:.2f}{by} on {origin.chosen_on}"
    echo(
        f"model: {origin.strategy}, iteration {origin.iteration}, {origin.ratio_percent:g}% "
        f"labelled, seed {origin.seed}{score} ({path})"
    )
    return model, path


def _flips(request: Request, reading: LabelReading | None) -> bool:
    """Whether rows are counted from the last one; says where that is not as one may think."""
    labels_do = reading is not None and reading.flip_y
    flips = labels_do if request.flip_y is None else request.flip_y
    row, other = ("last", "first") if flips else ("first", "last")
    if request.flip_y is None and labels_do:
        click.echo(
            "rows are counted from the last one, as in the labels that the model learned from; "
            "--no-flip-y counts them from the first one"
        )
    elif reading is not None and flips != labels_do:
        click.echo(
            f"rows are counted from the {row} one, as asked; in the labels that the model learned "
            f"from they were counted from the {other} one"
        )
    if reading is not None:
        beside = [
            words
            for is_so, words in (
                (reading.flip_x, "mirrored in x"),
                (reading.swap_xy, "with x and y exchanged"),
                (reading.scale != 1, f"scaled by {reading.scale:.6g}"),
                (reading.corner, "as corners of boxes"),
            )
            if is_so
        ]
        if beside:
            click.echo(
                f"the labels that the model learned from were read {', '.join(beside)}; picks are "
                "centres in px of the files"
            )
    return flips


def _asked(request: Request, *, flip_y: bool) -> dict[str, object]:
    """The params of the tracked run."""
    return {
        "pick.micrographs": [str(path) for path in request.micrographs],
        "pick.model": request.model or "best accepted of the newest experiment",
        "pick.formats": request.formats,
        "pick.threshold": request.threshold,
        "pick.expected": request.expected,
        "pick.max_per_micrograph": request.most,
        "pick.min_spacing": request.min_spacing,
        "pick.source": request.source,
        "pick.diameter_angstrom": request.diameter_angstrom,
        "pick.diameter_px": request.diameter_px,
        "pick.pixel_size": request.pixel_size,
        "pick.flip_y": flip_y,
    }


@contextmanager
def _reporting() -> Iterator[OnProgress]:
    """A report that shows progress on a terminal, and ends the work after a signal."""
    with interruptible() as interruption, ProgressConsole(sys.stderr) as console:
        yield interruption.after(console)


def _found(
    request: Request,
    machine: Machine,
    executor: Executor,
    model: PickingModel,
    path: Path,
    named: Sequence[Named],
    *,
    report: OnProgress,
) -> Found:
    masks = MASK in request.formats
    if request.jobs == 1 and request.executor == "local":
        finder = Finder(model, request.scaling, machine, request.to, masks=masks)
        finder.results.remove_leftovers()
        return finder.find(named, report=report)
    return find_in_parts(
        Task(path, request.scaling, machine, request.to, masks),
        named,
        executor,
        jobs=request.jobs,
        report=report,
        say=click.echo,
    )


def _threshold(request: Request, model: PickingModel, picked: Picked) -> int:
    if request.threshold is not None:
        return threshold_of(request.threshold)
    if request.expected is not None:
        return expecting(
            (
                spaced(result.picks, request.min_spacing * result.diameter_px)
                for _, result in picked
            ),
            request.expected,
        )
    return model.description.pick_threshold16


def _facts(request: Request, model: PickingModel, choice: Choice) -> dict[str, str]:
    """The head of the contact sheet."""
    origin = model.description.origin
    return {
        "model": request.model or "the best accepted one of the newest experiment",
        "strategy": f"{origin.strategy}, iteration {origin.iteration}, seed {origin.seed}",
        "run": origin.run_key,
        "threshold": f"{choice.threshold16 / FULL_SCORE:.3f}",
    }


def _tell(request: Request, written: Written, facts: dict[str, str]) -> None:
    sheet = request.to / SHEET
    echo(
        f"{written.picks:,} picks in {len(written.rows):,} micrographs, score "
        f"{facts['threshold']} or more; look at {sheet}"
    )
    if doubtful := written.doubtful:
        echo(
            f"⚠ {len(doubtful)} micrographs are doubtful, first: {doubtful[0].name} "
            f"({doubtful[0].doubt}); {sheet} lists them"
        )
    for path in written.files:
        click.echo(f"  {path}")
