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
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from cryossl.data.synthetic.optics import Optics, contrast
from cryossl.data.synthetic.phantoms import Species, projected_phase, random_rotations

PIXEL_SIZE_ANGSTROM = 8.0
MEAN_FREE_PATH_ANGSTROM = 3200.0

_MARGIN_PX = 16
_CLOSEST_DIAMETERS = 0.95
_TRIES_PER_PARTICLE = 60
_DRAWN_AT_ONCE = 1_024
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
    """Counted electrons, the 8-bit picture of them, and the exact centres (y, x) in px."""

    electrons: Int64[np.ndarray, "size size"]
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
    return SimulatedMicrograph(electrons, _eight_bit(electrons), centres[within])


def _ice_angstrom(mean: float, *, full_px: int, rng: np.random.Generator) -> Plane:
    """Ice thickness in Angstrom: a slope, a meniscus (thinner in the middle) and soft hills."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, full_px)] * 2, indexing="ij")
    slope_y, slope_x = rng.normal(0, 0.12, 2)
    hills = _smoothed(rng.standard_normal((full_px, full_px)), sigma_px=18)
    relative = 1 + slope_y * y + slope_x * x + 0.10 * (y**2 + x**2) + 0.07 * hills / hills.std()
    thickness: Plane = mean * np.clip(relative, 0.3, None)
    return thickness


def _smoothed(plane: Plane, *, sigma_px: float) -> Plane:
    """A square plane without its fine grain, as scipy's `gaussian_filter(mode="wrap")` gives it.

    A Fourier transform does it, whose time does not grow with the width of the filter.
    """
    size = plane.shape[0]
    point = np.zeros(size)
    point[0] = 1.0
    along = np.fft.fft(gaussian_filter1d(point, sigma_px, mode="wrap")).real
    spectrum = np.fft.rfft2(plane) * along[:, None] * along[: size // 2 + 1]
    smooth: Plane = np.fft.irfft2(spectrum, s=plane.shape)
    return smooth


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
    for _ in range(count):
        centre_y, centre_x = rng.uniform(0, full_px, 2)
        radius = min(float(rng.lognormal(np.log(5.0), 0.45)), 14.0)
        waves, heights = (2, 3, 6), rng.normal(0, (0.14, 0.08, 0.05))
        shifts = rng.uniform(0, 2 * np.pi, 3)
        reach = radius * (1 + float(np.abs(heights).sum())) + 1
        rows, columns = (
            np.arange(max(0, int(middle - reach)), min(full_px, int(middle + reach) + 1))
            for middle in (centre_y, centre_x)
        )
        y, x = np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        angle = np.arctan2(y - centre_y, x - centre_x)
        bumps = zip(waves, heights, shifts, strict=True)
        outline = radius * np.clip(
            1 + sum(c * np.cos(k * angle + d) for k, c, d in bumps), 0.4, None
        )
        share = np.hypot(y - centre_y, x - centre_x) / outline
        window = np.ix_(rows, columns)
        phase[window] += rng.uniform(0.10, 0.55) * np.sqrt(np.clip(1 - share**2, 0, None))
        mask[window] |= share < 1
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
    size, half = blocked.shape[0], species.diameter_px / 2
    wanted = max(1, round(given.coverage * size**2 / (np.pi * half**2)))
    free = _FreePlaces(blocked, least_px=_CLOSEST_DIAMETERS * species.diameter_px)
    centres: list[Float64[np.ndarray, " 2"]] = []
    tries = 1_000 + wanted * _TRIES_PER_PARTICLE
    while tries and len(centres) < wanted:
        before = rng.bit_generator.state
        drawn = rng.uniform(0, size, (min(tries, _DRAWN_AT_ONCE), 2))
        tries -= len(drawn)
        places = np.floor(drawn - half) + half
        for index in free.among(places):
            place = places[index]
            if not centres and not ((place >= border_px) & (place <= size - border_px)).all():
                continue
            if free.take(place):
                centres.append(place)
            if len(centres) == wanted:
                # As if the others had not been drawn.
                rng.bit_generator.state = before
                rng.uniform(0, size, (index + 1, 2))
                break
    return np.array(centres).reshape(-1, 2)


class _FreePlaces:
    """The pixels where a centre may lie. A place costs the same among many centres as among few.

    Centres are whole numbers of px apart, so those too near to one are always the same pixels.
    """

    def __init__(self, blocked: Bool[np.ndarray, "size size"], *, least_px: float) -> None:
        self._reach = int(least_px)
        apart = np.arange(-self._reach, self._reach + 1)
        self._far = np.hypot(apart[:, None], apart) >= least_px
        # With a margin, so that the surroundings of a centre at an edge need no cutting.
        self._free = np.pad(~blocked, self._reach)

    def among(self, places: Float64[np.ndarray, "n 2"]) -> Int64[np.ndarray, " m"]:
        """The indices of the places that are inside and free now."""
        y, x = (np.maximum(places, 0).astype(np.int64) + self._reach).T
        return np.flatnonzero((places >= 0).all(axis=1) & self._free[y, x])

    def take(self, place: Float64[np.ndarray, " 2"]) -> bool:
        """Put a centre here; False if it is too near to another."""
        y, x = int(place[0]), int(place[1])
        if not self._free[y + self._reach, x + self._reach]:
            return False
        self._free[y : y + len(self._far), x : x + len(self._far)] &= self._far
        return True


def _eight_bit(electrons: Int64[np.ndarray, "size size"]) -> UInt8[np.ndarray, "size size"]:
    """Grey values 0 to 255, stretched between two percentiles, as pictures are often saved."""
    low, high = np.percentile(electrons, _PERCENTILES)
    grey: UInt8[np.ndarray, "size size"] = np.round(
        np.clip((electrons - low) / max(high - low, 1), 0, 1) * 255
    ).astype(np.uint8)
    return grey
