"""The particles of the simulator: three species of Gaussian blobs, and their exact projections."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from cryossl.data.synthetic.optics import interaction_constant


@dataclass(frozen=True)
class Species:
    """A particle in three dimensions: blobs of one width, in units of the particle's radius.

    `blobs` are the centres (z, y, x), with their mean at the origin, and `blob_sigma` is their
    standard deviation; both are fractions of the radius. The radius is that of the disc that labels
    the particle, which holds at least nine tenths of a projection. `peak_volt` is the potential
    above that of ice in the middle of a blob (protein in ice: 2 to 4 V, Vulovic et al., J. Struct.
    Biol. 183 (2013) 19).
    """

    name: str
    diameter_px: int
    peak_volt: float
    blob_sigma: float
    blobs: tuple[tuple[float, float, float], ...]


def _ring(count: int, *, radius: float, z: float) -> tuple[tuple[float, float, float], ...]:
    angles = 2 * np.pi * np.arange(count) / count
    return tuple(
        (z, radius * float(np.sin(angle)), radius * float(np.cos(angle))) for angle in angles
    )


_CORNER = 0.31

TETRAMER = Species(
    "tetramer",
    diameter_px=9,
    peak_volt=4.0,
    blob_sigma=0.33,
    blobs=(
        (_CORNER, _CORNER, _CORNER),
        (_CORNER, -_CORNER, -_CORNER),
        (-_CORNER, _CORNER, -_CORNER),
        (-_CORNER, -_CORNER, _CORNER),
    ),
)
DUMBBELL = Species(
    "dumbbell",
    diameter_px=12,
    peak_volt=3.3,
    blob_sigma=0.32,
    blobs=(
        (0.48, -0.07, -0.03),
        (-0.46, 0.05, -0.02),
        (-0.02, 0.02, 0.05),
    ),
)
BARREL = Species(
    "barrel",
    diameter_px=16,
    peak_volt=2.5,
    blob_sigma=0.20,
    blobs=(
        *_ring(7, radius=0.55, z=0.42),
        *_ring(7, radius=0.60, z=0.0),
        *_ring(7, radius=0.55, z=-0.42),
    ),
)

_SIGMAS_SEEN = 9.0
"""exp(-9^2 / 2) is under 1e-17: added to anything that counts, it is nothing."""
_PARTICLES_AT_ONCE = 256

SPECIES = (TETRAMER, DUMBBELL, BARREL)
"""Compact, elongated and hollow, from small and dense to large and thin."""


def species_of(count: int) -> list[Species]:
    """So many species: the three, then each of them again and again, a pixel wider every time."""
    found = []
    for index in range(count):
        turn, kind = divmod(index, len(SPECIES))
        basic = SPECIES[kind]
        found.append(
            replace(
                basic,
                name=basic.name if turn == 0 else f"{basic.name}{turn + 1}",
                diameter_px=basic.diameter_px + turn,
            )
        )
    return found


def random_rotations(count: int, *, rng: np.random.Generator) -> Float64[np.ndarray, "count 3 3"]:
    """Rotation matrices, uniform over SO(3).

    A four-dimensional normal vector, scaled to length 1, is a uniform unit quaternion (Marsaglia
    1972; Shoemake, Graphics Gems III, 1992). scipy is not used, because the name of its argument
    for the generator differs between the supported versions.
    """
    quaternion = rng.standard_normal((count, 4))
    w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrices: Float64[np.ndarray, "count 3 3"] = np.moveaxis(np.array(rows), 2, 0)
    return matrices


def projected_phase(
    species: Species,
    centres: Float64[np.ndarray, "n 2"],
    rotations: Float64[np.ndarray, "n 3 3"],
    *,
    shape_px: tuple[int, int],
    pixel_size_angstrom: float,
    voltage_volt: float,
) -> Float64[np.ndarray, "height width"]:
    """Phase shift in rad of `n` particles at `centres` (y, x) in px, each with its own rotation.

    The integral of a blob V exp(-|r|^2 / 2 s^2) along the beam is V s sqrt(2 pi) exp(-(y^2 + x^2) /
    2 s^2). So the projection is exact, and because it is separable, one matrix product gives all
    blobs of a particle, in a window beyond which nothing of it is left. Times the interaction
    constant it is a phase. Pixel i covers [i, i + 1), so a particle centred at 4.5 is symmetric
    about the middle of pixel 4.
    """
    radius_px = species.diameter_px / 2
    sigma_px = species.blob_sigma * radius_px
    turned = np.einsum("nij,bj->nbi", rotations, np.array(species.blobs)) * radius_px
    peak_rad = (
        interaction_constant(voltage_volt)
        * species.peak_volt
        * np.sqrt(2 * np.pi)
        * sigma_px
        * pixel_size_angstrom
    )
    reach_px = _reach_px(species)
    side = 2 * reach_px + 1
    corners = np.floor(centres).astype(np.int64) - reach_px
    whole = np.zeros([length + 2 * side for length in shape_px])
    for first in range(0, len(centres), _PARTICLES_AT_ONCE):
        some = slice(first, first + _PARTICLES_AT_ONCE)
        y, x = (
            _profiles(
                turned[some, :, axis + 1] + (centres - corners)[some, None, axis], sigma_px, side
            )
            for axis in (0, 1)
        )
        windows = peak_rad * np.swapaxes(y, 1, 2) @ x
        for (top, left), window in zip(corners[some] + side, windows, strict=True):
            whole[top : top + side, left : left + side] += window
    phase: Float64[np.ndarray, "height width"] = whole[
        side : side + shape_px[0], side : side + shape_px[1]
    ]
    return phase


def _reach_px(species: Species) -> int:
    """Distance in px from a centre beyond which nothing of a particle can be told from zero."""
    radius_px = species.diameter_px / 2
    outermost = max(float(np.linalg.norm(blob)) for blob in species.blobs)
    return int(np.ceil(radius_px * (outermost + _SIGMAS_SEEN * species.blob_sigma))) + 1


def _profiles(
    centres: Float64[np.ndarray, "particles blobs"], sigma_px: float, length: int
) -> Float64[np.ndarray, "particles blobs length"]:
    middles = np.arange(length) + 0.5
    profiles: Float64[np.ndarray, "particles blobs length"] = np.exp(
        -0.5 * ((middles - centres[:, :, None]) / sigma_px) ** 2
    )
    return profiles
