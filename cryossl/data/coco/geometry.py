"""The geometry of one annotation, checked before pycocotools reads it.

pycocotools ends the process on a coordinate of 1e12 and returns garbage for run lengths that do not
add up to the picture. So each number is checked before: it is finite, near the picture, and one of
the right count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Float64
from pycocotools import mask as coco_mask

MAX_POLYGON_NUMBERS = 100_000
MAX_FAR = 4.0
"""A coordinate may lie outside the picture, but not by more than this many picture sides."""
MAX_PERIMETERS = 100.0
"""Longest outline, in perimeters of the picture; pycocotools' memory grows with its length."""

RLE = dict[str, Any]
Box = tuple[float, float, float, float]


_NUMBER = re.compile(r"\s*[-+]?\d{1,30}(?:\.\d{0,30})?\s*")


class ShapeError(ValueError):
    """An annotation that cannot be used; the text gives the reason."""


class NoAreaError(ShapeError):
    """An annotation that covers nothing: a stray click, or an outline that was not finished."""


def read_shape(annotation: Mapping[str, Any], *, height_px: int, width_px: int) -> Box | RLE | None:
    """A box (y, x, height, width) in px, or an outline if there is a segmentation.

    An outline is a compressed RLE of the whole picture. None if the shape lies completely outside
    the picture. Raises ShapeError, and NoAreaError for a shape that covers nothing.
    """
    size = (height_px, width_px)
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        polygons = _in_one_spelling(segmentation)
        return _polygons(polygons, size) if polygons else _box(annotation.get("bbox"), size)
    if not segmentation:
        return _box(annotation.get("bbox"), size)
    if not isinstance(segmentation, dict):
        raise ShapeError(f"segmentation is {short(segmentation)}")
    outline = _mask(segmentation, size)
    if not int(coco_mask.area(outline)):
        raise NoAreaError("the mask has no area")
    return outline


def is_dummy(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation stands for missing coordinates: the box [0, 0, 0, 0] and no outline."""
    box = annotation.get("bbox")
    return (
        isinstance(box, list)
        and [number(value) for value in box] == [0, 0, 0, 0]
        and annotation.get("segmentation") in (None, [], [[]], {}, "")
    )


def is_fractional(annotation: Mapping[str, Any]) -> bool:
    """Whether all coordinates are from 0 to 1 and some lie between: parts of the picture's sides.

    Those of the polygons, or of the box if there are none. One of whole numbers may be a click in
    the corner.
    """
    drawn, box = annotation.get("segmentation"), annotation.get("bbox")
    polygons = _in_one_spelling(drawn) if isinstance(drawn, list) else []
    lists = polygons or ([] if drawn else [box])
    values = [number(value) for one in lists if isinstance(one, list) for value in one]
    found = [value for value in values if value is not None and 0 <= value <= 1]
    return len(found) == len(values) >= 4 and not all(map(float.is_integer, found))


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an integer and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number of a possible size and not a boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 and math.isfinite(value)


def number(value: object) -> float | None:
    """A finite number, or a text that is one (`"128.0"`); None for all else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    return float(value) if is_number(value) else None


def whole(value: object) -> int | None:
    """A whole number, also written as 128.0 or `"128"`; None for all else."""
    if is_int(value):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value) and "." not in value:
        return int(value)
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def short(value: object) -> str:
    """A value as JSON-like text of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _box(value: object, size: tuple[int, int]) -> Box | None:
    sides = [number(side) for side in value] if isinstance(value, list) else []
    x, y, width, height = sides if len(sides) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None:
        raise ShapeError(f"bbox is {short(value)}, not four finite numbers")
    if min(width, height) == 0:
        raise NoAreaError(f"bbox {short(value)} has no area")
    if min(width, height) < 0:
        raise ShapeError(f"bbox {short(value)} has a negative side")
    if max(abs(x), abs(y), width, height) > MAX_FAR * max(size):
        raise ShapeError(
            f"bbox {short(value)} is far outside a picture of {size[0]} x {size[1]} px"
        )
    inside = x < size[1] and y < size[0] and x + width > 0 and y + height > 0
    return (y, x, height, width) if inside else None


def _in_one_spelling(segmentation: Sequence[object]) -> list[object]:
    """The polygons as lists of numbers, without empty ones.

    Programs also write one polygon without the list round it, and points as lists [x, y].
    """
    if _is_flat(segmentation):
        return [list(segmentation)] if segmentation else []
    polygons = [polygon for polygon in segmentation if polygon != []]
    if len(polygons) > 2 and all(map(_is_point, polygons)):
        polygons = [polygons]
    return [
        [value for point in polygon for value in point]
        if isinstance(polygon, list) and all(map(_is_point, polygon))
        else polygon
        for polygon in polygons
    ]


def _is_flat(values: Sequence[object]) -> bool:
    return not any(isinstance(value, list | dict) for value in values)


def _is_point(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_flat(value)


def _polygons(polygons: Sequence[object], size: tuple[int, int]) -> RLE | None:
    read = [_polygon(polygon, size) for polygon in polygons]
    outline: RLE = coco_mask.merge(
        coco_mask.frPyObjects([points.ravel().tolist() for points in read], size[0], size[1])
    )
    if int(coco_mask.area(outline)):
        return outline
    if any(
        (points.min(axis=0) < size[::-1]).all() and (points.max(axis=0) > 0).all()
        for points in read
    ):
        raise NoAreaError("a polygon has no area")
    return None


def _polygon(polygon: object, size: tuple[int, int]) -> Float64[np.ndarray, "n 2"]:
    numbers = [number(value) for value in polygon] if isinstance(polygon, list) else [None]
    values = [value for value in numbers if value is not None]
    if len(values) < len(numbers):
        raise ShapeError("a polygon is not a list of finite numbers")
    if len(values) % 2:
        raise ShapeError(
            f"a polygon of {len(values)} numbers; it takes x and y of three points or more"
        )
    if len(values) < 6:
        raise NoAreaError(f"a polygon of {len(values)} numbers has no area")
    if len(values) > MAX_POLYGON_NUMBERS:
        raise ShapeError(f"a polygon of {len(values)} numbers, more than {MAX_POLYGON_NUMBERS}")
    points = np.array(values, dtype=np.float64).reshape(-1, 2)
    if np.abs(points).max() > MAX_FAR * max(size):
        raise ShapeError(f"a polygon is far outside a picture of {size[0]} x {size[1]} px")
    length_px = np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum()
    if length_px > MAX_PERIMETERS * 2 * sum(size):
        raise ShapeError(
            f"a polygon is {length_px:.0f} px long, over {MAX_PERIMETERS:g} times round the picture"
        )
    return points


def _mask(mask: Mapping[str, Any], size: tuple[int, int]) -> RLE:
    stated, counts = mask.get("size"), mask.get("counts")
    if not isinstance(stated, list) or tuple(map(whole, stated)) != size:
        raise ShapeError(
            f"the mask's size is {short(stated)}, the picture's [{size[0]}, {size[1]}]"
        )
    given = _unpack(counts) if isinstance(counts, str) else counts
    found = None if not isinstance(given, list | Iterator) else [whole(run) for run in given]
    runs = [run for run in found or () if run is not None and 0 <= run < 2**32]
    if found is None or len(runs) < len(found):
        raise ShapeError("the mask's counts are not whole numbers of 0 or more")
    if sum(runs) != size[0] * size[1]:
        raise ShapeError(
            f"the mask's counts add up to {sum(runs)}, not to {size[0]} x {size[1]} px"
        )
    outline: RLE = coco_mask.frPyObjects({"size": list(size), "counts": runs}, size[0], size[1])
    return outline


def _unpack(text: str) -> Iterator[int]:
    """The runs of a compressed RLE, decoded without pycocotools.

    pycocotools reads past the end of a broken one. Each character from `0` on has five bits and a
    sixth that says whether more follow; the numbers are signed. From the fourth run on, a number is
    the difference to the run two before (cocoapi, `rleFrString`). Raises ShapeError.
    """
    before, last, index, value, shift = 0, 0, 0, 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ShapeError("the mask's counts are no compressed run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        run = value + before if index > 2 else value
        before, last = last, run
        index, value, shift = index + 1, 0, 0
        yield run
    if shift:
        raise ShapeError("the mask's counts break off")
