"""How tiles, the square windows that the network sees, cover a micrograph; and the ids of items."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

_TILE_ID = re.compile(r"^(.+)@(\d+),(\d+)$", re.DOTALL)


@dataclass(frozen=True)
class Tile:
    """A square window of a micrograph, with the pixels that belong to it.

    `y`, `x`: the window's origin in store px, never negative. `own`: y0, y1, x0, x1 in store px of
    the micrograph, half open. The own regions of a micrograph's tiles are disjoint and cover it, so
    every pixel is predicted once.
    """

    micrograph: str
    y: int
    x: int
    own: tuple[int, int, int, int]

    @property
    def id(self) -> str:
        """The id of the tile as an item: `<micrograph id>@<y>,<x>`."""
        return f"{self.micrograph}@{self.y},{self.x}"


def micrograph_of(item: str) -> str:
    """The micrograph id of an item, which is the id of a tile or of a micrograph."""
    match = _TILE_ID.match(item)
    return match.group(1) if match else item


def tile_grid(*, micrograph: str, height_px: int, width_px: int, tile_px: int) -> tuple[Tile, ...]:
    """The fewest windows of `tile_px` that cover a picture of height x width px, row by row.

    Origins are spread evenly, so windows overlap and do not cross the edge; each neighbour owns
    half of an overlap. A picture smaller than `tile_px` in a direction has one window at 0 there,
    which crosses the edge. Raises ValueError if a size is not positive.
    """
    if min(height_px, width_px, tile_px) < 1:
        raise ValueError(
            f"sizes must be positive, got {height_px} x {width_px} px in tiles of {tile_px} px"
        )
    rows = _spread(height_px, tile_px)
    columns = _spread(width_px, tile_px)
    return tuple(
        Tile(micrograph, y, x, (y0, y1, x0, x1)) for y, y0, y1 in rows for x, x0, x1 in columns
    )


def _spread(length_px: int, tile_px: int) -> list[tuple[int, int, int]]:
    """(origin, first owned px, one past the last owned px) of each window along one direction."""
    if length_px <= tile_px:
        return [(0, 0, length_px)]
    count = -(-length_px // tile_px)
    origins = [index * (length_px - tile_px) // (count - 1) for index in range(count)]
    # Seams are half way between the begin of the next window and the end of this one, so a pixel of
    # both windows belongs to the window with the nearer centre.
    seams = [(origin + tile_px + following) // 2 for origin, following in pairwise(origins)]
    return list(zip(origins, [0, *seams], [*seams, length_px], strict=True))
