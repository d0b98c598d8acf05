"""Polygons and run-length masks that were made to hurt, through the check in front of pycocotools.

`python -m faults.hostile_shapes`. What the check lets pass is drawn by pycocotools and compared
with an answer that needs none: run lengths are expanded by numpy, a polygon may mark no pixel
outside its own box.
"""

from __future__ import annotations

import math
import random
import reprlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cryossl.data.coco.geometry import ShapeError, read_shape
from faults.apart import LAST_CASE, judged, tell

NUMBERS: tuple[Any, ...] = (
    math.nan,
    math.inf,
    -math.inf,
    1e12,
    -1e12,
    1e300,
    10**30,
    -0.0,
    1e-300,
    True,
    None,
    "1",
    [],
    2**31,
)

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxstring = _SHORT.maxlevel = 60


def polygon(rng: random.Random, height: int, width: int) -> Any:
    """Mostly near the picture; some points too few, too many, too far or no numbers at all."""
    count = rng.choice([rng.randint(3, 12)] * 6 + [0, 1, 2, 200]) if rng.random() < 0.99 else 60_000
    reach = rng.choice([1.0, 1.0, 1.0, 1.5, 4.0, 5.0, 1e3])
    points: list[Any] = [
        rng.uniform(-reach + 1, reach) * side for _ in range(count) for side in (width, height)
    ]
    if count and rng.random() < 0.3:
        points = [round(value) for value in points]
    if points and rng.random() < 0.1:
        points = points[:2] * count
    if points and rng.random() < 0.2:
        points[rng.randrange(len(points))] = rng.choice(NUMBERS)
    if rng.random() < 0.1:
        points = points[:-1]
    return points if rng.random() < 0.97 else rng.choice([None, "x", {}, [[]], 5])


def runs(rng: random.Random, height: int, width: int) -> list[Any]:
    """Run lengths that add up to the picture, or nearly so."""
    left, found = height * width, []
    while left > 0 and len(found) < 200:
        found.append(rng.randint(0, max(1, left // rng.choice([1, 2, 8]))))
        left -= found[-1]
    found.append(max(left, 0))
    if rng.random() < 0.4 and found:
        wrong = [-1, 2**31, 2**32, 2**63, 0.5, None, "1", True, *found, *(one + 1 for one in found)]
        found[rng.randrange(len(found))] = rng.choice(wrong)
    return found


def packed(rng: random.Random, height: int, width: int) -> Any:
    """A compressed mask, whole or with letters changed, cut or added."""
    noise = np.random.default_rng(rng.randrange(2**32)).random((height, width))
    drawn = np.asfortranarray((noise < rng.random()).astype(np.uint8))
    text = coco_mask.encode(drawn)["counts"].decode()
    for _ in range(rng.choice([0, 1, 1, 3])):
        place = rng.randint(0, len(text))
        text = rng.choice(
            [
                text[:place],
                text[:place] + chr(rng.randint(40, 120)) + text[place + 1 :],
                text + chr(rng.randint(48, 111)) * rng.choice([1, 50]),
                text[:place] + "o" * 20 + text[place:],
            ]
        )
    return text


def annotation(rng: random.Random, height: int, width: int) -> dict[str, Any]:
    kind = rng.randrange(4)
    if kind == 0:
        return {
            "segmentation": [
                polygon(rng, height, width) for _ in range(rng.choice([1, 1, 1, 2, 5]))
            ]
        }
    if kind == 1:
        return {
            "segmentation": {"size": stated(rng, height, width), "counts": runs(rng, height, width)}
        }
    if kind == 2:
        return {
            "segmentation": {
                "size": stated(rng, height, width),
                "counts": packed(rng, height, width),
            }
        }
    box: list[Any] = [
        rng.uniform(low, low + 2) * side for low in (-1, 0) for side in (width, height)
    ]
    if rng.random() < 0.4:
        box[rng.randrange(4)] = rng.choice(NUMBERS)
    return {"bbox": box[: rng.choice([4, 4, 4, 4, 3])]}


def stated(rng: random.Random, height: int, width: int) -> Any:
    return rng.choice(
        [[height, width]] * 8
        + [[width, height], [height], [10**5, 10**5], None, [str(height), width], [-1, -1]]
    )


def expected(counts: Any, height: int, width: int) -> np.ndarray:
    """The mask of run lengths; of a compressed text by pycocotools, which takes it as bytes."""
    if isinstance(counts, str):
        return np.asarray(coco_mask.decode({"size": [height, width], "counts": counts.encode()}))
    values = np.repeat(np.arange(len(counts)) % 2, np.asarray(counts, dtype=np.int64)).astype(
        np.uint8
    )
    return values.reshape((height, width), order="F")


def verdict(given: dict[str, Any], height: int, width: int) -> str:
    """What became of an annotation.

    Raises ValueError for a mask that is not what the annotation says.
    """
    try:
        shape = read_shape(given, height_px=height, width_px=width)
    except ShapeError:
        return "refused"
    if isinstance(shape, tuple):
        if not all(map(math.isfinite, shape)):
            raise ValueError(f"a box of {shape}")
        return "box"
    mask = None if shape is None else np.asarray(coco_mask.decode(shape))
    segmentation = given.get("segmentation")
    if isinstance(segmentation, dict):
        right = expected(segmentation["counts"], height, width)
        if not np.array_equal(right, np.zeros_like(right) if mask is None else mask):
            raise ValueError("another mask than the run lengths say")
    elif mask is not None and isinstance(segmentation, list):
        points = np.concatenate(
            [np.asarray(one, dtype=np.float64).reshape(-1, 2) for one in segmentation]
        )
        ys, xs = np.nonzero(mask)
        low, high = points.min(axis=0) - 1, points.max(axis=0) + 1
        if (
            mask.shape != (height, width)
            or xs.min() < low[0]
            or xs.max() > high[0]
            or ys.min() < low[1]
            or ys.max() > high[1]
        ):
            raise ValueError("a mask outside the box of its polygons")
    return "outside" if mask is None else "mask"


def main() -> None:
    folder, cases, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def read(case: int) -> str:
        rng = random.Random(f"{seed} {case}")
        height, width = rng.choice(
            [(rng.randint(1, 80), rng.randint(1, 80))] * 8 + [(1, 1), (1, 500), (2048, 3)]
        )
        given = annotation(rng, height, width)
        (folder / LAST_CASE).write_text(
            f"seed {seed} {case}: {height} x {width}: {_SHORT.repr(given)}",
            encoding="utf-8",
            errors="replace",
        )
        return verdict(given, height, width)

    tell(judged(folder, cases, read))


if __name__ == "__main__":
    main()
