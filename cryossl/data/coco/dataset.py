"""A COCO data set of micrographs -> micrographs, particles and label maps.

CryoTransformer's peculiarities are handled here. COCO's x, y become (y, x). Every particle counts,
with any value of `iscrowd`. The box [0, 0, 0, 0] means that the coordinates are missing, so the
micrograph is unlabelled. Categories are matched by name, images by id.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from cryossl.data.coco.layout import (
    DataFolder,
    PartFiles,
    find_parts,
    is_elsewhere,
    locate,
    real,
    survey,
)
from cryossl.data.coco.rasterise import rasterise
from cryossl.data.coco.records import (
    Fault,
    FaultList,
    Particles,
    Records,
    read_records,
)
from cryossl.data.images import read_size
from cryossl.data.sources import (
    Description,
    assign,
    border_px,
    counts_text,
    diameter_px,
    is_plain,
    parse_table,
)
from cryossl.errors import DataError, nearest
from cryossl.system.user_files import MAX_LIST_BYTES, read_json, read_text

__all__ = [
    "DataSet",
    "Fault",
    "Micrograph",
    "Part",
    "Particles",
    "measured",
    "rasterise",
    "read_dataset",
    "scan",
]


Boxes = Float64[np.ndarray, "n 4"]


@dataclass(frozen=True)
class Micrograph:
    """One picture of a data set.

    `id` is its path relative to the data root, with `/`; sizes are in px of the file.
    """

    id: str
    path: Path
    height_px: int
    width_px: int
    source: str
    pixel_size_angstrom: float | None


_Found = tuple[Micrograph, Particles | None]
"""A picture on disk; until the sources are known, its source is what its entry states."""


@dataclass(frozen=True)
class Part:
    """The train, validation or test part; micrographs sorted by id.

    A micrograph that is not a key of `particles` is unlabelled. One with an empty value is
    annotated and has no particle.
    """

    micrographs: tuple[Micrograph, ...]
    particles: Mapping[str, Particles]


@dataclass(frozen=True)
class DataSet:
    """The content of a data folder.

    `border_px` and `diameter_px` are by source, in px of the file; a source without labels has no
    diameter.
    """

    root: Path
    train: Part
    validation: Part
    test: Part | None
    border_px: Mapping[str, int]
    diameter_px: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Part]:
        """Part name -> part, for the parts that exist."""
        parts = {"train": self.train, "validation": self.validation}
        return parts if self.test is None else parts | {"test": self.test}


def read_dataset(
    root: Path,
    *,
    border: Literal["auto"] | int,
    max_megapixels: float,
    follow_links: bool = False,
) -> DataSet:
    """The data set in a folder; headers are read, but no picture is decoded.

    `border` is in px of the file, or `auto`: estimated for each source from all labels. `measured`
    restricts the estimate to some labels. With `follow_links` links may lead out of the folder.
    Raises DataError with the first fault and the number of the others.
    """
    dataset, faults = scan(
        root, border=border, max_megapixels=max_megapixels, follow_links=follow_links
    )
    if faults or dataset is None:
        more = (
            f"; {len(faults) - 1} more faults, `cryossl data check` lists them"
            if len(faults) > 1
            else ""
        )
        raise DataError(str(faults[0]), cure=faults[0].cure + more)
    return dataset


def scan(
    root: Path,
    *,
    border: Literal["auto"] | int,
    max_megapixels: float,
    follow_links: bool = False,
) -> tuple[DataSet | None, tuple[Fault, ...]]:
    """The data set with all faults in one list, or None if a fault prevents reading."""
    place = DataFolder(root, follow_links)
    try:
        parts, layout_notes = find_parts(place)
        table_file = root / "sources.csv"
        table = (
            parse_table(
                read_text(
                    table_file,
                    name=table_file.name,
                    max_bytes=MAX_LIST_BYTES,
                    smaller="write patterns such as 10017_*",
                    inside=None if follow_links else root,
                ),
                name=table_file.name,
            )
            if os.path.lexists(table_file)
            else ()
        )
    except DataError as error:
        problem, cure = error.cause, error.cure
        return None, (Fault(str(root), "", problem.removeprefix(f"{root}: "), cure),)
    faults: list[Fault] = []
    notes = list(layout_notes)
    found: dict[str, dict[str, _Found]] = {}
    for name, files in parts.items():
        found[name], part_notes = _read_part(place, files, max_megapixels, faults)
        notes += part_notes
    _check_parts(root, found, faults)
    descriptions = [
        Description(one.id, one.height_px, one.width_px, one.source)
        for entries in found.values()
        for one, _ in entries.values()
    ]
    sources, source_notes = assign(descriptions, table=table)
    notes += source_notes
    names = FaultList("")
    for source, micrograph_id in sorted({source: key for key, source in sources.items()}.items()):
        if not is_plain(source):
            names.add(
                micrograph_id,
                f"its source {source[:80]!r} is no plain name",
                "use up to 64 letters, digits, dots, dashes, underscores and blanks",
            )
    faults += names.faults
    built = {name: _part(entries, sources) for name, entries in found.items()}
    test = built.get("test")
    if test is not None and not test.particles:
        notes.append("the test part has no labelled micrograph and is left out")
        test = None
    if faults:
        return None, tuple(faults)
    dataset = DataSet(root, built["train"], built["validation"], test, {}, {}, tuple(notes))
    return measured(dataset, border=border, visible=None), ()


def measured(
    dataset: DataSet, *, border: Literal["auto"] | int, visible: Collection[str] | None
) -> DataSet:
    """The data set with border and diameter measured on the labels of the `visible` micrographs.

    None means all micrographs. A benchmark hides most labels; a border measured on hidden labels
    would leak into training.
    """
    bounds: dict[str, list[tuple[Boxes, int, int]]] = defaultdict(list)
    for part in dataset.parts.values():
        for micrograph in part.micrographs:
            seen = micrograph.id in part.particles and (visible is None or micrograph.id in visible)
            labels = bounds[micrograph.source]
            if seen:
                boxes = part.particles[micrograph.id].bounds
                labels.append((boxes, micrograph.height_px, micrograph.width_px))
    borders, diameters = {}, {}
    for source, labels in sorted(bounds.items()):
        borders[source] = border_px(labels) if border == "auto" else border
        diameter = diameter_px([boxes for boxes, _, _ in labels])
        if diameter is not None:
            diameters[source] = diameter
    return dataclasses.replace(dataset, border_px=borders, diameter_px=diameters)


def only(dataset: DataSet, sources: Collection[str]) -> DataSet:
    """The data set with only the micrographs of these sources.

    Raises DataError for a source that the data set does not have.
    """
    there = [
        micrograph.source for part in dataset.parts.values() for micrograph in part.micrographs
    ]
    missing = sorted(set(sources).difference(there))
    if missing:
        raise DataError(
            f"{dataset.root} has no source {missing[0]!r:.80}",
            cure=f"{nearest(missing[0], set(there))}there are {counts_text(there)}",
        )
    kept = {}
    for name, part in dataset.parts.items():
        micrographs = tuple(one for one in part.micrographs if one.source in sources)
        kept[name] = Part(
            micrographs,
            {one.id: part.particles[one.id] for one in micrographs if one.id in part.particles},
        )
    return dataclasses.replace(
        dataset, train=kept["train"], validation=kept["validation"], test=kept.get("test")
    )


def _read_part(
    place: DataFolder, files: PartFiles, max_megapixels: float, faults: list[Fault]
) -> tuple[dict[str, _Found], tuple[str, ...]]:
    """The pictures of a part by id, both those in the annotation file and the others, and notes."""
    root = place.root
    try:
        within = None if place.follow_links else root
        document = read_json(files.annotations, nan_is_null=True, inside=within, long="annotations")
        there, notes = survey(files, place)
    except DataError as error:
        faults.append(Fault(_relative(files.annotations, root), "", error.cause, error.cure))
        return {}, ()
    collected = FaultList(_relative(files.annotations, root))
    paths: dict[str, Path] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in _names(document):
        try:
            paths[name] = locate(name, folder=files.folder, place=place)
        except DataError as error:
            collected.add("", error.cause, error.cure)
            continue
        try:
            sizes[name] = read_size(paths[name], max_megapixels=max_megapixels)
        except DataError as error:
            faults.append(picture_fault(paths[name], root, error))
    records = read_records(document, collected, sizes=sizes)
    found = _match(root, paths, sizes, records, collected)
    listed = {real(path) for path in paths.values()}
    for path in there:
        if real(path) not in listed:
            _add_unlisted(place, path, max_megapixels, found, faults)
    faults += collected.faults
    return found, (*records.notes, *_elsewhere_notes(collected.file, root, paths), *notes)


def _elsewhere_notes(file: str, root: Path, paths: Mapping[str, Path]) -> tuple[str, ...]:
    names = [name for name in paths if is_elsewhere(name)]
    if not names:
        return ()
    return (
        f"{file}: {len(names)} file names are paths of another machine, and only their ends are "
        f"used: {names[0][:80]!r} is {_relative(paths[names[0]], root)}",
    )


def _names(document: object) -> list[str]:
    images = document.get("images") if isinstance(document, dict) else None
    entries = images if isinstance(images, list) else []
    return list(
        dict.fromkeys(
            entry["file_name"]
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
        )
    )


def _match(
    root: Path,
    paths: Mapping[str, Path],
    sizes: Mapping[str, tuple[int, int]],
    records: Records,
    faults: FaultList,
) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for image_id, record in records.images.items():
        size = sizes.get(record.file_name)
        if size is None:
            continue
        stated = (record.height_px or size[0], record.width_px or size[1])
        if stated != size:
            faults.add(
                f"image {image_id}",
                f"{record.file_name!r} is {size[0]} x {size[1]} px (height x width), "
                f"the entry says {stated[0]} x {stated[1]}",
                "use the picture that the entry was made for",
            )
            continue
        micrograph_id = _relative(paths[record.file_name], root)
        if micrograph_id in found:
            faults.add(
                f"image {image_id}",
                f"{record.file_name!r} is also another entry's",
                "list each picture once",
            )
        else:
            path, pixel = paths[record.file_name], record.pixel_size_angstrom
            micrograph = Micrograph(micrograph_id, path, *size, record.source, pixel)
            found[micrograph_id] = (micrograph, records.particles.get(image_id))
    return found


def _add_unlisted(
    place: DataFolder,
    path: Path,
    max_megapixels: float,
    found: dict[str, _Found],
    faults: list[Fault],
) -> None:
    """Add the pictures that are not in the annotation file, as unlabelled ones."""
    try:
        place.require(path, path.name)
        micrograph_id = _relative(path, place.root)
        size = read_size(path, max_megapixels=max_megapixels)
        found[micrograph_id] = (Micrograph(micrograph_id, path, *size, "", None), None)
    except DataError as error:
        faults.append(picture_fault(path, place.root, error))


def picture_fault(path: Path, root: Path, error: DataError) -> Fault:
    """The error of `read_size` or `read_picture` as a fault of the micrograph."""
    problem, cure = error.cause, error.cure
    return Fault(_relative(path, root), "", problem.removeprefix(f"{path}: "), cure)


def _check_parts(
    root: Path, found: Mapping[str, Mapping[str, _Found]], faults: list[Fault]
) -> None:
    seen: dict[str, str] = {}
    for name, entries in found.items():
        for micrograph_id in entries:
            if micrograph_id in seen:
                faults.append(
                    Fault(
                        micrograph_id,
                        "",
                        f"it is both in {seen[micrograph_id]} and in {name}",
                        "keep it in one part",
                    )
                )
            seen[micrograph_id] = name
    if faults:
        return
    for name in ("train", "validation"):
        if not any(particles and particles.count for _, particles in found[name].values()):
            faults.append(
                Fault(
                    str(root),
                    "",
                    f"the {name} part has no labelled particle",
                    "annotate some of its micrographs",
                )
            )


def _part(entries: Mapping[str, _Found], sources: Mapping[str, str]) -> Part:
    ordered = [(name, *entries[name]) for name in sorted(entries)]
    return Part(
        tuple(
            dataclasses.replace(micrograph, source=sources[name]) for name, micrograph, _ in ordered
        ),
        {name: particles for name, _, particles in ordered if particles is not None},
    )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
