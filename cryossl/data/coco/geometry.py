"""The geometry of one annotation, checked before pycocotools reads it.

pycocotools ends the process on a coordinate of 1e12 and returns garbage for run lengths that do not
add up to the picture. So each number is checked before: it is finite, near the picture, and one of
the right count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as coco_mask

MAX_POLYGON_NUMBERS = 100_000
MAX_FAR = 4.0
"""A coordinate may lie outside the picture, but not by more than this many picture sides."""
MAX_PERIMETERS = 100.0
"""Longest outline, in perimeters of the picture; pycocotools' memory grows with its length."""

RLE = dict[str, Any]
Box = tuple[float, float, float, float]


class ShapeError(ValueError):
    """An annotation that cannot be used; the text gives the reason."""


def read_shape(annotation: Mapping[str, Any], *, height_px: int, width_px: int) -> Box | RLE | None:
    """A box (y, x, height, width) in px, or an outline if there is a segmentation.

    An outline is a compressed RLE of the whole picture. None if the shape lies completely outside
    the picture. Raises ShapeError.
    """
    size = (height_px, width_px)
    segmentation = annotation.get("segmentation")
    if segmentation is None or segmentation == []:
        return _box(annotation.get("bbox"), size)
    if isinstance(segmentation, dict):
        outline = _mask(segmentation, size)
    elif isinstance(segmentation, list):
        outline = _polygons(segmentation, size)
    else:
        raise ShapeError(f"segmentation is {short(segmentation)}")
    return outline if int(coco_mask.area(outline)) else None


def is_dummy(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation stands for missing coordinates: the box [0, 0, 0, 0] and no outline."""
    return annotation.get("bbox") == [0, 0, 0, 0] and not annotation.get("segmentation")


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an integer and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number of a possible size and not a boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 and math.isfinite(value)


def short(value: object) -> str:
    """A value as JSON-like text of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _box(value: object, size: tuple[int, int]) -> Box | None:
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise ShapeError(f"bbox is {short(value)}, not four finite numbers")
    x, y, width, height = map(float, value)
    if width <= 0 or height <= 0:
        raise ShapeError(f"bbox {short(value)} has no area")
    if max(abs(x), abs(y), width, height) > MAX_FAR * max(size):
        raise ShapeError(
            f"bbox {short(value)} is far outside a picture of {size[0]} x {size[1]} px"
        )
    inside = x < size[1] and y < size[0] and x + width > 0 and y + height > 0
    return (y, x, height, width) if inside else None


def _polygons(polygons: Sequence[object], size: tuple[int, int]) -> RLE:
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(map(is_number, polygon)):
            raise ShapeError("a polygon is not a list of finite numbers")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ShapeError(
                f"a polygon of {len(polygon)} numbers; it takes x and y of three points or more"
            )
        if len(polygon) > MAX_POLYGON_NUMBERS:
            raise ShapeError(
                f"a polygon of {len(polygon)} numbers, more than {MAX_POLYGON_NUMBERS}"
            )
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        if np.abs(points).max() > MAX_FAR * max(size):
            raise ShapeError(f"a polygon is far outside a picture of {size[0]} x {size[1]} px")
        length_px = np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum()
        if length_px > MAX_PERIMETERS * 2 * sum(size):
            raise ShapeError(
                f"a polygon is {length_px:.0f} px long, over {MAX_PERIMETERS:g} times round the "
                "picture"
            )
    outline: RLE = coco_mask.merge(coco_mask.frPyObjects(list(polygons), size[0], size[1]))
    return outline


def _mask(mask: Mapping[str, Any], size: tuple[int, int]) -> RLE:
    stated, counts = mask.get("size"), mask.get("counts")
    if not isinstance(stated, list) or not all(map(is_int, stated)) or tuple(stated) != size:
        raise ShapeError(
            f"the mask's size is {short(stated)}, the picture's [{size[0]}, {size[1]}]"
        )
    runs = list(_unpack(counts)) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(is_int(run) and 0 <= run < 2**32 for run in runs):
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
