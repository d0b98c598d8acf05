"""`data import`: labels of any picker and their micrographs -> a data folder, or a refusal.

The pictures decide whether the labels sit on particles (`readings`). Where another reading fits
clearly better, nothing is written but a picture of both, and the user decides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cryossl.data.images import read_picture
from cryossl.errors import DataError, StorageError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.importing import data_folder, reading_picture
from cryossl.picking.importing.collection import Picture, read_collection
from cryossl.picking.importing.labelling import Label, Sizes, read_labels
from cryossl.picking.importing.readings import FEWEST, SCALES, Found, Labelled, Reading, measure
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.files import write_durably

_MOST_OUTSIDE = 0.05
"""Largest share of particles with a centre outside their picture, from clicks beyond the edge."""
_SEED = 17  # of the random places that the labels are compared with


@dataclass(frozen=True)
class Request:
    """What the user wants imported.

    `micrographs` is a folder or a micrographs STAR. `reading` is how the user wants coordinates
    read; with `keep_reading` it is kept even where another one fits better. `source` is of all
    micrographs, or None: as the data set's reader finds it.
    """

    labels: tuple[Path, ...]
    micrographs: Path
    folder: Path
    sizes: Sizes
    reading: Reading
    keep_reading: bool
    validation_fraction: float
    link: bool
    source: str | None
    max_megapixels: float


@dataclass(frozen=True)
class Imported:
    """What was written: numbers of micrographs and particles, and notes for the user."""

    labelled: int
    validation: int
    pool: int
    particles: int
    copied: int
    found: Found
    notes: tuple[str, ...]


def import_labels(request: Request, *, report: OnProgress) -> Imported:
    """Write the data folder of a request.

    Raises DataError for input that cannot be used, a folder that is not free, or another reading
    that fits clearly better; StorageError if the folder cannot be written.
    """
    _check(request)
    data_folder.require_free(request.folder, outside=request.micrographs)
    pictures = read_collection(
        request.micrographs, max_megapixels=request.max_megapixels, report=report
    )
    labels, notes = read_labels(request.labels, pictures, sizes=request.sizes, report=report)
    found = _measured(labels, request, report=report)
    if not request.keep_reading:
        _require_fitting(found, labels, request)
    _require_diameters(labels, request)
    kept, left_out = _inside(labels, request)
    notes += _notes(found, left_out=left_out)
    by_name = {label.picture.name: label.picture for label in labels}
    pictures = tuple(_with_pixel_size(by_name.get(one.name, one), request) for one in pictures)
    sources = data_folder.sources_of(pictures, source=request.source)
    validation = data_folder.validation_names(kept, sources, fraction=request.validation_fraction)
    facts = {
        "labels": [str(path) for path in request.labels],
        "micrographs": str(request.micrographs),
        "reading": asdict(request.reading),
        "standard_errors": found.fits[request.reading],
    }
    contents = data_folder.Contents(pictures, kept, validation, sources, facts)
    copied = data_folder.write(request.folder, contents, link=request.link, report=report)
    return Imported(
        labelled=len(kept) - len(validation),
        validation=len(validation),
        pool=len(pictures) - len(kept),
        particles=sum(one.count for one in kept.values()),
        copied=copied,
        found=found,
        notes=notes,
    )


def _check(request: Request) -> None:
    sizes = request.sizes
    if sizes.diameter_px is not None and sizes.diameter_angstrom is not None:
        raise DataError(
            "--diameter-px and --diameter-angstrom are both given", cure="give one of them"
        )
    for name, value in (
        ("--diameter-px", sizes.diameter_px),
        ("--diameter-angstrom", sizes.diameter_angstrom),
        ("--pixel-size", sizes.pixel_size_angstrom),
        ("--scale", request.reading.scale),
    ):
        if value is not None and not (math.isfinite(value) and 1e-3 <= value <= 1e5):
            raise DataError(f"{name} is {value:g}", cure="give a number from 0.001 to 100000")


def _with_pixel_size(picture: Picture, request: Request) -> Picture:
    given = request.sizes.pixel_size_angstrom
    return picture if given is None else replace(picture, pixel_size_angstrom=given)


def _measured(labels: Sequence[Label], request: Request, *, report: OnProgress) -> Found:
    """How well the labels fit each reading."""
    ratios = {label.pixel_size_ratio for label in labels} - {None}
    scales = sorted(filter(None, ratios))[:4]
    ordered = sorted(labels, key=lambda one: hashlib.sha256(one.picture.name.encode()).digest())
    return measure(
        _opened([one for one in ordered if one.coordinates.count], request, report=report),
        request.reading,
        scales=[*scales, *(1 / scale for scale in scales)],
        rng=np.random.default_rng(_SEED),
    )


def _require_diameters(labels: Sequence[Label], request: Request) -> None:
    """Raise DataError for particles that are smaller than a pixel or as large as a picture."""
    for label in labels:
        diameter = label.diameter_px * (request.reading.scale if label.scales else 1.0)
        if label.coordinates.count and not 1 < diameter < min(label.picture.size_px) / 2:
            height, width = label.picture.size_px
            raise DataError(
                f"{label.picture.name}: particles of {diameter:.3g} px in a picture of {height} x "
                f"{width} px",
                cure="check the diameter, its unit and the pixel size",
            )


def _opened(labels: Sequence[Label], request: Request, *, report: OnProgress) -> Iterator[Labelled]:
    for done, label in enumerate(labels):
        report(Progress("compare labels with pictures", done, len(labels), "micrograph"))
        picture = read_picture(label.picture.path, max_megapixels=request.max_megapixels)
        one = label.coordinates
        yield Labelled(label.picture.name, picture, one.centres, label.diameter_px, label.scales)
    report(Progress("compare labels with pictures", len(labels), len(labels), "micrograph"))


def _require_fitting(found: Found, labels: Sequence[Label], request: Request) -> None:
    better = found.better
    outside, total, farthest = _outside(labels, request.reading)
    if better is not None:
        picture = _drawn(found, better, labels, request)
        raise DataError(
            f"the labels fit the pictures clearly better {better.words}: "
            f"{abs(found.fits[better]):.1f} standard errors from chance, {_as_given(request)} "
            f"{abs(found.fits[found.given]):.1f}, random places {abs(found.random_errors):.1f}, on "
            f"{_micrographs(found.micrographs)}; {picture} shows both",
            cure=f"import {_options(better)}, or with --keep-reading to keep them as they are",
        )
    if outside > _MOST_OUTSIDE * total:
        factor = next((one for one in sorted(SCALES, reverse=True) if one * farthest <= 1), None)
        fitting = "" if factor is None else f" (--scale {factor:.6g} would bring all into it)"
        raise DataError(
            f"{outside} of {total} particles lie outside their pictures{fitting}",
            cure="give the micrographs that were picked, or --scale, or leave them out with "
            "--keep-reading",
        )
    if found.odd and found.fitting:
        name, reading = min(found.odd.items())
        raise DataError(
            f"the labels of {len(found.odd)} of {_micrographs(found.micrographs)} fit another "
            f"reading than the others: those of {name}, {reading.words}",
            cure="import files of one kind, or with --keep-reading to keep them as they are",
        )
    ratio = next((one for one in labels if one.pixel_size_ratio is not None), None)
    known = request.sizes.pixel_size_angstrom is not None
    if ratio is not None and request.sizes.diameter_angstrom is not None and not known:
        raise DataError(
            f"{ratio.file} says {ratio.coordinates.pixel_size_angstrom:.4g} angstrom per px, "
            f"{ratio.picture.name} says {ratio.picture.pixel_size_angstrom:.4g}",
            cure="give --pixel-size, of the pictures",
        )


def _micrographs(count: int) -> str:
    return f"{count} micrograph{'s' if count != 1 else ''}"


def _as_given(request: Request) -> str:
    return "as they are" if request.reading == Reading() else f"with {request.reading.options}"


def _options(reading: Reading) -> str:
    if reading == Reading():
        return "without --flip-y, --flip-x, --swap-xy, --corner and --scale"
    return f"with {reading.options}"


def _outside(labels: Sequence[Label], reading: Reading) -> tuple[int, int, float]:
    """Particles outside, all particles, and the farthest place in picture sides."""
    outside, total, farthest = 0, 0, 0.0
    for label in labels:
        places = label.read_as(reading).centres
        outside += int((~_is_inside(places, label.picture)).sum())
        total += len(places)
        if len(places):
            farthest = max(farthest, float((places / label.picture.size_px).max()))
    return outside, total, farthest


def _is_inside(places: np.ndarray, picture: Picture) -> np.ndarray:
    return np.asarray(((places >= 0) & (places <= picture.size_px)).all(axis=1))


def _inside(labels: Sequence[Label], request: Request) -> tuple[Mapping[str, Coordinates], int]:
    """The labels by the picture's name, without particles outside; and the number of those."""
    kept: dict[str, Coordinates] = {}
    left_out = 0
    for label in labels:
        one = label.read_as(request.reading)
        inside = _is_inside(one.centres, label.picture)
        left_out += int((~inside).sum())
        if one.count and not inside.any():
            continue  # not a micrograph without particles, but one whose labels cannot be used
        kept[label.picture.name] = replace(
            one,
            centres=one.centres[inside],
            scores=None if one.scores is None else one.scores[inside],
            diameters_px=None if one.diameters_px is None else one.diameters_px[inside],
        )
    return kept, left_out


def _notes(found: Found, *, left_out: int) -> tuple[str, ...]:
    notes = []
    if left_out:
        notes.append(f"{left_out} particles lie outside their pictures and are left out")
    if found.count < FEWEST:
        notes.append(
            f"only {found.count} labels are far enough from the edges to compare them with the "
            f"pictures, {FEWEST} are needed: look at them with `cryossl data show`"
        )
    elif found.better is not None:
        notes.append(f"the labels are kept as given; {found.better.words} they would fit better")
    elif not found.fitting:
        notes.append(
            f"the pictures do not show that the labels sit on particles "
            f"({abs(found.fits[found.given]):.1f} standard errors from chance, random places "
            f"{abs(found.random_errors):.1f}), in no reading: check that they belong to these "
            "micrographs, and the diameter"
        )
    return tuple(notes)


def _drawn(found: Found, better: Reading, labels: Sequence[Label], request: Request) -> Path:
    """The file beside the target with both readings of the labels of one micrograph."""
    label = max(labels, key=lambda one: one.coordinates.count)
    picture = read_picture(label.picture.path, max_megapixels=request.max_megapixels)
    panels = {}
    for reading in (found.given, better):
        one = label.read_as(reading)
        sides = one.sides_px()
        caption = f"{reading.words}: {abs(found.fits[reading]):.1f} standard errors"
        panels[caption] = (one.centres, float(np.median(sides)))
    folder = request.folder.absolute()
    path = folder.with_name(f"{folder.name}-readings.png")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, reading_picture.draw(picture, panels))
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", cure="choose another folder for --to"
        ) from error
    return path
