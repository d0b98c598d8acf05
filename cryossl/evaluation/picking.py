"""Probability map -> particles: their centres, and a score for each.

The map is averaged under a window of the width of a particle. The picks are its local maxima with a
minimum distance from each other. Connected components cannot count particles here, because discs
overlap: the nearest labels are one radius apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt16
from scipy import ndimage, signal

FULL_SCORE = 65_535
"""The score of a pick with p = 1 in its whole window; scores are mean p in units of 1 / 65,535."""

# Chosen on the train micrographs of EMPIAR-10017 and 10028, on perfect maps and on those of a
# network (docs/log.md).
WINDOW_RADIUS = 0.95
"""Radius of the window, in radii of a particle's disc."""
SPACING = 0.6
"""Smallest distance of two picks, in radii of a disc; the nearest labels are 0.97 radii apart."""

# A mean below one step of p8 means no particle; its noise would give thousands of picks.
_LEAST_SCORE = FULL_SCORE // 255


@dataclass(frozen=True, eq=False)
class Picks:
    """Centres and scores of the picks of a map, best first.

    Centres are (y, x) in px of the map; the middle of the first pixel is at 0.5.
    """

    centres: Float32[np.ndarray, "picks 2"]
    scores: UInt16[np.ndarray, " picks"]

    def within(self, *, height_px: int, width_px: int, border_px: int) -> Picks:
        """The picks outside the band of `border_px` at the edges of the map."""
        kept = inside(self.centres, height_px=height_px, width_px=width_px, border_px=border_px)
        return Picks(self.centres[kept], self.scores[kept])


def pick(probabilities: UInt8[np.ndarray, "height width"], *, radius_px: float) -> Picks:
    """The particles of a map of p8, for discs of `radius_px`.

    The score of a position is the mean of p under the window around it, with weight 1 - (d / R)^2
    at distance d < R. A window with a peak has one maximum in a disc; a flat window has a plateau
    where discs overlap. Beyond the edge p is 0, so the maximum of a particle that the edge cuts
    stays in its middle. Of equal neighbours the upper, then the left one is the pick. Raises
    ValueError unless the radius is above 0.
    """
    if radius_px <= 0:
        raise ValueError(f"the radius of a particle is above 0 px, got {radius_px}")
    window = _window(WINDOW_RADIUS * radius_px)
    mean = signal.oaconvolve(probabilities.astype(np.float64), window, mode="same") / 255
    scores = np.rint(FULL_SCORE * np.clip(mean, 0, 1)).astype(np.uint16)
    spacing_px = max(1.5, SPACING * radius_px)  # below it, neighbouring pixels could be two picks
    maxima = _maxima(scores, reach_px=isqrt(int(spacing_px**2 / 2)))
    maxima = maxima[_apart(maxima, scores.shape, spacing_px)]
    return Picks((maxima + 0.5).astype(np.float32), scores[maxima[:, 0], maxima[:, 1]])


def inside(
    centres: Float32[np.ndarray, "n 2"] | Float64[np.ndarray, "n 2"],
    *,
    height_px: int,
    width_px: int,
    border_px: int,
) -> Bool[np.ndarray, " n"]:
    """Whether each centre lies in the picture and outside the band of `border_px` at its edges.

    Pixel counts leave out the same band.
    """
    y, x = centres[:, 0], centres[:, 1]
    within: Bool[np.ndarray, " n"] = (
        (y >= border_px)
        & (y < height_px - border_px)
        & (x >= border_px)
        & (x < width_px - border_px)
    )
    return within


def _window(radius_px: float) -> Float64[np.ndarray, "side side"]:
    """The weights of the window; they add up to 1."""
    reach = max(0, ceil(radius_px) - 1)
    away = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.clip(1 - (away[:, None] ** 2 + away[None, :] ** 2) / radius_px**2, 0, None)
    normed: Float64[np.ndarray, "side side"] = weights / weights.sum()
    return normed


def _maxima(
    scores: UInt16[np.ndarray, "height width"], *, reach_px: int
) -> Int64[np.ndarray, "n 2"]:
    """(row, column) of the local maxima, best first, ties by row and column.

    A local maximum is a pixel that no other pixel in the square around it exceeds.
    """
    highest = ndimage.maximum_filter(scores, size=2 * max(1, reach_px) + 1, mode="constant", cval=0)
    rows, columns = np.nonzero((scores == highest) & (scores >= _LEAST_SCORE))
    order = np.lexsort((columns, rows, -scores[rows, columns].astype(np.int64)))
    return np.stack([rows, columns], axis=1)[order].astype(np.int64)


def _apart(
    maxima: Int64[np.ndarray, "n 2"], shape: tuple[int, ...], spacing_px: float
) -> Bool[np.ndarray, " n"]:
    """Whether each maximum remains if it must keep the spacing from all better ones that remain.

    The excluded pixels are marked in a map, not in a list of pairs, because a network that predicts
    particle everywhere makes every pixel a maximum.
    """
    reach = ceil(spacing_px) - 1
    away = np.arange(-reach, reach + 1)
    near = away[:, None] ** 2 + away[None, :] ** 2 < spacing_px**2
    taken = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), np.bool_)
    kept = np.zeros(len(maxima), np.bool_)
    for number, (row, column) in enumerate(maxima.tolist()):
        if not taken[row + reach, column + reach]:
            kept[number] = True
            taken[row : row + 2 * reach + 1, column : column + 2 * reach + 1] |= near
    return kept
