"""Micrographs with their labels drawn on them: do the labels sit where the particles are?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, Micrograph, Particles, rasterise
from cryossl.data.images import normalise, read_picture, resize
from cryossl.data.labels import PARTICLE
from cryossl.data.levels import LARGEST_Z, LEVELS_PER_Z
from cryossl.data.store.plan import members
from cryossl.selftraining.records.pictures import BLUE, VERMILLION

SIDE_PX = 1024
_SHOWN_Z = 3.0


@dataclass(frozen=True)
class DrawnMicrograph:
    """A picture, and a name for its file."""

    name: str
    picture: UInt8[np.ndarray, "height width 3"]


def particle_pictures(
    dataset: DataSet, *, count: int, settings: InputSettings
) -> Iterator[DrawnMicrograph]:
    """Draw the outlines of the labelled discs and the unlabelled band on micrographs.

    Up to `count` micrographs, labelled ones first, one of each source by turns. The longer side is
    reduced to at most 1024 px. Raises DataError for a picture that cannot be read.
    """
    for micrograph, particles in _by_turns(dataset)[:count]:
        scale = min(1.0, SIDE_PX / max(micrograph.height_px, micrograph.width_px))
        height_px, width_px = (
            max(1, round(side * scale)) for side in (micrograph.height_px, micrograph.width_px)
        )
        whole = read_picture(micrograph.path, max_megapixels=settings.max_megapixels)
        z = (
            normalise(resize(whole, height_px=height_px, width_px=width_px)).astype(np.float32)
            / LEVELS_PER_Z
            - LARGEST_Z
        )
        grey = np.clip((z + _SHOWN_Z) * (255 / (2 * _SHOWN_Z)), 0, 255).astype(np.uint8)
        canvas = np.repeat(grey[:, :, None], 3, axis=2)
        if particles is not None:
            label_map = rasterise(
                particles,
                height_px=height_px,
                width_px=width_px,
                scale=scale,
                particle_radius_fraction=settings.particle_radius_fraction,
            )
            inside = label_map == PARTICLE
            canvas[inside & ~binary_erosion(inside)] = VERMILLION
        image = Image.fromarray(canvas)
        band = dataset.border_px.get(micrograph.source, 0) * scale
        if 0 < 2 * band <= min(height_px, width_px) - 1:  # else nothing is left within
            ImageDraw.Draw(image).rectangle(
                (band, band, width_px - 1 - band, height_px - 1 - band), outline=BLUE
            )
        yield DrawnMicrograph(
            micrograph.id.replace("/", "_").rpartition(".")[0] or micrograph.id, np.asarray(image)
        )


def _by_turns(dataset: DataSet) -> list[tuple[Micrograph, Particles | None]]:
    """All micrographs, labelled ones first, one of each source by turns."""
    placed = []
    seen: Counter[tuple[bool, str]] = Counter()
    for _, micrograph, particles in members(dataset):
        group = (particles is None, micrograph.source)
        seen[group] += 1
        place = (particles is None, seen[group], micrograph.source)
        placed.append((place, (micrograph, particles)))
    return [member for _, member in sorted(placed, key=lambda one: one[0])]
