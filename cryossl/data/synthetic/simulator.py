"""One simulated micrograph: particles in ice, through the microscope, counted in electrons.

electrons(y, x) ~ Poisson(dose * exp(-t(y, x) / Lambda) * illumination(y, x) * (1 + contrast(y, x)))

Here t is the ice thickness, Lambda the mean free path of electrons in ice (Rice et al., J. Struct.
Biol. 204 (2018) 38: 300 to 400 nm at 300 kV behind an energy filter), and `contrast` the weak-phase
image of everything in the beam, with dirt and carbon. There are two kinds of noise, as in Baxter et
al., J. Struct. Biol. 166 (2009) 126: that of the object (ice, debris) before the transfer function,
and shot noise after it.

Units are in the names; pixel i covers [i, i + 1); angles are in rad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy.ndimage import gaussian_filter

from cryossl.data.synthetic.optics import Optics, contrast
from cryossl.data.synthetic.phantoms import Species, projected_phase, random_rotations

PIXEL_SIZE_ANGSTROM = 8.0
MEAN_FREE_PATH_ANGSTROM = 3200.0

_MARGIN_PX = 16
_CLOSEST_DIAMETERS = 0.95
_TRIES_PER_PARTICLE = 60
_PERCENTILES = (0.2, 99.8)

Plane = Float64[np.ndarray, "height width"]


@dataclass(frozen=True)
class Conditions:
    """The conditions that differ between the micrographs of one session.

    `coverage` is the intended disc area / the picture's area; `debris` and `crystals` are counts. A
    pixel has 64 square Angstrom: 1,200 to 4,800 electrons are the usual 20 to 75 per square
    Angstrom.
    """

    coverage: float
    defocus_angstrom: float
    b_factor_angstrom2: float
    ice_angstrom: float
    electrons_per_px: float
    debris: int
    crystals: int
    carbon: bool
    edge_stripe: bool


@dataclass(frozen=True)
class SimulatedMicrograph:
    """An 8-bit picture and the exact centres (y, x) in px of the particles in it."""

    picture: UInt8[np.ndarray, "size size"]
    centres: Float64[np.ndarray, "n 2"]


CONDITION_DRAWS = 9


def conditions(uniform: Float64[np.ndarray, " 9"]) -> Conditions:
    """Conditions, each from one uniform number in [0, 1) by the inverse of its distribution.

    So the caller can spread them evenly over a data set. Coverage is a truncated exponential: many
    nearly empty micrographs, a few crowded ones. One micrograph in eight has ice that is two to
    three times too thick.
    """
    cover, focus, blur, ice, dose, debris, crystals, carbon, edge = (
        float(value) for value in uniform
    )
    thick = ice > 0.875
    return Conditions(
        coverage=min(0.004 - 0.036 * float(np.log1p(-cover)), 0.16),
        defocus_angstrom=12_000 * (40_000 / 12_000) ** focus,
        b_factor_angstrom2=150 * (1_200 / 150) ** blur,
        ice_angstrom=900 + 4_000 * (ice - 0.875) if thick else 250 + 400 * ice,
        electrons_per_px=1_200 * (4_800 / 1_200) ** dose,
        debris=int(-12 * np.log1p(-debris)),
        crystals=int(-2.5 * np.log1p(-crystals)),
        carbon=carbon > 0.82,
        edge_stripe=edge > 0.85,
    )


def simulate(
    species: Species, given: Conditions, *, size_px: int, border_px: int, rng: np.random.Generator
) -> SimulatedMicrograph:
    """A micrograph of `size_px` x `size_px` pixels.

    At least one particle is `border_px` or more away from the edges.
    """
    full_px = size_px + 2 * _MARGIN_PX
    optics = Optics(given.defocus_angstrom, given.b_factor_angstrom2)
    ice = _ice_angstrom(given.ice_angstrom, full_px=full_px, rng=rng)
    outside = (
        _carbon_depth_px(full_px, rng=rng) if given.carbon else np.full((full_px, full_px), -np.inf)
    )
    crystals, crystal_phase = _crystals(given.crystals, full_px=full_px, rng=rng)
    blocked = (outside > -species.diameter_px / 2) | crystals
    centres = _places(species, given, blocked, border_px=border_px + _MARGIN_PX, rng=rng)
    phase = projected_phase(
        species,
        centres,
        random_rotations(len(centres), rng=rng),
        shape_px=ice.shape,
        pixel_size_angstrom=PIXEL_SIZE_ANGSTROM,
        voltage_volt=optics.voltage_volt,
    )
    phase += (
        _solvent(ice, rng=rng) + _debris(given.debris, full_px=full_px, rng=rng) + crystal_phase
    )
    phase += _carbon(outside, rng=rng)
    seen = 1 + contrast(phase - phase.mean(), optics, pixel_size_angstrom=PIXEL_SIZE_ANGSTROM)
    inside = slice(_MARGIN_PX, _MARGIN_PX + size_px)
    expected = (seen * np.exp(-ice / MEAN_FREE_PATH_ANGSTROM))[
        inside, inside
    ] * given.electrons_per_px
    expected *= _illumination(size_px, stripe=given.edge_stripe, rng=rng)
    # Rounded, because the last digits differ between processors and could change the drawn count.
    electrons = rng.poisson(np.maximum(np.round(expected, 3), 0.1))
    centres = centres - _MARGIN_PX
    within = ((centres >= 0) & (centres < size_px)).all(axis=1)
    return SimulatedMicrograph(_eight_bit(electrons), centres[within])


def _ice_angstrom(mean: float, *, full_px: int, rng: np.random.Generator) -> Plane:
    """Ice thickness in Angstrom: a slope, a meniscus (thinner in the middle) and soft hills."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, full_px)] * 2, indexing="ij")
    slope_y, slope_x = rng.normal(0, 0.12, 2)
    hills = gaussian_filter(rng.standard_normal((full_px, full_px)), 18, mode="wrap")
    relative = 1 + slope_y * y + slope_x * x + 0.10 * (y**2 + x**2) + 0.07 * hills / hills.std()
    thickness: Plane = mean * np.clip(relative, 0.3, None)
    return thickness


def _solvent(ice: Plane, *, rng: np.random.Generator) -> Plane:
    """Phase noise of amorphous ice, with a deviation that grows with the root of the thickness.

    The reason is that layers of ice are independent.
    """
    granular = rng.standard_normal(ice.shape)
    soft = gaussian_filter(rng.standard_normal(ice.shape), 1.6, mode="wrap")
    phase: Plane = np.sqrt(ice / 300) * (0.007 * granular + 0.006 * soft / soft.std())
    return phase


def _debris(count: int, *, full_px: int, rng: np.random.Generator) -> Plane:
    """Faint round pieces of broken or unfolded protein, which resemble particles."""
    scraps = np.zeros((full_px, full_px))
    if count == 0:
        return scraps
    grid = np.arange(full_px) + 0.5
    centres = rng.uniform(0, full_px, (count, 2))
    sigmas = rng.uniform(0.8, 2.6, (count, 1))
    profile_y, profile_x = (
        np.exp(-0.5 * ((grid - centres[:, axis : axis + 1]) / sigmas) ** 2) for axis in (0, 1)
    )
    strength = rng.uniform(0.02, 0.10, (count, 1))
    scraps += (strength * profile_y).T @ profile_x
    return scraps


def _crystals(
    count: int, *, full_px: int, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "height width"], Plane]:
    """The mask and the phase of ice crystals and ethane drops: dark, sharp, at least particle size.

    Outline R(a) = R (1 + sum_k c_k cos(k a + d_k)), thickness of a lens, sqrt(1 - (r / R)^2).
    """
    mask = np.zeros((full_px, full_px), dtype=bool)
    phase = np.zeros((full_px, full_px))
    y, x = np.meshgrid(*[np.arange(full_px) + 0.5] * 2, indexing="ij")
    for _ in range(count):
        centre_y, centre_x = rng.uniform(0, full_px, 2)
        radius = min(float(rng.lognormal(np.log(5.0), 0.45)), 14.0)
        angle = np.arctan2(y - centre_y, x - centre_x)
        bumps = zip(
            (2, 3, 6), rng.normal(0, (0.14, 0.08, 0.05)), rng.uniform(0, 2 * np.pi, 3), strict=True
        )
        outline = radius * np.clip(
            1 + sum(c * np.cos(k * angle + d) for k, c, d in bumps), 0.4, None
        )
        share = np.hypot(y - centre_y, x - centre_x) / outline
        phase += rng.uniform(0.10, 0.55) * np.sqrt(np.clip(1 - share**2, 0, None))
        mask |= share < 1
    return mask, phase


def _carbon_depth_px(full_px: int, *, rng: np.random.Generator) -> Plane:
    """Distance in px from the edge of a round hole in the carbon film; positive on the film."""
    hole_px = 6_000 / PIXEL_SIZE_ANGSTROM
    angle = rng.uniform(0, 2 * np.pi)
    gap = rng.uniform(0.15, 0.42) * full_px
    y, x = np.meshgrid(*[np.arange(full_px) + 0.5 - full_px / 2] * 2, indexing="ij")
    depth: Plane = (
        np.hypot(y - (gap - hole_px) * np.sin(angle), x - (gap - hole_px) * np.cos(angle)) - hole_px
    )
    return depth


def _carbon(outside: Plane, *, rng: np.random.Generator) -> Plane:
    """Phase of the film: a step, seen as a Fresnel fringe, and the strong grain of carbon."""
    film = 1 / (1 + np.exp(-np.clip(outside, -30, 30) / 0.7))
    phase: Plane = film * (0.35 + 0.09 * rng.standard_normal(outside.shape))
    return phase


def _illumination(
    size_px: int, *, stripe: bool, rng: np.random.Generator
) -> Float64[np.ndarray, "size size"]:
    """The illumination: a beam that fades from its middle.

    With `stripe` one edge has a strip that is too dark, as frame alignment leaves it.
    """
    y, x = np.meshgrid(*[np.linspace(-1, 1, size_px)] * 2, indexing="ij")
    middle_y, middle_x = rng.normal(0, 0.4, 2)
    light: Float64[np.ndarray, "size size"] = np.exp(
        -0.5 * ((y - middle_y) ** 2 + (x - middle_x) ** 2) / 4**2
    )
    if stripe:
        width = int(rng.integers(2, 6))
        light[:width] *= rng.uniform(0.55, 0.85)
        light = np.rot90(light, int(rng.integers(4)))
    return light


def _places(
    species: Species,
    given: Conditions,
    blocked: Bool[np.ndarray, "size size"],
    *,
    border_px: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "n 2"]:
    """Centres by random sequential addition, as many as the coverage needs, not blocked or near.

    Each centre is a whole number plus half the diameter, so that it is exactly in the middle of the
    box [x, y, d, d] of whole numbers. The first centre is inside the border, because a micrograph
    without a label counts as unlabelled.
    """
    size = blocked.shape[0]
    disc_px = np.pi * species.diameter_px**2 / 4
    wanted = max(1, round(given.coverage * size**2 / disc_px))
    half = species.diameter_px / 2
    centres: list[Float64[np.ndarray, " 2"]] = []
    for _ in range(1_000 + wanted * _TRIES_PER_PARTICLE):
        candidate = np.floor(rng.uniform(0, size, 2) - half) + half
        first_outside = (
            not centres and not ((candidate >= border_px) & (candidate <= size - border_px)).all()
        )
        if first_outside or (candidate < 0).any() or blocked[int(candidate[0]), int(candidate[1])]:
            continue
        if (
            centres
            and np.hypot(*(np.array(centres) - candidate).T).min()
            < _CLOSEST_DIAMETERS * species.diameter_px
        ):
            continue
        centres.append(candidate)
        if len(centres) == wanted:
            break
    return np.array(centres).reshape(-1, 2)


def _eight_bit(electrons: Int64[np.ndarray, "size size"]) -> UInt8[np.ndarray, "size size"]:
    """Grey values 0 to 255, stretched between two percentiles, as pictures are often saved."""
    low, high = np.percentile(electrons, _PERCENTILES)
    grey: UInt8[np.ndarray, "size size"] = np.round(
        np.clip((electrons - low) / max(high - low, 1), 0, 1) * 255
    ).astype(np.uint8)
    return grey
