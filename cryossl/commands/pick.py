"""`pick`: find particles with a model of a run, and write them for other programs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np

from cryossl.config import Config
from cryossl.data.images import read_picture, read_size
from cryossl.errors import ChangedDataError, ConfigError, DataError, StorageError
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.network import device as devices
from cryossl.network.picking_model import PickingModel, Scale, probabilities, read
from cryossl.picking import contact_sheet, outputs
from cryossl.picking.choice import Choice, expecting, threshold_of
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.micrographs import Named, micrographs_of
from cryossl.picking.model_choice import fetched
from cryossl.picking.results import Result, Results
from cryossl.picking.stream import Stream
from cryossl.progress.console import ProgressConsole
from cryossl.progress.interruption import interruptible
from cryossl.system.digest import digest
from cryossl.system.files import write_durably
from cryossl.system.folder_lock import one_at_a_time

SHEET, COUNTS = "picks.html", "counts.json"
_KEPT = ".results"


@dataclass(frozen=True)
class Request:
    """What is to be picked and how; the fields are the options of the command.

    `threshold` is a score in [0, 1], `expected` a mean number of picks per micrograph; at most one
    of them. `most` limits each micrograph.
    """

    micrographs: tuple[Path, ...]
    to: Path
    model: str | None
    formats: tuple[str, ...]
    threshold: float | None
    expected: float | None
    most: int | None
    source: str | None
    diameter_angstrom: float | None
    diameter_px: float | None
    pixel_size: float | None
    flip_y: bool


def pick(config: Config, request: Request) -> None:
    """Find the particles of micrographs, write them in every format, and print what was done.

    Raises:
        ChangedDataError: some micrographs cannot be used; the others are picked and written.
        ConfigError: two options contradict each other.
        DataError: the model or a list of micrographs cannot be used.
        StorageError: a file cannot be written.
    """
    _check(request)
    model = _model(config, request)
    named = micrographs_of(request.micrographs)
    _check_scale(model, request, named, max_megapixels=config.input.max_megapixels)
    device = devices.resolve(config.training.device)
    precision = devices.resolve_precision(config.training.precision, device)
    with (
        devices.enough_memory(),
        one_at_a_time(request.to),
        interruptible() as interruption,
        ProgressConsole(sys.stderr) as console,
    ):
        devices.prepare(device=device, threads=config.training.threads or 1)
        by_path = {one.path: one for one in named}
        stream = Stream(
            results := Results(request.to / _KEPT, key=_key(model, request, device=device.type)),
            partial(
                probabilities,
                model.network().to(device),
                tile_px=model.description.tile_px,
                batch_size=config.training.batch_size,
                device=device,
                precision=precision,
            ),
            model.description,
            scale_of=lambda path, height, width: _scale(
                model, request, by_path[path], height, width
            ),
            max_megapixels=config.input.max_megapixels,
        )
        try:
            faults = stream.pick(list(by_path), report=interruption.after(console))
        except OSError as error:
            raise StorageError(
                f"cannot write below {request.to}: {error.strerror}",
                cure="free space, or choose another folder with --to",
            ) from None
        _write(request, model, [one for one in named if one.path not in faults], results, faults)
    if faults:
        raise ChangedDataError(
            f"{len(faults)} of {len(named)} micrographs could not be picked, first: "
            f"{next(iter(faults.values()))}",
            cure="mend them and pick again; the others are done",
        )


def formats_of(listed: str) -> tuple[str, ...]:
    """The formats in a list as typed. Raises ConfigError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    unknown = [name for name in names if name not in outputs.FORMATS]
    if unknown or not names:
        raise ConfigError(
            f"unknown format {(unknown or [listed])[0]!r}",
            cure=f"known: {', '.join(outputs.FORMATS)}",
        )
    return names


def _check(request: Request) -> None:
    if request.threshold is not None and request.expected is not None:
        raise ConfigError("--threshold and --expected both set the threshold", cure="give one")
    if request.diameter_angstrom is not None and request.diameter_px is not None:
        raise ConfigError(
            "--diameter-angstrom and --diameter-px both give the diameter", cure="give one"
        )


def _check_scale(
    model: PickingModel, request: Request, named: Sequence[Named], *, max_megapixels: float
) -> None:
    """Raise DataError now if the first micrograph that can be read has no scale."""
    for one in named:
        try:
            height_px, width_px = read_size(one.path, max_megapixels=max_megapixels)
        except DataError:
            continue
        _scale(model, request, one, height_px, width_px)
        return


def _model(config: Config, request: Request) -> PickingModel:
    """Read the model, and say which it is."""
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
    f1 = origin.scores.get("validation/particle_f1")
    score = "" if f1 is None else f", particle F1 {100 * f1:.2f} on {origin.chosen_on}"
    click.echo(
        f"model: {origin.strategy}, iteration {origin.iteration}, {origin.ratio_percent:g}% "
        f"labelled, seed {origin.seed}{score} ({path})"
    )
    return model


def _key(model: PickingModel, request: Request, *, device: str) -> str:
    """Names all that decides candidates, besides the content of the micrographs."""
    asked = {
        name: getattr(request, name)
        for name in ("source", "diameter_angstrom", "diameter_px", "pixel_size")
    }
    weights = hashlib.sha256(model.to_bytes()).hexdigest()
    return digest({"model": weights, "device": device, **asked})[:20]


def _scale(
    model: PickingModel, request: Request, micrograph: Named, height_px: int, width_px: int
) -> Scale:
    diameter_px = request.diameter_px
    if request.diameter_angstrom is not None:
        pixel_size = request.pixel_size or micrograph.pixel_size_angstrom
        if pixel_size is None:
            raise DataError(
                f"{micrograph.path}: its pixel size is not known",
                cure="give --pixel-size in angstrom, or a micrographs STAR",
            )
        diameter_px = request.diameter_angstrom / pixel_size
    return model.scale_of(
        height_px=height_px,
        width_px=width_px,
        name=micrograph.path.name,
        source=request.source,
        diameter_px=diameter_px,
    )


def _write(
    request: Request,
    model: PickingModel,
    named: Sequence[Named],
    results: Results,
    faults: Mapping[Path, str],
) -> None:
    def found() -> Iterator[tuple[Named, Result]]:
        for one in named:
            result = results.read(one.path)
            if result is None:
                raise StorageError(f"the result of {one.path} is gone", cure="pick again")
            yield one, result

    choice = Choice(_threshold(request, model, found()), request.most)
    sizes = {one.pixel_size_angstrom for one in named} | {request.pixel_size}
    pixel_sizes = {size for size in sizes if size is not None}
    written = outputs.write_all(
        request.to,
        request.formats,
        lambda: (
            _coordinates(one, result, choice, flip_y=request.flip_y) for one, result in found()
        ),
        pixel_size_angstrom=pixel_sizes.pop() if len(pixel_sizes) == 1 else None,
    )
    rows = [
        contact_sheet.row_of(one.name, result, picks=len(choice.of(result.picks).scores))
        for one, result in found()
    ]
    origin = model.description.origin
    facts = {
        "model": request.model or "the best accepted one of the newest experiment",
        "strategy": f"{origin.strategy}, iteration {origin.iteration}, seed {origin.seed}",
        "run": origin.run_key,
        "threshold": f"{choice.threshold16 / FULL_SCORE:.3f}",
        "written": ", ".join(str(path) for path in written),
    }
    paths = {one.name: one for one in named}
    sheet = contact_sheet.page(
        "Picks",
        facts,
        rows,
        {str(path): why for path, why in faults.items()},
        lambda row: _picture(paths[row.name], results, choice),
    )
    write_durably(request.to / SHEET, sheet.encode())
    write_durably(request.to / COUNTS, json.dumps([asdict(row) for row in rows], indent=1).encode())
    total = sum(row.picks for row in rows)
    click.echo(
        f"{total:,} picks in {len(rows):,} micrographs, score {facts['threshold']} or more; "
        f"look at {request.to / SHEET}"
    )
    doubtful = [row for row in rows if row.doubt]
    if doubtful:
        click.echo(
            f"⚠ {len(doubtful)} micrographs are doubtful, first: {doubtful[0].name} "
            f"({doubtful[0].doubt}); {request.to / SHEET} lists them"
        )
    for path in written:
        click.echo(f"  {path}")


def _threshold(request: Request, model: PickingModel, found: Iterator[tuple[Named, Result]]) -> int:
    if request.threshold is not None:
        return threshold_of(request.threshold)
    if request.expected is not None:
        return expecting((result.picks for _, result in found), request.expected)
    return model.description.pick_threshold16


def _coordinates(one: Named, result: Result, choice: Choice, *, flip_y: bool) -> Coordinates:
    picks = choice.of(result.picks)
    centres = picks.centres.astype(np.float64)
    if flip_y:
        centres[:, 0] = result.height_px - centres[:, 0]
    return Coordinates(
        one.name,
        centres,
        scores=picks.scores / FULL_SCORE,
        diameters_px=np.full(len(centres), result.diameter_px),
        picture_px=(result.height_px, result.width_px),
        pixel_size_angstrom=one.pixel_size_angstrom,
    )


def _picture(one: Named, results: Results, choice: Choice) -> bytes | None:
    result = results.read(one.path)
    try:
        picture = read_picture(one.path, max_megapixels=1e6)
    except DataError:
        return None
    if result is None:
        return None
    picks = choice.of(result.picks)
    return contact_sheet.drawn(picture, picks.centres, diameter_px=result.diameter_px)
