"""RELION's STAR files: coordinates of a micrograph, their index, particles, micrographs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cryossl.errors import DataError
from cryossl.picking.coordinates import Coordinates, centres_of_indices
from cryossl.picking.formats.rows import by_micrograph, lacking, numbers, optional
from cryossl.picking.formats.star import Block, read_blocks
from cryossl.picking.formats.star import rows as star_rows
from cryossl.picking.formats.star import text as star_text
from cryossl.picking.project import named_file

X, Y, SCORE = "rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"
MICROGRAPH, COORDINATES = "rlnMicrographName", "rlnMicrographCoordinates"
GROUP = "rlnOpticsGroup"

_TEXTS = (MICROGRAPH, COORDINATES, "rlnImageName", "rlnOpticsGroupName")
_PIXEL_SIZES = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnPixelSize")


def read(path: Path) -> list[Coordinates]:
    """The coordinates of a STAR file of any of RELION's kinds, 3.0 to 5.

    An index is followed: `named_file` finds what it lists. Raises DataError.
    """
    blocks = read_blocks(path, texts=_TEXTS)
    table = _table_with(blocks, X, Y)
    if table is not None:
        return _coordinates(path, table, blocks.get("optics"))
    index = _table_with(blocks, MICROGRAPH, COORDINATES)
    if index is not None:
        return _followed(path, index)
    found = [str(name) for block in blocks.values() if block is not None for name in block]
    raise lacking(path, found, (X, Y))


def read_micrographs(path: Path) -> list[tuple[str, float | None]]:
    """The name and the pixel size, in angstrom, of each micrograph of a micrographs STAR.

    Raises DataError.
    """
    blocks = read_blocks(path, texts=_TEXTS)
    table = _table_with(blocks, MICROGRAPH)
    if table is None:
        found = [str(name) for block in blocks.values() if block is not None for name in block]
        raise lacking(path, found, (MICROGRAPH,))
    sizes = _pixel_sizes(path, table, blocks.get("optics"))
    return [
        (name, _median(sizes, rows)) for name, rows in by_micrograph(table[MICROGRAPH], path=path)
    ]


def micrograph_text(one: Coordinates) -> str:
    """The coordinates of one micrograph, as `*_autopick.star` has them."""
    return star_text({"": _columns(one)})


def index_text(files: Iterable[tuple[str, str]]) -> str:
    """An index as `autopick.star`: (micrograph, its coordinate file), from the project's folder."""
    table = pd.DataFrame(list(files), columns=[MICROGRAPH, COORDINATES])
    return star_text({"coordinate_files": table})


def particles_text(
    all_of_them: Iterable[Coordinates], *, pixel_size_angstrom: float | None, optics: bool = True
) -> Iterator[str]:
    """A particles STAR in pieces, one for each micrograph after the first.

    Every micrograph has scores, or none has. Without `optics` there is one block and no pixel size,
    as before RELION 3.1: Topaz reads no other block than the first.
    """
    group: dict[str, list[Any]] = {"rlnOpticsGroupName": ["opticsGroup1"], GROUP: [1]}
    if pixel_size_angstrom is not None:
        group["rlnMicrographPixelSize"] = [pixel_size_angstrom]
    above: dict[str, Block] = {"optics": pd.DataFrame(group)} if optics else {}
    header = True
    for one in all_of_them:
        table = _columns(one)
        table.insert(0, MICROGRAPH, one.micrograph)
        if optics:
            table[GROUP] = 1
        if header:
            yield star_text(above | {"particles": table.iloc[:0]}).rstrip() + "\n"
            header = False
        yield star_rows(table)


def _columns(one: Coordinates) -> pd.DataFrame:
    table = pd.DataFrame({X: one.x_index, Y: one.y_index})
    if one.scores is not None:
        table[SCORE] = one.scores
    return table


def _table_with(blocks: Mapping[str, Block], *columns: str) -> pd.DataFrame | None:
    for block in blocks.values():
        if isinstance(block, dict) and set(columns) <= set(block):
            return pd.DataFrame([block])  # a table of one row may be written without a loop
        if isinstance(block, pd.DataFrame) and set(columns) <= set(block.columns):
            return block
    return None


def _coordinates(path: Path, table: pd.DataFrame, optics: Block | None) -> list[Coordinates]:
    centres = centres_of_indices(numbers(table, X, path=path), numbers(table, Y, path=path))
    scores = optional(table, SCORE, lambda: numbers(table, SCORE, path=path, limit=1e30))
    sizes = _pixel_sizes(path, table, optics)
    everything = np.arange(len(table))
    groups: Iterable[tuple[str, np.ndarray]] = (
        by_micrograph(table[MICROGRAPH], path=path)
        if MICROGRAPH in table
        else [(path.stem, everything)]
    )
    return [
        Coordinates(
            name,
            centres[rows],
            scores=None if scores is None else scores[rows],
            pixel_size_angstrom=_median(sizes, rows),
        )
        for name, rows in groups
    ]


def _pixel_sizes(path: Path, table: pd.DataFrame, optics: Block | None) -> np.ndarray | None:
    """The pixel size of the micrograph of each row, in angstrom, where the file gives it."""
    if isinstance(optics, dict):
        optics = pd.DataFrame([optics])
    if optics is not None and GROUP in optics and GROUP in table:
        chosen = next((name for name in _PIXEL_SIZES if name in optics), None)
        if chosen is not None:
            sizes = numbers(optics, chosen, path=path)
            by_group = dict(zip(numbers(optics, GROUP, path=path), sizes, strict=True))
            groups = numbers(table, GROUP, path=path)
            return np.array([by_group.get(group, np.nan) for group in groups])
    chosen = next((name for name in _PIXEL_SIZES if name in table), None)
    if chosen is not None:
        return numbers(table, chosen, path=path)
    if {"rlnDetectorPixelSize", "rlnMagnification"} <= set(table):  # before 3.1
        magnification = numbers(table, "rlnMagnification", path=path, limit=1e9)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = 1e4 * numbers(table, "rlnDetectorPixelSize", path=path) / magnification
        return np.asarray(sizes)
    return None


def _median(sizes: np.ndarray | None, rows: np.ndarray) -> float | None:
    if sizes is None or not len(rows):
        return None
    value = float(np.median(sizes[rows]))
    return value if 0 < value < 1000 else None


def _followed(path: Path, index: pd.DataFrame) -> list[Coordinates]:
    found: list[Coordinates] = []
    for name, rows in by_micrograph(index[MICROGRAPH], path=path):
        for listed in index[COORDINATES].iloc[rows]:
            file = named_file(str(listed), path, what="coordinate file")
            table = _table_with(read_blocks(file, texts=_TEXTS), X, Y)
            if table is None:
                raise DataError(
                    f"{file}: no coordinates, listed in {path}", cure=f"needed: {X}, {Y}"
                )
            one = _coordinates(file, table.drop(columns=MICROGRAPH, errors="ignore"), None)
            found += [Coordinates(name, each.centres, scores=each.scores) for each in one]
    return found
