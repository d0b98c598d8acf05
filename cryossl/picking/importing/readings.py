"""Do labels sit on particles, or would they if they were mirrored or scaled?

Nothing in a coordinate file says whether its rows are counted from the picture's first row or from
the last, nor always at which binning. The pictures do. A particle is darker, or lighter, than its
surroundings: the contrast at a place is the mean of a square of 0.7 diameters minus that of a
square of 1.6. Over labels on particles its mean is tens of standard errors from 0. Over labels
beside particles, mirrored ones among them, it is within about three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import uniform_filter

from cryossl.data.images import normalise, resize
from cryossl.data.levels import LEVELS_PER_Z

INNER, OUTER = 0.7, 1.6
"""Sides of the two squares, in diameters."""
DIAMETERS = (1.5, 1.0, 0.7, 0.5, 0.35)
"""Diameters that are tried, as factors on the given one; it may be a radius, or that of a mask."""
REDUCED_DIAMETER_PX = 12
"""Pictures are reduced until a particle is about this wide: faster, and the noise is lower."""
SCALES = (2.0, 0.5, 3.0, 1 / 3, 4.0, 0.25, 6.0, 1 / 6, 8.0, 0.125, 16.0, 1 / 16)
"""Usual binnings, as factors on the coordinates."""

CLEAR = 6.0
"""Standard errors from which on labels sit on particles; chance reached 4.1 in docs/data.md."""
FEWEST = 16
"""Labels needed for a decision; with fewer a standard error is itself a guess."""
MARGIN = 2.0
"""A reading is clearly better if it is this many times as far from 0 as another one."""
_LEAST_SPREAD = 0.2
"""Labels at the right scale are spread over more of the picture than this share; the contrasts of
labels that a wrong scale gathers in a corner are not independent of each other."""
_DECIDED = 3.0 * CLEAR
_FEWEST_MICROGRAPHS, _MOST_MICROGRAPHS = 8, 32


@dataclass(frozen=True, order=True)
class Reading:
    """How coordinates become places of the picture: swapped, scaled, moved from corner, mirrored.

    With `corner` they are the corner, with the smallest x and y, of a box as wide as the particle.
    """

    flip_y: bool = False
    flip_x: bool = False
    swap_xy: bool = False
    scale: float = 1.0
    corner: bool = False

    def places(
        self,
        centres: Float64[np.ndarray, "n 2"],
        *,
        size_px: tuple[int, int],
        diameter_px: float | Float64[np.ndarray, " n"],
    ) -> Float64[np.ndarray, "n 2"]:
        """Centres (y, x) of a file -> centres in the picture of this height and width, in px.

        `diameter_px` is in px of the picture.
        """
        placed = (centres[:, ::-1] if self.swap_xy else centres) * self.scale
        if self.corner:
            placed = placed + np.reshape(diameter_px, (-1, 1)) / 2
        for axis, flipped in enumerate((self.flip_y, self.flip_x)):
            if flipped:
                placed = placed.copy()
                placed[:, axis] = size_px[axis] - placed[:, axis]
        return np.ascontiguousarray(placed)

    @property
    def options(self) -> str:
        """The options of `data import` that stand for this reading."""
        words = [
            f"--{name.replace('_', '-')}"
            for name in ("flip_y", "flip_x", "swap_xy", "corner")
            if getattr(self, name)
        ]
        if self.scale != 1:
            words.append(f"--scale {self.scale:.6g}")
        return " ".join(words) or "no such option"

    @property
    def words(self) -> str:
        """What the reading does, in words."""
        parts = ["x and y swapped"] if self.swap_xy else []
        if self.scale != 1:
            parts.append(f"scaled by {self.scale:.6g}")
        if self.corner:
            parts.append("taken as corners of boxes")
        mirrored = [axis for axis, flipped in (("y", self.flip_y), ("x", self.flip_x)) if flipped]
        if mirrored:
            parts.append(f"mirrored in {' and '.join(mirrored)}")
        return ", ".join(parts) or "as they are"


@dataclass(frozen=True)
class Labelled:
    """A labelled micrograph as the detector needs it.

    `diameter_px` is in px of the picture, or in px of the file, and then scales with the centres,
    if `scales` is true.
    """

    name: str
    picture: Float32[np.ndarray, "height width"]
    centres: Float64[np.ndarray, "n 2"]
    diameter_px: float
    scales: bool


@dataclass
class Fit:
    """How well labels sit on particles of one diameter in one reading, so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Float64[np.ndarray, " n"]) -> None:
        """Add the contrasts at the labels of a micrograph."""
        self.count += len(values)
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())

    @property
    def errors(self) -> float:
        """The mean contrast over its standard error; 0 with fewer than 16 labels.

        The variance is at least 1, that of all places of a picture: a few places beside particles
        differ less than that, because places on particles are rare, and would seem certain.
        """
        if self.count < FEWEST:
            return 0.0
        mean = self.total / self.count
        variance = (self.squares - self.count * mean**2) / (self.count - 1)
        return mean / math.sqrt(max(variance, 1.0) / self.count)


@dataclass(frozen=True)
class Found:
    """What the pictures say of some labels.

    `fits` has standard errors by reading, with those of `given`, the user's own; `random_errors`
    are those of random places. `micrographs` have been measured, with `count` labels that are far
    enough from the edge. `odd` names micrographs whose
    labels clearly fit another reading than the others.
    """

    given: Reading
    fits: dict[Reading, float]
    random_errors: float
    micrographs: int
    count: int = 0
    odd: dict[str, Reading] = field(default_factory=dict)

    @property
    def best(self) -> Reading:
        """The reading in which labels sit best on particles."""
        return max(self.fits, key=lambda reading: (abs(self.fits[reading]), reading == self.given))

    @property
    def better(self) -> Reading | None:
        """A reading that fits clearly better than the given one; None if there is none."""
        return _clear(self.fits, self.given)

    @property
    def fitting(self) -> bool:
        """Whether labels clearly sit on particles in the given reading."""
        return abs(self.fits[self.given]) >= CLEAR


def _clear(fits: Mapping[Reading, float], given: Reading) -> Reading | None:
    """The reading that fits best, if it does so clearly and is not the given one.

    One that differs in the corner has to be clearly better than its twin too: with a diameter that
    is too small the two are almost the same places.
    """
    able = [
        reading
        for reading in fits
        if reading.corner == given.corner
        or abs(fits[reading]) >= MARGIN * abs(fits.get(_twin(reading), 0.0))
    ]
    best = max(able, key=lambda reading: abs(fits[reading]), default=given)
    enough = max(CLEAR, MARGIN * abs(fits.get(given, 0.0)))
    return best if best != given and abs(fits[best]) >= enough else None


def _twin(reading: Reading) -> Reading:
    return replace(reading, corner=not reading.corner)


def candidates(given: Reading, *, scales: Iterable[float]) -> list[Reading]:
    """The given reading first, then all mirrored, swapped, moved and scaled forms of it."""
    factors = sorted({round(scale, 9) for scale in (1.0, *SCALES, *scales) if scale > 0})
    others = [
        Reading(flip_y, flip_x, swap_xy, given.scale * factor, corner)
        for factor in factors
        for corner in (False, True)
        if corner == given.corner or factor == 1
        for flip_y in (False, True)
        for flip_x in (False, True)
        for swap_xy in (False, True)
    ]
    return [given, *(reading for reading in others if reading != given)]


def measure(
    micrographs: Iterable[Labelled],
    given: Reading,
    *,
    scales: Sequence[float] = (),
    rng: np.random.Generator,
) -> Found:
    """Measure how well labels fit each reading; stops when that is decided.

    `micrographs` are read one by one, at most 32 of them, and at least eight if there are as many.
    `scales` are further factors on the coordinates, as the ratio of two pixel sizes. `rng` draws
    the random places.
    """
    readings = candidates(given, scales=scales)
    unscaled = [reading for reading in readings if reading.scale == given.scale]
    others = [reading for reading in readings if reading.scale != given.scale]
    fits: _Fits = {reading: [Fit() for _ in DIAMETERS] for reading in readings}
    chance = [Fit() for _ in DIAMETERS]
    own: dict[str, Reading] = {}
    seen = 0
    for micrograph in micrographs:
        maps = _Maps(micrograph)
        alone = _add(fits, maps, unscaled, given_scale=given.scale)
        if seen < _FEWEST_MICROGRAPHS and not _is_decided(fits):
            alone |= _add(fits, maps, others, given_scale=given.scale)
        _add_random(chance, maps, given, rng=rng)
        clear = _clear(alone, given)
        if clear is not None or abs(alone.get(given, 0.0)) >= CLEAR:
            own[micrograph.name] = clear or given
        seen += 1
        if seen >= _MOST_MICROGRAPHS or (seen >= _FEWEST_MICROGRAPHS and _is_decided(fits)):
            break
    errors = {reading: _best(members) for reading, members in fits.items()}
    count = max(fit.count for fit in fits[given])
    found = Found(given, errors, _best(chance), seen, count)
    main = found.better or given
    odd = {name: reading for name, reading in own.items() if reading != main}
    return replace(found, odd=odd)


_Fits = dict[Reading, list[Fit]]
"""Reading -> its fit with each of the diameters."""


def _best(fits: Sequence[Fit]) -> float:
    """The standard errors that are farthest from 0."""
    return max((fit.errors for fit in fits), key=abs)


def _is_decided(fits: _Fits) -> bool:
    first, second = sorted((abs(_best(members)) for members in fits.values()), reverse=True)[:2]
    return first >= _DECIDED and first >= MARGIN * second


def _add(
    fits: _Fits, maps: _Maps, readings: Sequence[Reading], *, given_scale: float
) -> dict[Reading, float]:
    """Add a micrograph to the fits of some readings; its own standard errors by reading."""
    micrograph = maps.micrograph
    size = maps.size_px
    alone: dict[Reading, float] = {}
    for reading in readings:
        diameter = maps.diameter_px(reading)
        places = reading.places(micrograph.centres, size_px=size, diameter_px=diameter)
        if reading.scale != given_scale and _spread(places, size) < _LEAST_SPREAD:
            continue
        errors = []
        for fit, factor in zip(fits[reading], DIAMETERS, strict=True):
            values = maps.contrasts(places, diameter_px=diameter * factor)
            fit.add(values)
            one = Fit()
            one.add(values)
            errors.append(one)
        alone[reading] = _best(errors)
    return alone


def _add_random(
    chance: Sequence[Fit], maps: _Maps, given: Reading, *, rng: np.random.Generator
) -> None:
    places = rng.random(maps.micrograph.centres.shape) * maps.size_px
    for fit, factor in zip(chance, DIAMETERS, strict=True):
        fit.add(maps.contrasts(places, diameter_px=maps.diameter_px(given) * factor))


def _spread(places: Float64[np.ndarray, "n 2"], size_px: tuple[int, int]) -> float:
    """The share of a picture that the rectangle round the places in it covers."""
    inside = places[((places >= 0) & (places <= size_px)).all(axis=1)]
    return float(np.prod(np.ptp(inside, axis=0) / size_px)) if len(inside) else 0.0


class _Maps:
    """The contrast maps of one micrograph, each made when it is first needed."""

    def __init__(self, micrograph: Labelled) -> None:
        self.micrograph = micrograph
        self.size_px = (micrograph.picture.shape[0], micrograph.picture.shape[1])
        self._maps: dict[float, Contrast] = {}

    def diameter_px(self, reading: Reading) -> float:
        """The particle diameter of a reading, in px of the picture."""
        return self.micrograph.diameter_px * (reading.scale if self.micrograph.scales else 1.0)

    def contrasts(
        self, places: Float64[np.ndarray, "n 2"], *, diameter_px: float
    ) -> Float64[np.ndarray, " m"]:
        """The contrasts of particles of a diameter at places; none for an impossible diameter."""
        if not 2 <= diameter_px <= min(self.size_px) / 4:
            return np.zeros(0)
        key = round(diameter_px, 6)
        if key not in self._maps:
            self._maps[key] = Contrast(self.micrograph.picture, diameter_px)
        return self._maps[key].at(places)


class Contrast:
    """The contrast of particles of one diameter at every place of a picture, in its own sigma."""

    def __init__(self, picture: Float32[np.ndarray, "height width"], diameter_px: float) -> None:
        height, width = picture.shape
        self._factor = max(1, int(diameter_px / REDUCED_DIAMETER_PX))
        reduced = (max(1, height // self._factor), max(1, width // self._factor))
        whole = picture[: reduced[0] * self._factor, : reduced[1] * self._factor]
        small = resize(whole, height_px=reduced[0], width_px=reduced[1])
        z = normalise(small).astype(np.float32) / np.float32(LEVELS_PER_Z)
        inner, outer = (
            uniform_filter(z, max(1, round(side * diameter_px / self._factor)))
            for side in (INNER, OUTER)
        )
        difference = inner - outer
        band = int(diameter_px / self._factor)
        compared = difference[band : reduced[0] - band, band : reduced[1] - band]
        self._values = (difference - compared.mean()) / max(float(compared.std()), 1e-6)
        self._size, self._edge = (height, width), diameter_px

    def at(self, places: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " m"]:
        """The mean contrast in each square of one diameter that holds places (y, x), in px.

        Places nearer than a diameter to the edge are left out.
        """
        inside = (places >= self._edge) & (places <= np.subtract(self._size, self._edge))
        kept = places[inside.all(axis=1)]
        y, x = (np.clip((kept / self._factor).astype(int), 0, np.subtract(self._values.shape, 1))).T
        # Labels within one diameter see the same pixels: together they are one observation.
        _, cells = np.unique((kept // self._edge).astype(int), axis=0, return_inverse=True)
        counts = np.bincount(cells.ravel())
        sums = np.bincount(cells.ravel(), weights=self._values[y, x])
        return np.asarray(sums / counts, dtype=np.float64)
