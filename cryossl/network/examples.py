"""Items of a split -> tiles to learn from, with true labels, with pseudo-labels, or with none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cryossl.data.labels import BACKGROUND, IGNORE, LabelMap
from cryossl.data.store.store import Store
from cryossl.data.tiling import micrograph_of
from cryossl.network.batches import Batches, Example, MixedBatches, Sampling, TileBatches
from cryossl.pseudolabels.pixel_rules import SoftTargets
from cryossl.pseudolabels.pool import Pool, Selected
from cryossl.pseudolabels.recipe import Learning


def labelled_examples(store: Store, items: Sequence[str]) -> list[Example]:
    """The tiles of the items, with their true labels.

    Labels are IGNORE outside the items, and in the border that nobody annotated.
    """
    pool = Pool(store, items)
    maps: dict[str, LabelMap] = {}
    for item in items:
        micrograph = micrograph_of(item)
        truth = store.truth(micrograph, border=True)
        if item == micrograph:
            maps[micrograph] = truth
            continue
        whole = maps.setdefault(micrograph, np.full_like(truth, IGNORE))
        pool.cut(item, whole)[...] = pool.cut(item, truth)
    return _examples(store, items, maps)


def student_batches(
    store: Store,
    labelled: Sequence[str],
    selected: Selected | None,
    learning: Learning,
    *,
    sampling: Sampling,
    steps: int,
) -> Batches:
    """The batches of a training, mixed as `learning` says.

    Args:
        store: of the micrographs.
        labelled: item ids.
        selected: pseudo-labels, or None for a training on labelled items alone.
        learning: how they are mixed and weighted.
        sampling: how tiles are drawn.
        steps: optimiser steps of the training.
    """
    first = labelled_examples(store, labelled)
    second = [] if selected is None else _pseudo_examples(store, selected, learning)
    if second and learning.mixed:
        return MixedBatches(first, second, sampling, weight=learning.pseudo_weight, steps=steps)
    return TileBatches(first + second, sampling)


def _pseudo_examples(store: Store, selected: Selected, learning: Learning) -> list[Example]:
    # With consistency the teacher labels while the student learns: no pixel of a map is used.
    if learning.consistency is not None:
        return _examples(
            store,
            selected.ids,
            {name: np.full_like(found, BACKGROUND) for name, found in selected.maps.items()},
        )
    weights = (
        {item: selected.assessments[item].agreement or 0.0 for item in selected.ids}
        if learning.by_agreement
        else {}
    )
    return _examples(store, selected.ids, selected.maps, weights=weights, soft=selected.soft)


def _examples(
    store: Store,
    items: Sequence[str],
    maps: Mapping[str, LabelMap],
    *,
    weights: Mapping[str, float] | None = None,
    soft: Mapping[str, SoftTargets] | None = None,
) -> list[Example]:
    found = []
    for item in items:
        source = store.micrographs[micrograph_of(item)].source
        found += [
            Example(
                tile,
                store.picture(tile.micrograph),
                maps[tile.micrograph],
                (weights or {}).get(item, 1.0),
                (soft or {}).get(source),
                source,
            )
            for tile in store.tiles(item)
        ]
    return found
