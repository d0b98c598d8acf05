"""Particles -> label map: discs for boxes, drawn masks for outlines."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from cryossl.data.coco.geometry import RLE
from cryossl.data.coco.records import Particles
from cryossl.data.images import resize
from cryossl.data.labels import BACKGROUND, PARTICLE, LabelMap


def rasterise(
    particles: Particles,
    *,
    height_px: int,
    width_px: int,
    scale: float,
    particle_radius_fraction: float,
) -> LabelMap:
    """The label map of a picture: PARTICLE inside the particles, BACKGROUND elsewhere.

    `height_px` and `width_px` are of this picture, and `scale` is px of this picture per px of the
    boxes. A box becomes a disc around its centre with a radius of `particle_radius_fraction` times
    half the mean of its sides; a pixel belongs to the disc if its centre does. An outline is drawn
    at full size, and a pixel is PARTICLE if at least half of its area is.
    """
    label_map = np.full((height_px, width_px), BACKGROUND, dtype=np.uint8)
    for y, x, height, width in particles.boxes * scale:
        radius = particle_radius_fraction * (height + width) / 4
        _draw_disc(label_map, y + height / 2, x + width / 2, radius)
    if particles.outlines:
        label_map[_outline_mask(particles.outlines, height_px, width_px)] = PARTICLE
    return label_map


def _draw_disc(label_map: LabelMap, centre_y: float, centre_x: float, radius: float) -> None:
    height, width = label_map.shape
    top, bottom = max(0, int(centre_y - radius - 1)), min(height, int(centre_y + radius + 2))
    left, right = max(0, int(centre_x - radius - 1)), min(width, int(centre_x + radius + 2))
    if top >= bottom or left >= right:
        return
    away_y = np.arange(top, bottom) + 0.5 - centre_y
    away_x = np.arange(left, right) + 0.5 - centre_x
    inside = away_y[:, None] ** 2 + away_x[None, :] ** 2 <= radius**2
    label_map[top:bottom, left:right][inside] = PARTICLE


def _outline_mask(
    outlines: tuple[RLE, ...], height_px: int, width_px: int
) -> Bool[np.ndarray, "height width"]:
    full = np.asarray(coco_mask.decode(coco_mask.merge(list(outlines))), dtype=np.float32)
    return np.asarray(resize(full, height_px=height_px, width_px=width_px) >= 0.5)
