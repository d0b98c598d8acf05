"""The halves of a labelled part, so that each can be predicted by a network that lacks it.

A network is too sure on what it learned from, so a threshold chosen there is too high. Where there
are no other labels, each training runs twice more, without one half of the labelled items each
time, and thresholds are chosen on the half that was left out (cross-fitting; Stone 1974,
*Cross-validatory choice and assessment of statistical predictions*).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryossl.data.store.store import Store
from cryossl.errors import ConfigError


def halves_of(store: Store, labelled: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labelled micrographs in two halves, each with every source where that can be.

    The micrographs of a source are dealt out. A source with one micrograph is divided through the
    middle of its tiles, across its longer side; if that is a single tile, one half lacks the
    source.

    Args:
        store: of the micrographs.
        labelled: ids of whole micrographs.

    Returns:
        Ids of micrographs and of tiles.

    Raises:
        ConfigError: there is one micrograph, and it is a single tile.
    """
    by_source: dict[str, list[str]] = {}
    for name in sorted(labelled):
        by_source.setdefault(store.micrographs[name].source, []).append(name)
    first: list[str] = []
    second: list[str] = []
    for names in by_source.values():
        stored, tiles = store.micrographs[names[0]], store.tiles(names[0])
        if len(names) == 1 and len(tiles) > 1:
            tall = stored.height_px > stored.width_px
            along = sorted(tiles, key=lambda tile: (tile.y, tile.x) if tall else (tile.x, tile.y))
            first += [tile.id for tile in along[: len(along) // 2]]
            second += [tile.id for tile in along[len(along) // 2 :]]
            continue
        smaller, larger = (first, second) if len(first) <= len(second) else (second, first)
        smaller += names[::2]
        larger += names[1::2]
    if not second:
        raise ConfigError(
            "validation_from=labelled predicts each half of the labelled part by a network that "
            f"lacks it, and {labelled[0]}, which is all of it, is a single tile",
            cure="label a second one, or lower --tile-px",
        )
    return tuple(first), tuple(second)
