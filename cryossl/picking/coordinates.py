"""The particles of one micrograph, as every coordinate format is read and written here.

A centre is (y, x) in px of the picture file, counted so that the middle of the first pixel is at
0.5, as in COCO's boxes: y grows with the rows as the file stores them. What other programs count:

- RELION's STAR, Topaz, CryoPPP's and other CSV: the index of a pixel. X 40, Y 70 is the array
  element [70, 40], so the centre (70.5, 40.5): reading adds 0.5 to both, writing subtracts it.
- EMAN's `.box` and crYOLO's `.cbox`: the corner with the smallest x and y, and the size of a box;
  the index of the centre is corner + size / 2, so 0.5 is added to that.
- cryoSPARC's `.cs`: the index of the centre as a fraction of the micrograph's sides.
- COCO: the corner and size of a box; the centre is corner + size / 2, with nothing added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

PIXEL_MIDDLE = 0.5
"""Where the middle of pixel 0 is, in px."""


@dataclass(frozen=True)
class Coordinates:
    """The particles of one micrograph in one file.

    `micrograph` is its name as the file gives it, with or without folders and suffix. `centres`
    are rows (y, x) in px. What a format does not give is None: the `scores`, higher is better; the
    `diameters_px`, which are the sides of the boxes for formats of boxes; the height and width
    `picture_px` of the picture in whose pixels the centres count; the size of such a pixel.
    """

    micrograph: str
    centres: Float64[np.ndarray, "n 2"]
    scores: Float64[np.ndarray, " n"] | None = None
    diameters_px: Float64[np.ndarray, " n"] | None = None
    picture_px: tuple[int, int] | None = None
    pixel_size_angstrom: float | None = None

    @property
    def count(self) -> int:
        """Number of particles."""
        return len(self.centres)

    @property
    def x_index(self) -> Float64[np.ndarray, " n"]:
        """X of the centres as programs give it that count the indices of pixels."""
        return self.centres[:, 1] - PIXEL_MIDDLE

    @property
    def y_index(self) -> Float64[np.ndarray, " n"]:
        """Y of the centres as programs give it that count the indices of pixels."""
        return self.centres[:, 0] - PIXEL_MIDDLE

    def sides_px(self) -> Float64[np.ndarray, " n"]:
        """The diameters, for formats that need a box. Raises ValueError without them."""
        if self.diameters_px is None:
            raise ValueError(f"the boxes of {self.micrograph} have no size")
        return self.diameters_px


def centres_of_indices(
    x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 2"]:
    """Indices of pixels, which may be fractions -> centres (y, x) in px."""
    return np.stack([y, x], axis=1) + PIXEL_MIDDLE
