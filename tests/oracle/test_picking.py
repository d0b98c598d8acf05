"""The picker on the labels of real micrographs: what it loses of a map that is right everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryossl.data.coco.dataset import measured, read_dataset
from cryossl.data.coco.rasterise import rasterise
from cryossl.evaluation.matching import best_threshold, rank
from cryossl.evaluation.metrics import pooled
from cryossl.evaluation.picking import inside, pick

WIDTH_PX = 14.0


@pytest.mark.parametrize("source", ["10017", "10028"])
def test_of_a_perfect_map_of_overlapping_discs_nearly_every_particle_is_read(
    coco_public: Path, source: str
) -> None:
    read = read_dataset(coco_public, border="auto", max_megapixels=256)
    dataset = measured(read, border="auto", visible=read.validation.particles.keys())
    scale = WIDTH_PX / dataset.diameter_px[source]
    border_px = round(dataset.border_px[source] * scale)
    assert border_px > 0
    ranked = []
    for micrograph in dataset.validation.micrographs:
        if micrograph.source != source:
            continue
        particles = dataset.validation.particles[micrograph.id]
        shape = {
            "height_px": round(micrograph.height_px * scale),
            "width_px": round(micrograph.width_px * scale),
        }
        perfect = 255 * rasterise(particles, **shape, scale=scale, particle_radius_fraction=1.0)
        centres = (particles.bounds[:, :2] + particles.bounds[:, 2:] / 2) * scale
        truths = centres[inside(centres, **shape, border_px=border_px)]
        picks = pick(perfect, radius_px=WIDTH_PX / 2).within(**shape, border_px=border_px)
        ranked.append(rank(picks, truths, limit_px=0.3 * WIDTH_PX))
    found = pooled(one.counts_at(best_threshold(ranked)) for one in ranked).scores()
    assert found.f1 is not None
    assert found.f1 > 0.97
