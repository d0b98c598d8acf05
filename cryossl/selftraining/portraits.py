"""Which micrographs and pseudo-labels of an experiment are shown, and their pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from cryossl.data.tiling import micrograph_of
from cryossl.evaluation.reckoning import Scored
from cryossl.pseudolabels.pool import Selected
from cryossl.selftraining.models import Model
from cryossl.selftraining.pictures import (
    PseudoLabelExample,
    prediction_picture,
    pseudo_label_sheet,
    worst_median_best,
)
from cryossl.selftraining.steps import Experiment

SIDE_PX = 384
SHOWN = 4


def prediction_pictures(
    experiment: Experiment, model: Model, scored: Scored
) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """`worst`, `median`, `best` validation micrograph -> picture, truth, prediction and errors side by side."""
    counts = dict(
        zip(
            scored.validation.ids,
            scored.validation.micrograph_counts(scored.threshold8),
            strict=True,
        )
    )
    places = worst_median_best(counts)
    maps = dict(experiment.probabilities(model, sorted(set(places.values()))))
    return {
        place: prediction_picture(
            experiment.store.picture(name),
            experiment.store.truth(name, border=True),
            maps[name],
            threshold8=scored.threshold8,
            name=name,
            side_px=SIDE_PX,
        )
        for place, name in places.items()
    }


def selection_sheet(experiment: Experiment, selected: Selected) -> UInt8[np.ndarray, "_ _ 3"]:
    """The best and the worst selected pseudo-labels with the terms of their quality."""
    ordered = sorted(selected.ids, key=lambda item: (-selected.assessments[item].quality, item))
    best = ordered[:SHOWN]
    worst = [item for item in ordered[-SHOWN:] if item not in best]
    return pseudo_label_sheet(
        [_example(experiment, selected, item) for item in best],
        [_example(experiment, selected, item) for item in worst],
        side_px=SIDE_PX // 2,
    )


def _example(experiment: Experiment, selected: Selected, item: str) -> PseudoLabelExample:
    micrograph = micrograph_of(item)
    return PseudoLabelExample(
        item,
        experiment.pool.cut(item, experiment.store.picture(micrograph)),
        experiment.pool.cut(item, selected.labels(micrograph)),
        selected.assessments[item],
    )
