"""COCO records -> checked images and particles.

Faults are collected, not raised, so that a data set can be repaired at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64
from pycocotools import mask as coco_mask

from cryossl.data.coco.geometry import (
    RLE,
    Box,
    ShapeError,
    is_dummy,
    is_int,
    is_number,
    read_shape,
    short,
)

_REMOVE = "mend or remove the annotation"
_EXPORT = "export the annotations as COCO JSON"


@dataclass(frozen=True)
class Fault:
    """One fault of a data set: the file, the record, the reason and the cure."""

    file: str
    record: str
    problem: str
    cure: str

    def __str__(self) -> str:
        """One line, without the cure."""
        return ": ".join(word for word in (self.file, self.record, self.problem) if word)


@dataclass(frozen=True)
class Particles:
    """The annotated particles of one micrograph, in px of the original picture.

    `boxes` are the particles with only a box, rows (y, x, height, width) as in the file; they may
    leave the picture. `outlines` are the particles with a polygon or a run-length mask, as
    compressed RLE of the whole picture.
    """

    boxes: Float64[np.ndarray, "n 4"]
    outlines: tuple[RLE, ...] = ()

    @property
    def count(self) -> int:
        """Number of particles, of either kind."""
        return len(self.boxes) + len(self.outlines)

    @cached_property
    def bounds(self) -> Float64[np.ndarray, "m 4"]:
        """Boxes of all particles, rows (y, x, height, width) in px, also of outlines."""
        if not self.outlines:
            return self.boxes
        drawn = np.asarray(coco_mask.toBbox(list(self.outlines)), dtype=np.float64).reshape(-1, 4)
        return np.concatenate([self.boxes, drawn[:, [1, 0, 3, 2]]])


@dataclass(frozen=True)
class ImageRecord:
    """One entry of `images`; a value is None, or the source empty, if the file does not give it."""

    file_name: str
    height_px: int | None
    width_px: int | None
    source: str
    pixel_size_angstrom: float | None


@dataclass(frozen=True)
class Records:
    """The checked content of one annotation file.

    `particles` is by image id; an image without entry is unlabelled.
    """

    images: Mapping[int, ImageRecord]
    particles: Mapping[int, Particles]
    notes: tuple[str, ...]


@dataclass
class FaultList:
    """Collects the faults of one file."""

    file: str
    faults: list[Fault] = field(default_factory=list)

    def add(self, record: str, problem: str, cure: str) -> None:
        """Add a fault."""
        self.faults.append(Fault(self.file, record, problem, cure))


def read_records(
    document: object, faults: FaultList, *, sizes: Mapping[str, tuple[int, int]]
) -> Records:
    """A parsed COCO document -> its images and particles.

    Faulty records are left out and added to `faults`. `sizes` holds (height, width) in px by file
    name, for entries without a size of their own.
    """
    if not isinstance(document, dict):
        faults.add("", f"the document is {short(document)}, not an object", _EXPORT)
        return Records({}, {}, ())
    images = _read_images(_list(document, "images", faults), faults)
    wanted, notes = _particle_categories(
        _list(document, "categories", faults, required=False), faults
    )
    particles: dict[int, Particles] = {}
    outside = 0
    for image_id, rows in _group(_list(document, "annotations", faults), images, faults).items():
        size = _size(images[image_id], sizes)
        read = None if size is None else _read_particles(rows, wanted, size, faults)
        if read is not None:
            particles[image_id], dropped = read
            outside += dropped
    if outside:
        notes.append(
            f"{faults.file}: {outside} particles lie wholly outside their picture and are left out"
        )
    return Records(images, particles, tuple(notes))


def _size(record: ImageRecord, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """The size of the entry or of its picture.

    None for an entry without a size if its picture already has a fault.
    """
    if record.height_px is None or record.width_px is None:
        return sizes.get(record.file_name)
    return record.height_px, record.width_px


def _list(
    document: Mapping[str, Any], key: str, faults: FaultList, *, required: bool = True
) -> Sequence[Any]:
    value = document.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        problem = (
            f"{key!r} is {short(value)}, not a list" if key in document else f"{key!r} is missing"
        )
        faults.add("", problem, _EXPORT)
        return []
    return value


def _read_images(entries: Sequence[Any], faults: FaultList) -> dict[int, ImageRecord]:
    images: dict[int, ImageRecord] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        label = _label("image", entry, index)
        image_id = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not is_int(image_id) or not isinstance(name, str):
            faults.add(
                label, "it needs a whole number `id` and a text `file_name`", "mend the entry"
            )
        elif image_id in images:
            faults.add(
                label, f"the id {short(image_id)} occurs twice", "give each image its own id"
            )
        elif name in names:
            faults.add(label, f"the file name {short(name)} occurs twice", "list each picture once")
        else:
            names.add(name)
            images[image_id] = _image_record(entry, name, label, faults)
    return images


def _image_record(
    entry: Mapping[str, Any], name: str, label: str, faults: FaultList
) -> ImageRecord:
    source, pixel = entry.get("source"), entry.get("pixel_size_angstrom")
    if source is not None and not is_int(source) and not isinstance(source, str):
        faults.add(label, f"source is {short(source)}", "give a text, e.g. the EMPIAR id")
        source = None
    if pixel is not None and not (is_number(pixel) and pixel > 0):
        faults.add(label, f"pixel_size_angstrom is {short(pixel)}", "give a number above 0")
        pixel = None
    return ImageRecord(
        name,
        _side("height", entry, label, faults),
        _side("width", entry, label, faults),
        source="" if source is None else str(source).strip(),
        pixel_size_angstrom=None if pixel is None else float(pixel),
    )


def _side(side: str, entry: Mapping[str, Any], label: str, faults: FaultList) -> int | None:
    value = entry.get(side)
    if is_int(value) and 0 < value < 2**31:
        return value
    if value is not None:
        faults.add(label, f"{side} is {short(value)}", "give a whole number of px above 0")
    return None


def _particle_categories(
    entries: Sequence[Any], faults: FaultList
) -> tuple[Mapping[int, bool] | None, list[str]]:
    """Category id -> whether it means particles, by name, with notes; None where all of them do.

    Names are used because data sets do not agree on ids.
    """
    names: dict[int, str] = {}
    for index, entry in enumerate(entries):
        label = _label("category", entry, index)
        category_id = entry.get("id") if isinstance(entry, dict) else None
        if not is_int(category_id) or not isinstance(entry.get("name"), str):
            faults.add(label, "it needs a whole number `id` and a text `name`", "mend the entry")
        elif category_id in names:
            faults.add(
                label, f"the id {short(category_id)} occurs twice", "give each category its own id"
            )
        else:
            names[category_id] = entry["name"]
    chosen = frozenset(
        key for key, name in names.items() if name.strip().lower() in ("particle", "particles")
    )
    others = ", ".join(sorted(short(names[key]) for key in names.keys() - chosen))
    if chosen:
        note = f"{faults.file}: only the category `particle` is read, not {others}"
        return {key: key in chosen for key in names}, [note] if others else []
    if len(names) > 1:
        return None, [
            f"{faults.file}: no category is called `particle`: all of {others} count as particles"
        ]
    return None, []


def _group(
    entries: Sequence[Any], images: Mapping[int, ImageRecord], faults: FaultList
) -> dict[int, list[tuple[int, Mapping[str, Any]]]]:
    """Annotations by image id, in the order of the file, each with its index there."""
    grouped: dict[int, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        problem = _reference_problem(entry, images, seen)
        if problem:
            faults.add(_label("annotation", entry, index), problem, _REMOVE)
        else:
            grouped[entry["image_id"]].append((index, entry))
        if isinstance(entry, dict) and is_int(entry.get("id")):
            seen.add(entry["id"])
    return grouped


def _reference_problem(entry: object, images: Mapping[int, ImageRecord], seen: set[int]) -> str:
    if not isinstance(entry, dict):
        return f"it is {short(entry)}, not an object"
    image_id, own_id = entry.get("image_id"), entry.get("id")
    if own_id is not None and not is_int(own_id):
        return f"its id is {short(own_id)}, not a whole number"
    if own_id in seen:
        return f"the id {short(own_id)} occurs twice"
    if not is_int(image_id) or image_id not in images:
        return f"image_id {short(image_id)} is not among the images"
    return ""


def _read_particles(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    wanted: Mapping[int, bool] | None,
    size: tuple[int, int],
    faults: FaultList,
) -> tuple[Particles, int] | None:
    """The particles of one picture, and the number of those outside it.

    The particles are None if the picture is unlabelled, that is, if it has only dummy annotations.
    """
    # Only annotations of another category: the picture is annotated and has no particle.
    examined = [(index, entry) for index, entry in rows if not is_dummy(entry)]
    if not examined:
        return None
    boxes: list[Box] = []
    outlines: list[RLE] = []
    outside: list[str] = []
    for index, entry in examined:
        try:
            if not _is_wanted(entry, wanted):
                continue
            shape = read_shape(entry, height_px=size[0], width_px=size[1])
        except ShapeError as error:
            faults.add(_label("annotation", entry, index), str(error), _REMOVE)
            continue
        if shape is None:
            outside.append(_label("annotation", entry, index))
        elif isinstance(shape, dict):
            outlines.append(shape)
        else:
            boxes.append(shape)
    if outside and not boxes and not outlines:
        faults.add(
            outside[0],
            "it has no area within its picture, like all other particles there",
            "check that coordinates and pictures are at the same scale",
        )
    return Particles(np.array(boxes, dtype=np.float64).reshape(-1, 4), tuple(outlines)), len(
        outside
    )


def _is_wanted(entry: Mapping[str, Any], wanted: Mapping[int, bool] | None) -> bool:
    if wanted is None:
        return True
    category = entry.get("category_id")
    if not is_int(category) or category not in wanted:
        raise ShapeError(f"category_id {short(category)} is not among the categories")
    return wanted[category]


def _label(kind: str, entry: object, index: int) -> str:
    own_id = entry.get("id") if isinstance(entry, dict) else None
    return f"{kind} {short(own_id)}" if is_int(own_id) else f"{kind} number {index + 1}"
