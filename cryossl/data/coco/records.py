"""COCO records -> checked images and particles.

Faults are collected, not raised, so that a data set can be repaired at once.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pycocotools import mask as coco_mask

from cryossl.data.coco.geometry import (
    RLE,
    Box,
    NoAreaError,
    ShapeError,
    is_dummy,
    is_fractional,
    is_int,
    number,
    read_shape,
    short,
    whole,
)
from cryossl.system.long_json import Elements

Id = int | str
"""An id of an image or a category: a whole number, however it is written, or another text."""
_PARTICLE = ("particle", "particles")
_FEW = 20
"""Annotations of a file for each one without area that is left out instead of refused."""
_NAMED = 6
"""Records that the one fault of a kind names."""
_QUOTED = re.compile(r"'[^']*'")
_VALUE = re.compile(r"""['"\[{(].*(?:['"\]})]|\.\.\.)|\S*\d\S*|\b(?:None|True|False|nan|inf)\b""")

_REMOVE = "mend or remove the annotation"
_FRACTIONS = "its coordinates are all within 0 and 1, as are all others of its picture"
_MULTIPLY = "coordinates are fractions of the picture; multiply by its sides"
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

    images: Mapping[Id, ImageRecord]
    particles: Mapping[Id, Particles]
    notes: tuple[str, ...]


@dataclass
class FaultList:
    """Collects the faults of one file, and gives them once for each kind, with their count.

    Faults are of one kind if their texts differ in values alone.
    """

    file: str
    _kinds: dict[tuple[str, str], list[Fault]] = field(default_factory=dict)

    def add(self, record: str, problem: str, cure: str) -> None:
        """Add a fault."""
        kind = _VALUE.sub("#", problem), cure
        self._kinds.setdefault(kind, []).append(Fault(self.file, record, problem, cure))

    @property
    def faults(self) -> list[Fault]:
        """One fault for each kind: the first, with how many there are and the next records."""
        return [self._told(same) for same in self._kinds.values()]

    @staticmethod
    def _told(same: Sequence[Fault]) -> Fault:
        first = same[0]
        if len(same) == 1:
            return first
        names = ", ".join(
            fault.record or "".join(_QUOTED.findall(fault.problem)[:1]) for fault in same[1:_NAMED]
        )
        more = names and f": {names}{', ...' if len(same) > _NAMED else ''}"
        problem = f"{first.problem} (and {len(same) - 1} more like it{more})"
        return Fault(first.file, first.record, problem, first.cure)


@dataclass
class _LeftOut:
    """Annotations of one file that are left out and counted."""

    outside: int = 0
    twice: int = 0
    without_area: list[tuple[str, str]] = field(default_factory=list)

    def notes(self, file: str, faults: FaultList, *, annotations: int) -> list[str]:
        """A note on each kind; those without area are faults if they are more than a few."""
        notes = []
        if self.outside:
            notes.append(
                f"{file}: {self.outside} particles lie wholly outside their picture and are left "
                "out"
            )
        if self.twice:
            notes.append(f"{file}: {self.twice} annotations are there twice and are left out")
        if _FEW * len(self.without_area) > annotations:
            for record, problem in self.without_area:
                faults.add(record, problem, _REMOVE)
        elif self.without_area:
            record, problem = self.without_area[0]
            notes.append(
                f"{file}: annotations without area are left out: {len(self.without_area)}, the "
                f"first is {record} ({problem})"
            )
        return notes


def read_records(
    document: object, faults: FaultList, *, sizes: Mapping[str, tuple[int, int]]
) -> Records:
    """A parsed COCO document -> its images and particles.

    Faulty records are left out and added to `faults`. `sizes` holds (height, width) in px by file
    name: for entries without a size of their own, or with one that is no whole number.
    """
    if not isinstance(document, dict):
        faults.add("", f"the document is {short(document)}, not an object", _EXPORT)
        return Records({}, {}, ())
    images = _read_images(_list(document, "images", faults), sizes, faults)
    annotations = _list(document, "annotations", faults)
    wanted, notes = _particle_categories(
        _list(document, "categories", faults, required=False), annotations, faults
    )
    particles: dict[Id, Particles] = {}
    left_out = _LeftOut()
    for image_id, places in _group(annotations, images, faults).items():
        size = _size(images[image_id], sizes)
        rows = [(index, annotations[index]) for index in places]
        read = None if size is None else _read_particles(rows, wanted, size, left_out, faults)
        if read is not None:
            particles[image_id] = read
    notes += left_out.notes(faults.file, faults, annotations=len(annotations))
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
    if not isinstance(value, list | Elements):
        problem = (
            f"{key!r} is {short(value)}, not a list" if key in document else f"{key!r} is missing"
        )
        faults.add("", problem, _EXPORT)
        return []
    return value


def _id(value: object) -> Id | None:
    """An id in one spelling; None for what is none."""
    found = whole(value)
    return (
        found if found is not None else (value.strip() or None) if isinstance(value, str) else None
    )


def _read_images(
    entries: Sequence[Any], sizes: Mapping[str, tuple[int, int]], faults: FaultList
) -> dict[Id, ImageRecord]:
    images: dict[Id, ImageRecord] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        label = _label("image", entry, index)
        image_id = _id(entry.get("id")) if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if image_id is None or not isinstance(name, str):
            faults.add(label, "it needs an `id` and a text `file_name`", "mend the entry")
        elif image_id in images:
            faults.add(
                label, f"the id {short(image_id)} occurs twice", "give each image its own id"
            )
        elif name in names:
            faults.add(label, f"the file name {short(name)} occurs twice", "list each picture once")
        else:
            names.add(name)
            images[image_id] = _image_record(entry, name, sizes.get(name), label, faults)
    return images


def _image_record(
    entry: Mapping[str, Any],
    name: str,
    size: tuple[int, int] | None,
    label: str,
    faults: FaultList,
) -> ImageRecord:
    source, pixel = entry.get("source"), entry.get("pixel_size_angstrom")
    if source is not None and not is_int(source) and not isinstance(source, str):
        faults.add(label, f"source is {short(source)}", "give a text, e.g. the EMPIAR id")
        source = None
    pixel_size = None if pixel is None else number(pixel)
    if pixel is not None and (pixel_size is None or pixel_size <= 0):
        faults.add(label, f"pixel_size_angstrom is {short(pixel)}", "give a number above 0")
        pixel_size = None
    real = size or (None, None)
    return ImageRecord(
        name,
        _side("height", entry, real[0], label, faults),
        _side("width", entry, real[1], label, faults),
        source="" if source is None else str(source).strip(),
        pixel_size_angstrom=pixel_size,
    )


def _side(
    side: str, entry: Mapping[str, Any], real: int | None, label: str, faults: FaultList
) -> int | None:
    """A side in px; the picture's own if the entry has none, or a fraction of a px beside it."""
    value = entry.get(side)
    stated = number(value)
    if value in (None, "") or stated == 0:
        return None
    if stated is not None and real is not None and abs(stated - real) < 1:
        return real
    found = whole(value)
    if found is not None and 0 < found < 2**31:
        return found
    faults.add(label, f"{side} is {short(value)}", "give a whole number of px above 0")
    return None


def _particle_categories(
    entries: Sequence[Any], annotations: Sequence[Any], faults: FaultList
) -> tuple[Mapping[Id, bool] | None, list[str]]:
    """Category id -> whether it means particles, by name, with notes; None where all of them do.

    Names are used because data sets do not agree on ids.
    """
    names = _category_names(entries, faults)
    used = {_id(entry.get("category_id")) for entry in annotations if isinstance(entry, dict)}
    parents = {
        str(entry.get("supercategory", "")).strip().lower()
        for entry in entries
        if isinstance(entry, dict) and str(entry.get("name")) != str(entry.get("supercategory"))
    }
    # A root such as Roboflow's, with the project's name, only groups the classes.
    roots = {key for key, name in names.items() if name.lower() in parents and key not in used}
    names = {key: name for key, name in names.items() if key not in roots} or names
    chosen = frozenset(key for key, name in names.items() if name.lower() in _PARTICLE)
    others = ", ".join(sorted(short(names[key]) for key in names.keys() - chosen))
    if chosen:
        note = f"{faults.file}: only the category `particle` is read, not {others}"
        return {key: key in chosen for key in names}, [note] if others else []
    if not others:
        return None, []
    note = f"{faults.file}: no category is called `particle`: all of {others} count as particles"
    return None, [note]


def _category_names(entries: Sequence[Any], faults: FaultList) -> dict[Id, str]:
    """Category id -> name."""
    names: dict[Id, str] = {}
    for index, entry in enumerate(entries):
        label = _label("category", entry, index)
        category_id = _id(entry.get("id")) if isinstance(entry, dict) else None
        if category_id is None or not isinstance(entry.get("name"), str):
            faults.add(label, "it needs an `id` and a text `name`", "mend the entry")
        elif category_id in names:
            faults.add(
                label, f"the id {short(category_id)} occurs twice", "give each category its own id"
            )
        else:
            names[category_id] = entry["name"].strip()
    return names


def _group(
    entries: Sequence[Any],
    images: Mapping[Id, ImageRecord],
    faults: FaultList,
) -> dict[Id, array[int]]:
    """The indices of annotations with coordinates by image id, in the file's order."""
    grouped: dict[Id, array[int]] = defaultdict(lambda: array("Q"))
    for index, entry in enumerate(entries):
        label = _label("annotation", entry, index)
        if not isinstance(entry, dict):
            faults.add(label, f"it is {short(entry)}, not an object", _REMOVE)
            continue
        image_id = _id(entry.get("image_id"))
        if image_id is None or image_id not in images:
            problem = f"image_id {short(entry.get('image_id'))} is not among the images"
            faults.add(label, problem, _REMOVE)
            continue
        if not is_dummy(entry):
            grouped[image_id].append(index)
    return grouped


def _read_particles(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    wanted: Mapping[Id, bool] | None,
    size: tuple[int, int],
    left_out: _LeftOut,
    faults: FaultList,
) -> Particles | None:
    """The particles of one picture.

    None if the picture is unlabelled, that is, if it has only annotations without coordinates or
    without area.
    """
    if all(is_fractional(entry) for _, entry in rows):
        index, entry = rows[0]
        faults.add(_label("annotation", entry, index), _FRACTIONS, _MULTIPLY)
        return None
    shapes: list[Box | RLE | Literal["outside", "other"]] = []
    seen: set[Box | bytes] = set()
    outside = ""
    for index, entry in rows:
        label = _label("annotation", entry, index)
        try:
            shape = _shape(entry, wanted, size)
        except NoAreaError as error:
            left_out.without_area.append((label, str(error)))
            continue
        except ShapeError as error:
            faults.add(label, str(error), _REMOVE)
            continue
        if isinstance(shape, str):
            outside = outside or (label if shape == "outside" else "")
        elif (read := shape["counts"] if isinstance(shape, dict) else shape) in seen:
            left_out.twice += 1
            continue
        else:
            seen.add(read)
        shapes.append(shape)
    boxes = [shape for shape in shapes if isinstance(shape, tuple)]
    outlines = tuple(shape for shape in shapes if isinstance(shape, dict))
    left_out.outside += shapes.count("outside")
    if outside and not boxes and not outlines:
        faults.add(
            outside,
            "it lies outside its picture, and so do all other particles there",
            "check that coordinates and pictures are at the same scale",
        )
    # Only annotations of another category: the picture is annotated and has no particle.
    return Particles(np.array(boxes, dtype=np.float64).reshape(-1, 4), outlines) if shapes else None


def _shape(
    entry: Mapping[str, Any], wanted: Mapping[Id, bool] | None, size: tuple[int, int]
) -> Box | RLE | Literal["outside", "other"]:
    if not _is_wanted(entry, wanted):
        return "other"
    return read_shape(entry, height_px=size[0], width_px=size[1]) or "outside"


def _is_wanted(entry: Mapping[str, Any], wanted: Mapping[Id, bool] | None) -> bool:
    if wanted is None:
        return True
    category = _id(entry.get("category_id"))
    if entry.get("category_id") is None and len(wanted) == 1:
        return True
    if category is None or category not in wanted:
        raise ShapeError(
            f"category_id {short(entry.get('category_id'))} is not among the categories"
        )
    return wanted[category]


def _label(kind: str, entry: object, index: int) -> str:
    own_id = _id(entry.get("id")) if isinstance(entry, dict) else None
    return f"{kind} {short(own_id)}" if is_int(own_id) else f"{kind} number {index + 1}"
