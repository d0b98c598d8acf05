"""A model file that picks, without the minutes of a training: the network has its first weights."""

from __future__ import annotations

from pathlib import Path

from cryossl.config import NetworkSettings
from cryossl.network import architecture
from cryossl.network.picking_model import (
    SCHEMA,
    Description,
    LabelReading,
    Origin,
    PickingModel,
    Size,
    Source,
)

SCORES = {"validation/particle_f1": 0.5}
ORIGIN = Origin(
    run_key="none-supervised-iteration-0",
    strategy="supervised",
    ratio_percent=5,
    seed=0,
    iteration=0,
    data_digest="d",
    code_digest="c",
    fingerprint="f",
    chosen_on="validation",
    scores=SCORES,
)


def model(
    *, height: int = 200, width: int = 256, views: int = 1, reading: LabelReading | None = None
) -> PickingModel:
    """A model for pictures of this size with particles of 12 px; its scores lie around 0.5."""
    settings = NetworkSettings(decoder_width=4)
    sizes = (Size(height_px=height, width_px=width, scale=0.5),)
    described = Description(
        format=SCHEMA,
        network=settings,
        tile_px=64,
        views=views,
        particle_radius_fraction=1.0,
        sources={"s": Source(diameter_px=12.0, pixel_size_angstrom=2.0, sizes=sizes)},
        pixel_threshold8=127,
        pick_threshold16=20_000,
        origin=ORIGIN,
        reading=reading,
    )
    return PickingModel(described, architecture.build(settings, seed=0).state_dict())


def write_model(path: Path, **settings: object) -> Path:
    """The file of a model."""
    path.write_bytes(model(**settings).to_bytes())
    return path
