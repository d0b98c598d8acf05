"""A model of an experiment as one value that picks without the experiment's work folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cryossl.data.imported import reading_of
from cryossl.data.splits import chosen_on
from cryossl.data.store.store import Store
from cryossl.evaluation.metrics import Numbers
from cryossl.evaluation.scores import checkpoint_numbers
from cryossl.evaluation.scorings import EIGHT, Scorings, scored_by
from cryossl.network.architecture import weights_together
from cryossl.network.checkpoints import load_weights
from cryossl.network.picking_model import (
    SCHEMA,
    Description,
    LabelReading,
    Origin,
    PickingModel,
    Size,
    Source,
)
from cryossl.selftraining.models import Predictor
from cryossl.selftraining.steps import Experiment

_SCORES = ("validation/f1", "validation/particle_f1", "test/f1", "test/particle_f1")
_SCORES_BY_EIGHT = tuple(scored_by(name, EIGHT) for name in _SCORES)


def numbers_of(experiment: Experiment, model: Predictor, scorings: Scorings) -> Numbers:
    """The scores of a trained model by their tracked names, and what its training took."""
    return {
        **scorings.numbers(),
        "train/steps": model.steps,
        "time/seconds": model.seconds,
        **checkpoint_numbers(
            experiment.evaluate(model, "validation", weights="best"),
            experiment.evaluate(model, "test", weights="best"),
            step=model.best_step,
        ),
    }


def exported(
    experiment: Experiment,
    model: Predictor,
    scorings: Scorings,
    *,
    numbers: Numbers,
    facts: Mapping[str, Any],
) -> PickingModel:
    """A trained model with its thresholds, scales and origin.

    It picks by eight views where it was scored so, else by the setting `views`.

    Args:
        experiment: that trained it.
        model: the weights that are scored.
        scorings: its scores, which hold the thresholds.
        numbers: its scores by their tracked names.
        facts: the other fields of `Origin`.
    """
    config, store = experiment.config, experiment.store
    known = {name: numbers.get(name) for name in (*_SCORES, *_SCORES_BY_EIGHT)}
    origin = Origin(
        ratio_percent=config.split.ratio,
        seed=config.split.seed,
        data_digest=experiment.data_digest(),
        fingerprint=experiment.fingerprint(),
        chosen_on=chosen_on(config.flat()),
        scores={name: value for name, value in known.items() if value is not None},
        **facts,
    )
    description = Description(
        format=SCHEMA,
        network=config.network,
        tile_px=store.tile_px,
        networks=len(model.members),
        views=EIGHT if scorings.eight else config.evaluation.views,
        particle_radius_fraction=config.input.particle_radius_fraction,
        sources=_sources(store),
        pixel_threshold8=scorings.widest.threshold8,
        pick_threshold16=scorings.widest.pick_threshold16,
        origin=origin,
        reading=label_reading(Path(config.input.data)),
    )
    file = f"{config.training.model}.safetensors"
    weights = [load_weights(member.stage.folder / file) for member in model.members]
    return PickingModel(description, weights_together(weights))


def label_reading(folder: Path) -> LabelReading | None:
    """How the labels of a data folder were read; None if that is not known."""
    try:
        return LabelReading.model_validate(reading_of(folder))
    except ValidationError:
        return None


def _sources(store: Store) -> dict[str, Source]:
    """Every source of a store: its diameter, and the sizes and scales of its micrographs."""
    sizes: dict[str, set[tuple[int, int, float]]] = {}
    found: dict[str, tuple[float, float | None]] = {}
    for stored in store.micrographs.values():
        sizes.setdefault(stored.source, set()).add(
            (stored.original_height_px, stored.original_width_px, stored.scale)
        )
        found[stored.source] = (
            store.diameter_px(stored.id) / stored.scale,
            stored.pixel_size_angstrom,
        )
    return {
        name: Source(
            diameter_px=diameter_px,
            pixel_size_angstrom=pixel_size,
            sizes=tuple(
                Size(height_px=height, width_px=width, scale=scale)
                for height, width, scale in sorted(sizes[name])
            ),
        )
        for name, (diameter_px, pixel_size) in sorted(found.items())
    }
