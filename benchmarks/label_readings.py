"""How surely `data import` finds labels that are mirrored, swapped or at another scale.

Each mistake is planted in the labels of each micrograph, and one micrograph at a time is measured:
the import measures several. Counted are the alarms, and those that name the right cure.
The embedded data are drawn at 512 px, so that most pictures have enough labels; the pictures
are tried as they are, and with their contrast inverted.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryossl.data.coco.dataset import read_dataset
from cryossl.data.images import read_picture
from cryossl.data.synthetic.dataset import synthesise
from cryossl.picking.importing.readings import FEWEST, Found, Labelled, Reading, measure
from cryossl.progress.events import silent

PUBLIC = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_public"
PLANTED = {
    "as they are": Reading(),
    "mirrored in y": Reading(flip_y=True),
    "mirrored in x": Reading(flip_x=True),
    "mirrored in both": Reading(flip_y=True, flip_x=True),
    "x and y swapped": Reading(swap_xy=True),
    "picked on 2x binned pictures": Reading(scale=0.5),
    "picked on 8x binned pictures": Reading(scale=0.125),
    "8x binned and mirrored in y": Reading(flip_y=True, scale=0.125),
    "counted in half pixels": Reading(scale=2.0),
    "corners taken as centres": Reading(corner=True),
    "scaled by two pixel sizes": Reading(scale=1.77 / 1.31),
}
RANDOM = "random places"


@dataclass
class Tally:
    """Of one mistake: micrographs, alarms, alarms that name the cure, standard errors."""

    tried: int = 0
    found: int = 0
    named: int = 0
    least_best: float = float("inf")
    most_best: float = 0.0
    most_given: float = 0.0


def main() -> dict[str, dict[str, dict[str, float]]]:
    """Print a table for each data set; return its numbers."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        synthetic = Path(folder) / "synthetic"
        synthesise(synthetic, seed=0, train=40, validation=2, test=2, size_px=512, report=silent)
        for name, root in {"coco_public": PUBLIC, "embedded": synthetic}.items():
            if not root.is_dir():
                sys.stdout.write(f"{name}: {root} is missing, left out\n")
                continue
            sys.stdout.flush()
            tallies = _tried(root)
            results[name] = {key: dataclasses.asdict(one) for key, one in tallies.items()}
            _print(name, tallies)
    return results


def _tried(root: Path) -> dict[str, Tally]:
    tallies = {name: Tally() for name in (*PLANTED, RANDOM)}
    rng = np.random.default_rng(0)
    for micrograph in _micrographs(root):
        size = (micrograph.picture.shape[0], micrograph.picture.shape[1])
        for name, mistake in PLANTED.items():
            wrong = _planted(micrograph, mistake)
            found = _found(dataclasses.replace(micrograph, centres=wrong))
            _count(tallies[name], found, mistake, wrong, micrograph)
        elsewhere = rng.random(micrograph.centres.shape) * size
        _count(
            tallies[RANDOM],
            _found(dataclasses.replace(micrograph, centres=elsewhere)),
            Reading(),
            elsewhere,
            micrograph,
        )
    return tallies


def _planted(micrograph: Labelled, mistake: Reading) -> np.ndarray:
    """The labels as a picker gives them that sees the mirrored picture, reduced."""
    size = (micrograph.picture.shape[0], micrograph.picture.shape[1])
    moved = micrograph.centres - (micrograph.diameter_px / 2 if mistake.corner else 0.0)
    mirrored = dataclasses.replace(mistake, scale=1.0, corner=False)
    placed = mirrored.places(moved, size_px=size, diameter_px=micrograph.diameter_px)
    return placed * mistake.scale


def _micrographs(root: Path) -> Iterator[Labelled]:
    dataset = read_dataset(root, border=0, max_megapixels=100)
    for part in dataset.parts.values():
        for one in part.micrographs:
            boxes = part.particles[one.id].bounds if one.id in part.particles else np.zeros((0, 4))
            if len(boxes) < 2 * FEWEST:
                continue
            picture = read_picture(one.path, max_megapixels=100)
            centres, side = boxes[:, :2] + boxes[:, 2:] / 2, float(np.median(boxes[:, 3]))
            for name, shown in (("", picture), (" inverted", picture.max() - picture)):
                yield Labelled(one.id + name, shown, centres, side, scales=False)


def _found(micrograph: Labelled) -> Found:
    scales = (1.31 / 1.77, 1.77 / 1.31)
    return measure([micrograph], Reading(), scales=scales, rng=np.random.default_rng(1))


def _count(
    tally: Tally, found: Found, mistake: Reading, wrong: np.ndarray, micrograph: Labelled
) -> None:
    tally.tried += 1
    tally.most_given = max(tally.most_given, abs(found.fits[found.given]))
    tally.least_best = min(tally.least_best, abs(found.fits[found.best]))
    tally.most_best = max(tally.most_best, abs(found.fits[found.best]))
    if found.better is None:
        return
    tally.found += 1
    size = (micrograph.picture.shape[0], micrograph.picture.shape[1])
    right = found.better.places(wrong, size_px=size, diameter_px=micrograph.diameter_px)
    tally.named += mistake != Reading() and np.allclose(right, micrograph.centres, atol=1e-3)


def _print(name: str, tallies: dict[str, Tally]) -> None:
    print(f"\n{name}: labels of one micrograph, standard errors from chance")
    print(f"  {'planted':<30} tried  alarms  named  as given (most)  best reading")
    for mistake, one in tallies.items():
        print(
            f"  {mistake:<30} {one.tried:5d} {one.found:7d} {one.named:6d} "
            f"{one.most_given:16.1f} {one.least_best:6.1f} to {one.most_best:5.1f}"
        )


if __name__ == "__main__":
    main()
