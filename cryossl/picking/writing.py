"""Results -> the files of picks, the contact sheet and the counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cryossl.data.images import read_picture
from cryossl.errors import DataError, StorageError
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.picking import contact_sheet, outputs
from cryossl.picking.choice import Choice
from cryossl.picking.contact_sheet import Row
from cryossl.picking.coordinates import Coordinates
from cryossl.picking.micrographs import Named
from cryossl.picking.results import Result, Results
from cryossl.system.files import write_durably

SHEET, COUNTS = "picks.html", "counts.json"
MASK = "mask"
FORMATS = (*outputs.FORMATS, MASK)
MASK_ENDING = "_mask.png"


@dataclass(frozen=True)
class Picked:
    """Micrographs that have results, in the order in which they are written."""

    named: Sequence[Named]
    results: Results

    def __iter__(self) -> Iterator[tuple[Named, Result]]:
        """Each micrograph with its result. Raises StorageError if one is gone."""
        for one in self.named:
            result = self.results.read(one.path)
            if result is None:
                raise StorageError(f"the result of {one.path} is gone", cure="pick again")
            yield one, result


@dataclass(frozen=True)
class Wanted:
    """What is written, and how.

    `pixel_size_angstrom` is that of all micrographs, where their list does not say it; with
    `flip_y` rows are counted from the last one.
    """

    formats: tuple[str, ...]
    choice: Choice
    flip_y: bool
    pixel_size_angstrom: float | None


@dataclass(frozen=True)
class Written:
    """The main files that were written, and a row for each micrograph.

    `content` is a digest of the names and contents of the micrographs.
    """

    files: tuple[Path, ...]
    rows: tuple[Row, ...]
    content: str

    @property
    def picks(self) -> int:
        """All picks."""
        return sum(row.picks for row in self.rows)

    @property
    def doubtful(self) -> list[Row]:
        """The micrographs that a person should look at."""
        return [row for row in self.rows if row.doubt]


def write(
    folder: Path,
    picked: Picked,
    wanted: Wanted,
    *,
    facts: Mapping[str, str],
    faults: Mapping[Path, str],
) -> Written:
    """Write the picks in every format, the contact sheet and the counts.

    Args:
        folder: of the files.
        picked: the micrographs.
        wanted: formats and choice.
        facts: the head of the contact sheet.
        faults: micrograph -> why it was not picked.

    Raises:
        StorageError: a file cannot be written, or a result is gone.
    """
    sizes = {one.pixel_size_angstrom for one in picked.named} | {wanted.pixel_size_angstrom}
    pixel_sizes = {size for size in sizes if size is not None}
    files = outputs.write_all(
        folder,
        [form for form in wanted.formats if form != MASK],
        lambda: (_coordinates(one, result, wanted) for one, result in picked),
        pixel_size_angstrom=pixel_sizes.pop() if len(pixel_sizes) == 1 else None,
    )
    if MASK in wanted.formats:
        files.append(_write_masks(folder, picked))
    rows = []
    content = hashlib.sha256()
    for one, result in picked:
        rows.append(_row(one, result, wanted.choice))
        content.update(f"{one.name}\0{result.sha256}\n".encode(errors="surrogateescape"))
    paths = {one.name: one for one in picked.named}
    sheet = contact_sheet.page(
        "Picks",
        {**facts, "written": ", ".join(str(path) for path in files)},
        rows,
        {str(path): why for path, why in faults.items()},
        lambda row: _picture(paths[row.name], picked.results, wanted.choice),
    )
    try:
        write_durably(folder / SHEET, sheet.encode())
        write_durably(folder / COUNTS, json.dumps([asdict(row) for row in rows], indent=1).encode())
    except OSError as error:
        raise outputs.unwritten(error, folder) from None
    return Written(tuple(files), tuple(rows), content.hexdigest()[:16])


def _row(one: Named, result: Result, choice: Choice) -> Row:
    picks = choice.of(result.picks, diameter_px=result.diameter_px)
    return contact_sheet.row_of(one.name, replace(result, picks=picks), picks=len(picks.scores))


def _coordinates(one: Named, result: Result, wanted: Wanted) -> Coordinates:
    picks = wanted.choice.of(result.picks, diameter_px=result.diameter_px)
    centres = picks.centres.astype(np.float64)
    if wanted.flip_y:
        centres[:, 0] = result.height_px - centres[:, 0]
    return Coordinates(
        one.name,
        centres,
        scores=picks.scores / FULL_SCORE,
        diameters_px=np.full(len(centres), result.diameter_px),
        picture_px=(result.height_px, result.width_px),
        pixel_size_angstrom=one.pixel_size_angstrom,
    )


def _write_masks(folder: Path, picked: Picked) -> Path:
    for one, result in picked:
        png = picked.results.mask(one.path, sha256=result.sha256)
        if png is None:
            raise StorageError(f"the mask of {one.path} is gone", cure="pick again")
        path = outputs.place_of(folder, one.name, MASK_ENDING)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, png)
        except OSError as error:
            raise outputs.unwritten(error, path) from None
    return folder


def _picture(one: Named, results: Results, choice: Choice) -> bytes | None:
    result = results.read(one.path)
    try:
        picture = read_picture(one.path, max_megapixels=1e6)
    except DataError:
        return None
    if result is None:
        return None
    picks = choice.of(result.picks, diameter_px=result.diameter_px)
    return contact_sheet.drawn(picture, picks.centres, diameter_px=result.diameter_px)
