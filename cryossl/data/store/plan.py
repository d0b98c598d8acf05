"""The plan of a store: its sizes, scales, positions in the files, and its key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, Micrograph, Particles
from cryossl.errors import DataError
from cryossl.system.digest import digest


@dataclass(frozen=True)
class StoredMicrograph:
    """A micrograph in the store. Sizes are in store px; `scale` is store px per original px.

    `part` is train, validation or test. `annotated` is False for an unlabelled micrograph, which
    has no truth; an annotated one may have no particle. Offsets are positions in the store's flat
    files, in bytes; `truth_offset` is None without truth. `border_px` is the band at each edge
    without annotations, in store px. It depends on which labels may be seen, so it is not stored:
    an opened store has it, and in a plan it is 0.
    """

    id: str
    part: str
    source: str
    height_px: int
    width_px: int
    scale: float
    annotated: bool
    particle_count: int
    original_height_px: int
    original_width_px: int
    pixel_size_angstrom: float | None
    picture_offset: int
    truth_offset: int | None
    border_px: int = 0

    def with_border(self, original_px: int) -> StoredMicrograph:
        """The same micrograph with a border, given in original px.

        Raises DataError if the border leaves no pixel of the micrograph.
        """
        border_px = round(original_px * self.scale)
        if 2 * border_px >= min(self.height_px, self.width_px):
            raise DataError(
                f"{self.id}: a border of {border_px} px leaves nothing of {self.height_px} x "
                f"{self.width_px} px",
                cure="set border to 0 or to a smaller number",
            )
        return replace(self, border_px=border_px)


@dataclass(frozen=True)
class StorePlan:
    """A store before any pixel is decoded.

    `key` identifies its bytes, `data_digest` the data set whatever the settings; `notes` are
    remarks on how scales were chosen.
    """

    key: str
    data_digest: str
    tile_px: int
    micrographs: tuple[StoredMicrograph, ...]
    picture_bytes: int
    truth_bytes: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The index of the store, in JSON's types."""
        index = asdict(self)
        for entry in index["micrographs"]:
            del entry["border_px"]
        return index


def plan_store(
    dataset: DataSet,
    contents: Mapping[str, str],
    *,
    settings: InputSettings,
    network_multiple: int,
    code: str,
) -> StorePlan:
    """The plan of a data set's store.

    The key is a hash of all that decides the store's bytes: the content of every file, every box
    and outline, every setting that changes the bytes, but not the border, and the code. It does not
    depend on the order and times of files or on the location of the data set.

    Args:
        dataset: the data set as read.
        contents: micrograph id -> SHA-256 of its file.
        settings: of the input.
        network_multiple: the network's tiles must be a multiple of this, in px.
        code: digest of the code that decodes and rasterises.

    Raises:
        DataError: there is no micrograph, no particle to measure the diameter on, or a picture is
            too large after rescaling.
    """
    scale_of, notes = _source_scales(dataset, settings)
    micrographs: list[StoredMicrograph] = []
    annotations: dict[str, str] = {}
    picture_bytes = truth_bytes = 0
    for part, micrograph, particles in members(dataset):
        if particles is not None:
            annotations[micrograph.id] = _digest_of(particles)
        scale = scale_of.get(micrograph.source, _reduction(micrograph, settings.image_px))
        stored = StoredMicrograph(
            id=micrograph.id,
            part=part,
            source=micrograph.source,
            height_px=max(1, round(micrograph.height_px * scale)),
            width_px=max(1, round(micrograph.width_px * scale)),
            scale=scale,
            annotated=particles is not None,
            particle_count=0 if particles is None else particles.count,
            original_height_px=micrograph.height_px,
            original_width_px=micrograph.width_px,
            pixel_size_angstrom=micrograph.pixel_size_angstrom,
            picture_offset=picture_bytes,
            truth_offset=None if particles is None else truth_bytes,
        )
        _check_size(stored, settings.max_megapixels)
        micrographs.append(stored)
        picture_bytes += stored.height_px * stored.width_px
        truth_bytes += stored.height_px * stored.width_px if stored.annotated else 0
    if not micrographs:
        raise DataError(f"{dataset.root} has no micrograph", cure="check the data folder")
    tile_px = _tile_px(micrographs, settings, network_multiple)
    data_digest = digest(
        {
            stored.id: [stored.part, stored.source, contents[stored.id], annotations.get(stored.id)]
            for stored in micrographs
        }
    )
    key = digest(
        {
            "code": code,
            "tile_px": tile_px,
            "particle_radius_fraction": settings.particle_radius_fraction,
            "micrographs": [asdict(micrograph) for micrograph in micrographs],
            "files": {micrograph.id: contents[micrograph.id] for micrograph in micrographs},
            "annotations": annotations,
        }
    )
    return StorePlan(
        key, data_digest, tile_px, tuple(micrographs), picture_bytes, truth_bytes, notes
    )


def members(dataset: DataSet) -> list[tuple[str, Micrograph, Particles | None]]:
    """(part, micrograph, its particles or None), ordered by id within each part."""
    return [
        (name, micrograph, part.particles.get(micrograph.id))
        for name, part in dataset.parts.items()
        for micrograph in sorted(part.micrographs, key=lambda one: one.id)
    ]


def _source_scales(
    dataset: DataSet, settings: InputSettings
) -> tuple[dict[str, float], tuple[str, ...]]:
    """(source -> store px per original px, notes); empty if the size of the picture decides."""
    if settings.particle_diameter_px == 0 or settings.tile_px == 0:
        return {}, ()
    diameters = diameters_px(dataset)
    if not diameters:
        raise DataError(
            "no labelled particle to measure a diameter on",
            cure="annotate some, or set particle_diameter_px to 0",
        )
    notes = tuple(
        f"source {source} has no labelled particle: its particles are taken to be {diameter:g} px "
        "wide, "
        "the median of the other sources"
        for source, diameter in diameters.items()
        if not dataset.diameter_px.get(source)
    )
    return {
        source: settings.particle_diameter_px / diameter for source, diameter in diameters.items()
    }, notes


def diameters_px(dataset: DataSet) -> dict[str, float]:
    """Source -> diameter of its particles in original px; empty without any label.

    A source without labels has the median of the others.
    """
    measured = {
        source: diameter for source, diameter in dataset.diameter_px.items() if diameter > 0
    }
    sources = (
        sorted({micrograph.source for _, micrograph, _ in members(dataset)}) if measured else []
    )
    return {source: measured.get(source, median(measured.values())) for source in sources}


def _reduction(micrograph: Micrograph, image_px: int) -> float:
    """The scale that reduces the longest side to `image_px`; 1 for a smaller picture and for 0."""
    return min(1.0, image_px / max(micrograph.height_px, micrograph.width_px)) if image_px else 1.0


def _check_size(stored: StoredMicrograph, max_megapixels: float) -> None:
    if stored.height_px * stored.width_px > max_megapixels * 1e6:
        raise DataError(
            f"{stored.id}: {stored.height_px} x {stored.width_px} px once rescaled by "
            f"{stored.scale:.3g}",
            cure="lower particle_diameter_px or raise max_megapixels",
        )


def _tile_px(
    micrographs: list[StoredMicrograph], settings: InputSettings, network_multiple: int
) -> int:
    longest = max(max(micrograph.height_px, micrograph.width_px) for micrograph in micrographs)
    side = min(settings.tile_px or settings.image_px or longest, longest)
    return -(-side // network_multiple) * network_multiple


def _digest_of(particles: Particles) -> str:
    """SHA-256 of the boxes and outlines as a set, for their order in the file has no meaning."""
    boxes = particles.boxes + 0.0  # -0.0 is 0.0
    ordered = boxes[np.lexsort(boxes.T)] if len(boxes) else boxes
    outlines = sorted(repr(sorted(outline.items())) for outline in particles.outlines)
    return hashlib.sha256(
        ordered.astype("<f8").tobytes() + "\n".join(outlines).encode()
    ).hexdigest()
