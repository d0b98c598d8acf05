"""EMAN's `.box`: corner, width and height of a box a line, of one micrograph each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from cryossl.errors import DataError, one_line
from cryossl.picking.coordinates import Coordinates, centres_of_indices
from cryossl.picking.formats.rows import numbers, sizes, text_of

_COLUMNS = ["x", "y", "width", "height"]


def read(path: Path) -> list[Coordinates]:
    """The boxes of a `.box` as particles; the diameter is the box's side. Raises DataError.

    A fifth column, which old files have, is ignored. An empty file is a micrograph without
    particles.
    """
    content = text_of(path)
    try:
        table = pd.read_csv(
            io.StringIO(content), sep=r"\s+", header=None, comment="#", dtype=str, na_filter=False
        )
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=range(4))
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path}: no table of boxes ({one_line(error)[:120]})", cure="export the file again"
        ) from None
    if table.shape[1] not in (4, 5):
        raise DataError(
            f"{path}: {table.shape[1]} columns", cure="needed are x, y, width and height of a box"
        )
    table = table.iloc[:, :4].set_axis(_COLUMNS, axis=1)
    x, y = (numbers(table, name, path=path) for name in _COLUMNS[:2])
    width, height = (sizes(table, name, path=path) for name in _COLUMNS[2:])
    centres = centres_of_indices(x + width / 2, y + height / 2)
    return [Coordinates(path.stem, centres, diameters_px=(width + height) / 2)]


def text(one: Coordinates) -> str:
    """A `.box` of one micrograph; a box is as wide as the particle.

    Raises ValueError without diameters.
    """
    side = one.sides_px()
    rows = np.stack([one.x_index - side / 2, one.y_index - side / 2, side, side], axis=1)
    return "".join("\t".join(_short(value) for value in row) + "\n" for row in rows.tolist())


def _short(value: float) -> str:
    """A number with up to three decimals; some programs read whole numbers alone."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
