"""Small micrographs with particles at known places, and the folder that `data import` is given."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np

DIAMETER_PX = 12


def places(seed: int, *, height: int, width: int, count: int = 40) -> np.ndarray:
    """Centres (y, x) in px of particles that do not overlap, all of them in the picture."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < count:
        place = rng.uniform(DIAMETER_PX, (height - DIAMETER_PX, width - DIAMETER_PX))
        if all(np.hypot(*(place - other)) > DIAMETER_PX for other in found):
            found.append(place)
    return np.array(found)


def picture(centres: np.ndarray, *, height: int, width: int, contrast: float = -1.0) -> np.ndarray:
    """Noise of sigma 1 with a disc of the contrast at each centre."""
    grey = np.random.default_rng(len(centres)).normal(size=(height, width))
    rows, columns = np.mgrid[:height, :width] + 0.5
    for y, x in centres:
        grey[np.hypot(rows - y, columns - x) <= DIAMETER_PX / 2] += contrast
    return grey.astype(np.float32)


def write_mrc(path: Path, values: np.ndarray, *, pixel_size_angstrom: float | None = None) -> Path:
    """Write a micrograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, data=values) as file:
        if pixel_size_angstrom is not None:
            file.voxel_size = pixel_size_angstrom
    return path


def collection(
    folder: Path,
    *,
    names: tuple[str, ...] = ("a", "b", "c", "d"),
    height: int = 200,
    width: int = 256,
) -> dict[str, np.ndarray]:
    """Write `NAME.mrc` of 2 angstrom per px for each name; their centres by name."""
    centres = {}
    for number, name in enumerate(names):
        centres[name] = places(number, height=height, width=width)
        drawn = picture(centres[name], height=height, width=width)
        write_mrc(folder / f"{name}.mrc", drawn, pixel_size_angstrom=2.0)
    return centres
