"""Coordinate files and micrographs -> which micrographs are labelled, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryossl.errors import DataError
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.formats import known
from cryossl.picking.importing.collection import Picture
from cryossl.picking.importing.names import match, stem
from cryossl.picking.importing.readings import Reading
from cryossl.progress.events import OnProgress, Progress

_SAME = 0.02
"""Relative difference up to which two pixel sizes, or two shapes, are the same."""


@dataclass(frozen=True)
class Sizes:
    """What the user says of sizes; None where nothing is said."""

    diameter_px: float | None = None
    diameter_angstrom: float | None = None
    pixel_size_angstrom: float | None = None


@dataclass(frozen=True)
class Label:
    """The particles of one picture, in its pixels, before any reading of the user's.

    `file` is where they are from. `scales` says that the diameter is in px of the file, and so
    scales with the coordinates.
    """

    picture: Picture
    coordinates: Coordinates
    file: str
    scales: bool

    @property
    def diameter_px(self) -> float:
        """Median diameter."""
        sides = self.coordinates.diameters_px
        return float(np.median(sides)) if sides is not None and len(sides) else 0.0

    @property
    def pixel_size_ratio(self) -> float | None:
        """Pixel size of the file / pixel size of the picture, where both are known and differ."""
        own, there = self.coordinates.pixel_size_angstrom, self.picture.pixel_size_angstrom
        if own is None or there is None or abs(own / there - 1) <= _SAME:
            return None
        return own / there

    def read_as(self, reading: Reading) -> Coordinates:
        """The coordinates in another reading."""
        sides = self.coordinates.sides_px() * (reading.scale if self.scales else 1.0)
        places = reading.places(
            self.coordinates.centres, size_px=self.picture.size_px, diameter_px=sides
        )
        return replace(self.coordinates, centres=places, diameters_px=sides)


def read_labels(
    files: Sequence[Path], pictures: Sequence[Picture], *, sizes: Sizes, report: OnProgress
) -> tuple[tuple[Label, ...], tuple[str, ...]]:
    """The labels of each labelled picture, sorted by its name, and notes for the user.

    Raises DataError for a file that cannot be read, no name that fits a picture, a picture with two
    sets of labels, and a diameter that is not known.
    """
    by_name = {picture.name: picture for picture in pictures}
    read: list[tuple[Path, Coordinates]] = []
    for done, file in enumerate(files):
        report(Progress("read labels", done, len(files), "file"))
        read += [(file, one) for one in known.read(file)]
    report(Progress("read labels", len(files), len(files), "file"))
    names = [_full_name(file, one) for file, one in read]
    meant = match(names, list(by_name))
    if not meant:
        raise DataError(
            f"no coordinates fit a micrograph: they name {names[0][-100:]!r}, there is "
            f"{next(iter(by_name))[-100:]!r}",
            cure="give the folder of the micrographs that were picked",
        )
    found: dict[str, Label] = {}
    missing = []
    for (file, one), name in zip(read, names, strict=True):
        if name not in meant:
            missing.append(name)
            continue
        micrograph = meant[name]
        if micrograph in found:
            raise DataError(
                f"{micrograph!r} has two sets of coordinates: {found[micrograph].file} and {file} "
                f"({name[-100:]!r})",
                cure="give one of them",
            )
        found[micrograph] = _label(by_name[micrograph], one, str(file), sizes=sizes)
    notes = _scaled_note(read, meant, by_name)
    if missing:
        notes += (
            f"{len(missing)} of {len(names)} names in the coordinates fit no micrograph and are "
            f"left out, the first is {missing[0][-100:]!r}",
        )
    return tuple(found[name] for name in sorted(found)), notes


def _full_name(file: Path, one: Coordinates) -> str:
    """The name, with the folders of the file where the name is the file's own."""
    return file.as_posix() if one.micrograph == file.stem else one.micrograph


def _shape_scale(one: Coordinates, picture: Picture) -> float:
    """Px of the picture per px of the coordinates, where the file gives the size of its picture.

    1 where the two have different shapes: then it is not the same field of view.
    """
    if one.picture_px is None:
        return 1.0
    scales = np.divide(picture.size_px, one.picture_px)
    same = abs(scales[0] / scales[1] - 1) <= _SAME / 2
    return float(scales.mean()) if same and abs(scales.mean() - 1) > 1e-9 else 1.0


def _scaled_note(
    read: Sequence[tuple[Path, Coordinates]],
    meant: Mapping[str, str],
    by_name: Mapping[str, Picture],
) -> tuple[str, ...]:
    for file, one in read:
        name = _full_name(file, one)
        scale = _shape_scale(one, by_name[meant[name]]) if name in meant else 1.0
        if scale != 1.0 and one.picture_px is not None:
            height, width = one.picture_px
            return (
                f"{file} counts px of pictures of {height} x {width}, the micrographs have another "
                f"size: its coordinates are scaled by {scale:.6g}",
            )
    return ()


def _label(picture: Picture, one: Coordinates, file: str, *, sizes: Sizes) -> Label:
    scale = _shape_scale(one, picture)
    pixel_size = None if one.pixel_size_angstrom is None else one.pixel_size_angstrom / scale
    header = picture.pixel_size_angstrom
    given = sizes.pixel_size_angstrom
    picture = replace(picture, pixel_size_angstrom=given or header or pixel_size)
    diameter = sizes.diameter_px
    if sizes.diameter_angstrom is not None:
        if picture.pixel_size_angstrom is None:
            raise DataError(
                f"{picture.name}: neither the picture nor {file} gives a pixel size",
                cure="give --pixel-size, in angstrom per px of the pictures",
            )
        diameter = sizes.diameter_angstrom / picture.pixel_size_angstrom
    if diameter is not None:
        diameters = np.full(one.count, float(diameter))
    elif one.diameters_px is not None:
        diameters = one.diameters_px * scale
    else:
        raise DataError(
            f"{file} gives no size of the particles",
            cure="give --diameter-px or --diameter-angstrom",
        )
    coordinates = replace(
        one,
        micrograph=stem(picture.name),
        centres=one.centres * scale,
        diameters_px=diameters,
        picture_px=picture.size_px,
        pixel_size_angstrom=pixel_size,
    )
    return Label(picture, coordinates, file, scales=diameter is None)
