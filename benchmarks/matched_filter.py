"""A simple baseline: a matched filter, scored on the same pixels as the network.

The template of a source is the mean of its labelled particles. It is correlated with each picture;
local maxima are particles, and a disc of the particle's size is drawn at each. The threshold is
chosen on validation, as for a network.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from scipy import ndimage, signal

from cryossl.config import Config
from cryossl.config_file import load
from cryossl.data.coco.dataset import DataSet, Particles
from cryossl.data.labels import PARTICLE
from cryossl.data.store.store import Store
from cryossl.data.tiling import micrograph_of
from cryossl.evaluation.metrics import Counts, audit
from cryossl.progress.events import silent
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.stage_code import stage_code

Picture = Float32[np.ndarray, "height width"]
PEAK_DISTANCE = 0.5  # of a diameter: labels of neighbours are as near as one radius
THRESHOLDS = np.linspace(0.02, 0.8, 79)


@dataclass(frozen=True)
class Found:
    """The result of the filter on one micrograph.

    `places` are local maxima (y, x) in store px, `heights` their correlations in [-1, 1]; `truth`
    is the label map.
    """

    places: Int64[np.ndarray, "peaks 2"]
    heights: Float32[np.ndarray, " peaks"]
    truth: np.ndarray
    radius_px: float

    def counts(self, threshold: float) -> Counts:
        """Pixel counts of discs at the maxima of at least `threshold`."""
        away = np.ones(self.truth.shape, bool)
        away[tuple(self.places[self.heights >= threshold].T)] = False
        discs = ndimage.distance_transform_edt(away) <= self.radius_px if not away.all() else ~away
        return audit(np.where(discs, PARTICLE, 0).astype(np.uint8), self.truth)


def measure(config: Config) -> dict[str, float]:
    """Pixel F1 of the matched filter, with the labels and the split of a run of this config."""
    dataset = preparation.load(config, silent)
    code = stage_code(config.run.code_file, keep=False)
    store = preparation.store_of(dataset, config, code, silent)
    split = preparation.draw(config, store.micrographs.values(), tile_px=store.tile_px)
    templates = _templates(store, dataset, {micrograph_of(item) for item in split.labelled}, config)
    found = {
        part: [_search(store, templates, dataset, name, config) for name in ids]
        for part, ids in (("validation", split.validation), ("test", split.test))
    }
    threshold = max(THRESHOLDS, key=lambda one: _f1(found["validation"], one))
    return {
        "threshold": float(threshold),
        "validation_f1": _f1(found["validation"], threshold),
        "test_f1": _f1(found["test"], threshold),
    }


def _templates(
    store: Store, dataset: DataSet, labelled: Iterable[str], config: Config
) -> dict[str, Picture]:
    """Source -> mean picture of its labelled particles over all angles, of mean 0 and norm 1."""
    known: Mapping[str, Particles] = dataset.train.particles
    cuts: dict[str, list[Picture]] = defaultdict(list)
    for name in sorted(labelled):
        stored = store.micrographs[name]
        half = round(0.75 * _radius_px(dataset, stored.source, stored.scale, config) * 2)
        picture = store.picture(name).astype(np.float32)
        for y, x, height, width in known[name].boxes * stored.scale:
            cy, cx = round(y + height / 2), round(x + width / 2)
            cut = picture[max(0, cy - half) : cy + half + 1, max(0, cx - half) : cx + half + 1]
            if cut.shape == (2 * half + 1, 2 * half + 1):
                cuts[stored.source].append(cut)
    return {source: _rounded(np.mean(members, axis=0)) for source, members in cuts.items()}


def _rounded(mean: Picture) -> Picture:
    """The mean over angles, as particles have any direction, scaled to mean 0 and norm 1."""
    angles = range(0, 360, 15)
    turned = np.mean(
        [ndimage.rotate(mean, angle, reshape=False, order=1, mode="nearest") for angle in angles],
        axis=0,
    )
    centred = turned - turned.mean()
    normed: Picture = (centred / np.linalg.norm(centred)).astype(np.float32)
    return normed


def _search(
    store: Store, templates: Mapping[str, Picture], dataset: DataSet, name: str, config: Config
) -> Found:
    """Local maxima of the normalised cross-correlation of a micrograph with its template."""
    stored = store.micrographs[name]
    radius_px = _radius_px(dataset, stored.source, stored.scale, config)
    template = templates[stored.source]
    picture = store.picture(name).astype(np.float64)
    ones = np.ones_like(template)
    total = signal.fftconvolve(picture, ones, mode="same")
    squares = signal.fftconvolve(picture**2, ones, mode="same")
    spread = np.sqrt(np.maximum(squares - total**2 / template.size, 1e-6))
    likeness = signal.fftconvolve(picture, template[::-1, ::-1], mode="same") / spread
    distance = max(1, round(PEAK_DISTANCE * 2 * radius_px))
    peaks = (likeness == ndimage.maximum_filter(likeness, size=2 * distance + 1)) & (
        likeness >= THRESHOLDS[0]
    )
    places = np.argwhere(peaks)
    return Found(
        places, likeness[peaks].astype(np.float32), store.truth(name, border=True), radius_px
    )


def _radius_px(dataset: DataSet, source: str, scale: float, config: Config) -> float:
    return dataset.diameter_px[source] * scale / 2 * config.input.particle_radius_fraction


def _f1(found: Iterable[Found], threshold: float) -> float:
    return sum((one.counts(threshold) for one in found), start=Counts(0, 0, 0)).scores().f1 or 0.0


def main(arguments: list[str]) -> None:
    """Print validation and test F1.

    `python -m benchmarks.matched_filter [CONFIG.yaml] [setting=value ...]`
    """
    files = [Path(text) for text in arguments if "=" not in text]
    options = dict(text.split("=", 1) for text in arguments if "=" in text)
    config, _ = load(files[0] if files else None, options, yielding={})
    for name, value in measure(config).items():
        sys.stdout.write(f"matched filter  {name:14}  {value:.4f}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
