"""crYOLO's `.cbox`: boxes with scores in STAR syntax, of one micrograph each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cryossl.errors import DataError
from cryossl.picking.coordinates import Coordinates, centres_of_indices
from cryossl.picking.formats import star
from cryossl.picking.formats.rows import numbers, optional, require_columns, sizes

_BLOCK = "cryolo"
_NEEDED = ("CoordinateX", "CoordinateY", "Width", "Height")


def read(path: Path) -> list[Coordinates]:
    """The boxes of a `.cbox` as particles; the diameter is the box's side. Raises DataError."""
    table = star.read_blocks(path, texts=()).get(_BLOCK)
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{path}: no table `data_{_BLOCK}`", cure="give a .cbox file of crYOLO")
    require_columns(path, table, *_NEEDED)
    x, y = (numbers(table, name, path=path) for name in _NEEDED[:2])
    width, height = (sizes(table, name, path=path) for name in _NEEDED[2:])
    return [
        Coordinates(
            path.stem,
            centres_of_indices(x + width / 2, y + height / 2),
            scores=optional(table, "Confidence", lambda: numbers(table, "Confidence", path=path)),
            diameters_px=(width + height) / 2,
        )
    ]


def text(one: Coordinates) -> str:
    """A `.cbox` of one micrograph; a box is as wide as the particle.

    Raises ValueError without diameters.
    """
    side = one.sides_px()
    table = pd.DataFrame(
        {
            "CoordinateX": one.x_index - side / 2,
            "CoordinateY": one.y_index - side / 2,
            "CoordinateZ": np.zeros(one.count),
            "Width": side,
            "Height": side,
            "Depth": np.ones(one.count),
            "EstWidth": side,
            "EstHeight": side,
            "Confidence": np.ones(one.count) if one.scores is None else one.scores,
            "NumBoxes": np.ones(one.count, dtype=int),
            "Angle": np.zeros(one.count),
        }
    )
    included = pd.DataFrame({"slice_index": []})
    blocks: dict[str, star.Block] = {"global": {"cbox_format_version": "1.0"}, _BLOCK: table}
    return star.text(blocks | {f"{_BLOCK}_include": included})
