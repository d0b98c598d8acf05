"""The halves of a labelled part, so that each can be predicted by a network that lacks it.

A network is too sure on what it learned from, so a threshold chosen there is too high. Where there
are no other labels, each training runs twice more, without one half of the labelled items each
time, and thresholds are chosen on the half that was left out (cross-fitting; Stone 1974,
*Cross-validatory choice and assessment of statistical predictions*).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cryossl.data.labels import PARTICLE
from cryossl.data.store.store import Store
from cryossl.data.tiling import micrograph_of
from cryossl.errors import DataError


def halves_of(store: Store, labelled: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labelled micrographs in two halves, each with every source where that can be.

    The micrographs of a source are dealt out, those with most particle pixels first. A source with
    one micrograph is divided between its tiles, across its longer side, where half of its particle
    pixels are on each side; if it is a single tile, one half lacks the source.

    Args:
        store: of the micrographs.
        labelled: ids of whole micrographs.

    Returns:
        Ids of micrographs and of tiles.

    Raises:
        DataError: one half would have no particle pixel.
    """
    by_source: dict[str, list[str]] = {}
    for name in sorted(labelled):
        by_source.setdefault(store.micrographs[name].source, []).append(name)
    first: list[str] = []
    second: list[str] = []
    for names in by_source.values():
        if len(names) == 1 and len(store.tiles(names[0])) > 1:
            before, after = _divided(store, names[0])
            first += before
            second += after
            continue
        richest = sorted(names, key=lambda name: -_particle_pixels(store, name))
        smaller, larger = (first, second) if len(first) <= len(second) else (second, first)
        smaller += richest[::2]
        larger += richest[1::2]
    for half in (first, second):
        if not any(_particle_pixels(store, item) for item in half):
            raise DataError(
                "validation_from=labelled predicts each half of the labelled part by a network "
                f"that lacks it, and one half of the {len(labelled)} labelled has no particle",
                cure="label more, or give validation micrographs",
            )
    return tuple(first), tuple(second)


def _divided(store: Store, micrograph: str) -> tuple[list[str], list[str]]:
    """The tiles of a micrograph in two parts; each has one tile or more."""
    stored = store.micrographs[micrograph]
    tall = stored.height_px > stored.width_px
    tiles = [
        tile.id
        for tile in sorted(
            store.tiles(micrograph),
            key=lambda tile: (tile.y, tile.x) if tall else (tile.x, tile.y),
        )
    ]
    pixels = np.cumsum([_particle_pixels(store, item) for item in tiles])
    cut = int(np.argmin(np.abs(2 * pixels[:-1] - pixels[-1]))) + 1
    return tiles[:cut], tiles[cut:]


def _particle_pixels(store: Store, item: str) -> int:
    """PARTICLE pixels that an item owns, without the border that nobody annotated."""
    truth = store.truth(micrograph_of(item), border=True)
    owned = (truth[y0:y1, x0:x1] for y0, y1, x0, x1 in (one.own for one in store.tiles(item)))
    return sum(int(np.count_nonzero(part == PARTICLE)) for part in owned)
