"""A trained network with all that picking needs, in one file that depends on no work folder.

The file is safetensors: the weights, and in its metadata a JSON text of `Description`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cryossl.config import MOST_NETWORKS, NetworkSettings
from cryossl.data.images import normalise, resize
from cryossl.data.tiling import Tile, tile_grid
from cryossl.errors import DataError
from cryossl.evaluation.picking import FULL_SCORE, Picks, pick
from cryossl.network import architecture as networks
from cryossl.network.calibration import Views
from cryossl.network.checkpoints import StateDict
from cryossl.network.device import Precision
from cryossl.network.prediction import predict
from cryossl.progress.events import silent
from cryossl.setting import Section

SCHEMA: Literal["cryossl-model/1"] = "cryossl-model/1"
MODEL_FILE = "model/model.safetensors"
"""Where a run keeps its model among its artifacts."""
_KEY = "cryossl"

Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(gt=0)]


class Size(Section):
    """A size of a source's pictures in px of the file; `scale`: px that the network sees per px."""

    height_px: Side
    width_px: Side
    scale: Positive


class Source(Section):
    """A source that the model was trained on: how its micrographs became what the network sees.

    `diameter_px` is in px of the file.
    """

    diameter_px: Positive
    pixel_size_angstrom: Positive | None
    sizes: tuple[Size, ...] = Field(min_length=1)


class Origin(Section):
    """Where a model comes from, and what it scored.

    `chosen_on`: what the thresholds were chosen on. `scores` are fractions by their tracked names.
    """

    run_key: str
    strategy: str
    ratio_percent: float
    seed: int
    iteration: int
    data_digest: str
    code_digest: str
    fingerprint: str
    chosen_on: str
    scores: dict[str, float]


class LabelReading(Section):
    """How `data import` read the coordinates of the labels; see `picking.importing.readings`."""

    flip_y: bool
    flip_x: bool
    swap_xy: bool
    scale: Positive
    corner: bool


class Description(Section):
    """All of a model but its weights.

    Attributes:
        format: name and version of the file's form.
        network: the settings that each network is built from.
        tile_px: side of the window that the network sees.
        views: orientations whose probabilities are averaged.
        particle_radius_fraction: radius of a particle's disc / half of its diameter.
        sources: by name.
        pixel_threshold8: a pixel is particle from this p8 (1 to 255) up.
        pick_threshold16: a pick counts from this score (0 to 65,535) up.
        origin: run, data, code and scores.
        networks: how many networks there are, whose probabilities are averaged.
        reading: of the labels, where `data import` made the data set; None elsewhere, and in files
            that were written before it was kept.
    """

    format: Literal["cryossl-model/1"]
    network: NetworkSettings
    tile_px: Side
    views: Literal[1, 4, 8]
    particle_radius_fraction: Positive
    sources: dict[str, Source] = Field(min_length=1)
    pixel_threshold8: Annotated[int, Field(ge=1, le=255)]
    pick_threshold16: Annotated[int, Field(ge=0, le=FULL_SCORE)]
    origin: Origin
    networks: Annotated[int, Field(ge=1, le=MOST_NETWORKS)] = 1
    reading: LabelReading | None = None

    def as_text(self) -> str:
        """The JSON text in the model's file.

        For one network and without a reading it is the text of older versions.
        """
        usual = {"networks": 1, "reading": None}
        return self.model_dump_json(
            exclude={name for name, value in usual.items() if getattr(self, name) == value}
        )


@dataclass(frozen=True)
class Scale:
    """How a micrograph becomes what the network sees.

    `scale`: px that the network sees per px of the file; `diameter_px`: of a particle, in px that
    the network sees.
    """

    scale: float
    diameter_px: float


@dataclass(frozen=True, eq=False)
class PickingModel:
    """A description and the weights that belong to it."""

    description: Description
    weights: StateDict

    def network(self) -> torch.nn.Module:
        """The network as it is scored, with the mean over networks and orientations.

        Raises DataError if the weights are not those of the described network.
        """
        settings = self.description.network.model_copy(update={"encoder_weights": "none"})
        network = networks.together(
            [networks.build(settings, seed=0) for _ in range(self.description.networks)]
        )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise DataError(
                "the model's weights do not fit its network: "
                f"{str(error).splitlines()[-1].strip()}",
                cure="take the file as the run logged it",
            ) from None
        views = self.description.views
        return network if views == 1 else Views(network, views)

    def to_bytes(self) -> bytes:
        """The content of the model's file."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.weights.items()}
        return save(tensors, metadata={_KEY: self.description.as_text()})

    def scale_of(
        self,
        *,
        height_px: int,
        width_px: int,
        name: str = "",
        source: str | None = None,
        diameter_px: float | None = None,
    ) -> Scale:
        """How a picture of this size is scaled.

        Without a source or a diameter, the sources with pictures of this size are asked; if they
        differ, those whose name the file's name begins with.

        Args:
            height_px: of the picture file.
            width_px: of the picture file.
            name: of the picture file, without folders.
            source: a source of the model that the picture belongs to.
            diameter_px: of a particle in px of the file; where it is given it decides, and the
                particle is scaled to the width that the network learned.

        Raises:
            DataError: the source is unknown, or no source, or several that differ, have pictures of
                this size.
        """
        sources = self.description.sources
        if source is not None and source not in sources:
            raise DataError(
                f"the model knows no source {source!r}", cure=f"it knows: {', '.join(sources)}"
            )
        named = sources if source is None else {source: sources[source]}
        if diameter_px is not None:
            seen = [size.scale * one.diameter_px for one in named.values() for size in one.sizes]
            return Scale(float(np.median(seen)) / diameter_px, float(np.median(seen)))
        alike = [
            (word, Scale(size.scale, size.scale * one.diameter_px))
            for word, one in named.items()
            for size in one.sizes
            if (size.height_px, size.width_px) == (height_px, width_px)
        ]
        begun = [one for one in alike if re.match(rf"{re.escape(one[0])}(?![0-9A-Za-z])", name)]
        for choice in (alike, begun):
            if len({scale for _, scale in choice}) == 1:
                return choice[0][1]
        which = "no source of the model has" if not alike else "several sources of the model have"
        raise DataError(
            f"{which} pictures of {width_px} x {height_px} px",
            cure=f"give the particle diameter{', or the source' * bool(alike)} "
            f"(the model knows: {', '.join(sources)})",
        )


def seen(
    picture: Float32[np.ndarray, "height width"], scale: Scale
) -> UInt8[np.ndarray, "rows columns"]:
    """What the network sees of a picture: reduced and normalised, as in training."""
    height, width = (max(1, round(side * scale.scale)) for side in picture.shape)
    return normalise(resize(picture, height_px=height, width_px=width))


def probabilities(
    network: torch.nn.Module,
    pictures: Mapping[str, UInt8[np.ndarray, "rows columns"]],
    *,
    tile_px: int,
    batch_size: int,
    device: torch.device,
    precision: Precision,
) -> Iterator[tuple[str, UInt8[np.ndarray, "rows columns"]]]:
    """(name, p8 map) of pictures as the network sees them.

    A map does not depend on the other pictures. Raises NumericError if a logit is not finite.
    """
    return predict(
        network,
        _Seen(pictures, tile_px),
        list(pictures),
        batch_size=batch_size,
        device=device,
        precision=precision,
        report=silent,
    )


def picks_of(
    p8: UInt8[np.ndarray, "rows columns"], description: Description, scale: Scale
) -> Picks:
    """The picks of a p8 map, best first; those below the model's threshold are among them.

    Centres are (y, x) in px of the picture's file, the middle of the first pixel at 0.5.
    """
    found = pick(p8, radius_px=description.particle_radius_fraction * scale.diameter_px / 2)
    return Picks((found.centres / scale.scale).astype(np.float32), found.scores)


def mask_of(
    p8: UInt8[np.ndarray, "rows columns"],
    description: Description,
    *,
    height_px: int,
    width_px: int,
) -> bytes:
    """A PNG of 8 bits in the size of the file: 255 where a pixel is particle, else 0.

    The map is enlarged before its pixels are compared with the model's pixel threshold.
    """
    whole = Image.fromarray(p8).resize((width_px, height_px), Image.Resampling.BILINEAR)
    mask = np.where(np.asarray(whole) >= description.pixel_threshold8, 255, 0).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures as prediction needs them."""

    pictures: Mapping[str, UInt8[np.ndarray, "rows columns"]]
    tile_px: int

    def picture(self, micrograph: str) -> UInt8[np.ndarray, "rows columns"]:
        return self.pictures[micrograph]

    def tiles(self, item: str) -> tuple[Tile, ...]:
        height, width = self.pictures[item].shape
        return tile_grid(micrograph=item, height_px=height, width_px=width, tile_px=self.tile_px)


def read(path: Path) -> PickingModel:
    """The model in a file.

    Raises DataError with one line if the file is no model, lacks a field or has an unknown one.
    """
    cure = "give the model.safetensors of a run, or a models:/ address"
    if not path.is_file():
        raise DataError(f"{path} is no file", cure=cure)
    try:
        with safe_open(path, framework="pt") as content:
            text = (content.metadata() or {}).get(_KEY)
            weights = {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no safetensors file: {error}", cure=cure) from None
    if text is None:
        raise DataError(f"{path} holds weights alone and no description of a model", cure=cure)
    try:
        description = Description.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its description"
        raise DataError(f"{path}: {place}: {first['msg']}", cure=cure) from None
    return PickingModel(description, weights)
