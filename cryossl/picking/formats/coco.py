"""COCO JSON of particles: read by the data set's own reader, written in one pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cryossl.data.coco.records import FaultList, read_records
from cryossl.errors import DataError
from cryossl.picking.coordinates import Coordinates
from cryossl.system.user_files import read_json

PARTICLE, BACKGROUND = ({"id": 1, "name": "particle"}, {"id": 2, "name": "background"})


def read(path: Path) -> list[Coordinates]:
    """The particles of the annotated images; unlabelled images are left out. Raises DataError."""
    faults = FaultList(str(path))
    records = read_records(read_json(path, long="annotations"), faults, sizes={})
    if faults.faults:
        raise DataError(str(faults.faults[0]), cure=faults.faults[0].cure)
    found = []
    for image_id, particles in records.particles.items():
        image, bounds = records.images[image_id], particles.bounds
        size = (image.height_px, image.width_px)
        found.append(
            Coordinates(
                image.file_name,
                bounds[:, :2] + bounds[:, 2:] / 2,
                diameters_px=bounds[:, 2:].mean(axis=1),
                picture_px=None if size[0] is None or size[1] is None else (size[0], size[1]),
                pixel_size_angstrom=image.pixel_size_angstrom,
            )
        )
    return found


def text(
    all_of_them: Iterable[Coordinates], *, unlabelled: Iterable[Coordinates] = ()
) -> Iterator[str]:
    """A COCO document in pieces, the annotations before the images.

    Each micrograph has its picture's size, and diameters unless it has no particle; `unlabelled`
    ones are listed as images alone. A micrograph without particles has one annotation of the
    category `background`, without which it would count as unlabelled. Raises ValueError.
    """
    images: list[dict[str, Any]] = []
    number = 0
    categories = [PARTICLE]
    yield '{"annotations": ['
    for one in all_of_them:
        if not one.count:
            categories = [PARTICLE, BACKGROUND]
        entries = _annotations(one, image_id=len(images))
        images.append(_image(one, image_id=len(images)))
        for entry in entries:
            number += 1
            yield ("\n" if number == 1 else ",\n") + json.dumps({"id": number, **entry})
    for one in unlabelled:
        images.append(_image(one, image_id=len(images)))
    yield f'\n], "categories": {json.dumps(categories)}, "images": [\n'
    yield ",\n".join(json.dumps(image) for image in images) + "\n]}\n"


def _image(one: Coordinates, *, image_id: int) -> dict[str, Any]:
    if one.picture_px is None:
        raise ValueError(f"the size of {one.micrograph} is not known")
    entry: dict[str, Any] = {"id": image_id, "file_name": one.micrograph}
    entry["height"], entry["width"] = one.picture_px
    if one.pixel_size_angstrom is not None:
        entry["pixel_size_angstrom"] = one.pixel_size_angstrom
    return entry


def _annotations(one: Coordinates, *, image_id: int) -> Iterator[dict[str, Any]]:
    if not one.count:
        whole = [0, 0, *reversed(one.picture_px or (1, 1))]
        yield {"image_id": image_id, "category_id": BACKGROUND["id"], "iscrowd": 0, "bbox": whole}
        return
    sides = one.sides_px()
    scores = [None] * one.count if one.scores is None else one.scores
    corners = one.centres - sides[:, None] / 2
    for (y, x), side, score in zip(corners, sides, scores, strict=True):
        box = [round(float(value), 4) for value in (x, y, side, side)]
        entry = {"image_id": image_id, "category_id": PARTICLE["id"], "iscrowd": 0, "bbox": box}
        entry["area"] = round(float(np.square(side)), 3)
        yield entry if score is None else {**entry, "score": float(score)}
