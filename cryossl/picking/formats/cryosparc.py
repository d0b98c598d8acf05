"""cryoSPARC's `.cs`: a numpy array of records; centres are fractions of the micrograph's sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cryossl.errors import DataError, one_line
from cryossl.picking.coordinates import Coordinates, centres_of_indices
from cryossl.picking.formats.rows import by_micrograph, numbers, require_columns, require_few

MAGIC = b"\x93NUMPY"
COMPRESSED = (b"\x94CSDAT", b"\x95CSDAT")  # of version 4 and 5

_PATH, _SHAPE = "location/micrograph_path", "location/micrograph_shape"
_X, _Y = "location/center_x_frac", "location/center_y_frac"
_PIXEL_SIZE = "location/micrograph_psize_A"
_SCORES = ("pick_stats/ncc_score", "pick_stats/power")
_MAX_BYTES = 2**33  # nothing is read but the columns that are needed
_MAX_NAME = 4096


def read(path: Path) -> list[Coordinates]:
    """The particles of a `.cs` file, in px of the micrograph whose shape the file gives.

    Raises DataError; also for a file with columns of Python objects, which are pickles and are
    never loaded.
    """
    records = _records(path)
    names = tuple(records.dtype.names or ())
    require_columns(path, names, _PATH, _SHAPE, _X, _Y)
    require_few(path, len(records))
    paths = records[_PATH]
    if paths.dtype.kind not in "SU" or paths.dtype.itemsize > _MAX_NAME or paths.ndim != 1:
        raise DataError(f"{path}: {_PATH} is no column of names", cure="export the file again")
    shapes = np.asarray(records[_SHAPE])
    if shapes.shape != (len(records), 2) or shapes.dtype.kind not in "iu":
        raise DataError(f"{path}: {_SHAPE} is no column of rows and columns")
    table = pd.DataFrame({name: _column(path, records, name) for name in (_X, _Y)})
    # A centre outside the micrograph is possible, one a hundred sides away is not.
    fractions = [numbers(table, name, path=path, limit=100) for name in (_X, _Y)]
    sizes = _column(path, records, _PIXEL_SIZE) if _PIXEL_SIZE in names else None
    score = next((name for name in _SCORES if name in names), None)
    scores = None if score is None else _column(path, records, score)
    decoded = pd.Series([_text(name) for name in paths], dtype="string")
    found = []
    for name, rows in by_micrograph(decoded, path=path):
        height, width = (int(side) for side in shapes[rows[0]])
        if not (shapes[rows] == shapes[rows[0]]).all() or min(height, width) <= 0:
            raise DataError(
                f"{path}: {name[:80]!r} has no size, or several", cure="export the file again"
            )
        x, y = (
            fraction[rows] * side for fraction, side in zip(fractions, (width, height), strict=True)
        )
        found.append(
            Coordinates(
                name,
                centres_of_indices(x, y),
                scores=None if scores is None or not np.isfinite(scores).all() else scores[rows],
                picture_px=(height, width),
                pixel_size_angstrom=_median(sizes, rows),
            )
        )
    return found


def _records(path: Path) -> np.ndarray:
    try:
        _require_readable(path)
        # Mapped, not read: a header may promise more than the file or the memory holds.
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}", cure="check the path"
        ) from None
    # numpy raises ValueError, SyntaxError, TypeError, EOFError and more on damaged headers.
    except Exception as error:
        raise DataError(
            f"{path}: no array of records that can be read ({one_line(error)[:120]})",
            cure="export the file again; columns of Python objects are never loaded",
        ) from None
    if not isinstance(records, np.ndarray) or records.ndim != 1:
        raise DataError(f"{path}: no list of records", cure="give the .cs file of particles")
    return records


def _require_readable(path: Path) -> None:
    """Raise DataError for no regular file of numpy's format, OSError if it is missing."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file", cure="give a regular file in its place")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path} has more than {_MAX_BYTES} bytes", cure="give fewer particles")
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
    if head in COMPRESSED:
        raise DataError(
            f"{path} is a compressed .cs file",
            cure="save it with cryosparc-tools: Dataset.load(FILE).save(NEW, format=1)",
        )
    if head != MAGIC:
        raise DataError(f"{path} is no .cs file of cryoSPARC", cure="export the file again")


def _column(path: Path, records: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(records[name])
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise DataError(f"{path}: {name} is no column of numbers", cure="export the file again")
    return values.astype(np.float64)


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _median(sizes: np.ndarray | None, rows: np.ndarray) -> float | None:
    value = 0.0 if sizes is None else float(np.median(sizes[rows]))
    return value if 0 < value < 1000 else None
