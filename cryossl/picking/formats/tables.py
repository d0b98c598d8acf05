"""Tables with named columns: Topaz's TSV, CryoPPP's and other CSV."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cryossl.errors import DataError, one_line
from cryossl.picking.coordinates import Coordinates, centres_of_indices
from cryossl.picking.formats.rows import by_micrograph, lacking, numbers, sizes, text_of

_SUFFIX = re.compile(r"\.(mrc|tiff?|jpe?g|png)$", re.IGNORECASE)
_KNOWN = {
    "x": r"x(px|coord|coordinate|cent(er|re)|index)?|(coordinate|cent(er|re))x",
    "y": r"y(px|coord|coordinate|cent(er|re)|index)?|(coordinate|cent(er|re))y",
    "micrograph": r"(micrograph|image|file)?(name|path)|micrograph|image|file",
    "score": r"score|confidence|(autopick)?figureofmerit|probability|pickingscore|ncc",
    "diameter": r"(particle)?diameter(px)?",
    "width": r"w|(box)?width(px)?",
    "height": r"h|(box)?height(px)?",
}


def columns_of(line: str) -> dict[str, str]:
    """What is known of a header line: x, y, micrograph, score and more -> the column's name."""
    return dict(reversed(_meanings(line)))


def _meanings(line: str) -> list[tuple[str, str]]:
    """The meaning and the name of each known column of a header line."""
    return [
        (meaning, name)
        for name in _cells(line)
        for meaning, words in _KNOWN.items()
        if re.fullmatch(words, re.sub(r"[^a-z]", "", name.lower()).removeprefix("rln"))
    ]


def _cells(line: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(_separator(line))]


def _separator(header: str) -> str:
    return max("\t,;", key=header.count)


def read(path: Path) -> list[Coordinates]:
    """The particles of a table whose first line names its columns.

    Without a column of names the file's own name, without suffix, is the micrograph's. Raises
    DataError; for missing columns with those that are there.
    """
    content = _without_comments(text_of(path))
    header = content.split("\n", 1)[0]
    known = columns_of(header)
    if not {"x", "y"} <= set(known):
        raise lacking(path, _cells(header), ("x", "y"))
    known_x = known["x"].lower()
    if {"width", "height"} <= set(known) and "cent" not in known_x:
        raise DataError(
            f"{path}: it has {known['width']} and {known['height']}, so {known['x']} may be a "
            "corner or a centre",
            cure="name the columns center_x and center_y, or give the boxes as a .box file",
        )
    twins = [name for name in "xy" if sum(one == name for one, _ in _meanings(header)) > 1]
    if twins:
        raise DataError(f"{path}: several columns may be {twins[0]}", cure="leave one of them")
    try:
        with warnings.catch_warnings():
            # pandas only warns of rows with more columns than the header, and drops the last.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(content),
                sep=_separator(header),
                dtype=str,
                na_filter=False,
                skipinitialspace=True,
                comment="#",
                index_col=False,
            )
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path}: the table cannot be read ({one_line(error)[:120]})",
            cure="export the file again",
        ) from None
    table = table.rename(columns=lambda name: str(name).strip())
    centres = centres_of_indices(
        numbers(table, known["x"], path=path), numbers(table, known["y"], path=path)
    )
    score, diameter = known.get("score"), known.get("diameter")
    scores = None if score is None else numbers(table, score, path=path, limit=1e30)
    diameters = None if diameter is None else sizes(table, diameter, path=path)
    groups: Iterable[tuple[str, np.ndarray]] = (
        by_micrograph(table[known["micrograph"]], path=path)
        if "micrograph" in known
        else [(path.stem, np.arange(len(table)))]
    )
    return [
        Coordinates(
            name,
            centres[rows],
            scores=None if scores is None else scores[rows],
            diameters_px=None if diameters is None else diameters[rows],
        )
        for name, rows in groups
    ]


def _without_comments(content: str) -> str:
    """The text from its first line on that is neither blank nor a comment."""
    while content and (not content.split("\n", 1)[0].strip() or content.lstrip().startswith("#")):
        content = content.partition("\n")[2]
    return content


def topaz_text(all_of_them: Iterable[Coordinates]) -> Iterator[str]:
    """Topaz's TSV, in pieces; names are without folders and suffix, a missing score is 0."""
    yield "image_name\tx_coord\ty_coord\tscore\n"
    for one in all_of_them:
        name = _SUFFIX.sub("", one.micrograph.rsplit("/", 1)[-1])
        table = pd.DataFrame({"name": name, "x": one.x_index, "y": one.y_index})
        table["score"] = 0.0 if one.scores is None else one.scores
        yield _rows(table, sep="\t")


def csv_text(all_of_them: Iterable[Coordinates]) -> Iterator[str]:
    """A CSV, in pieces: micrograph, x_px and y_px as indices of pixels, score, diameter_px.

    The columns of what the first micrograph does not have are left out.
    """
    header = True
    for one in all_of_them:
        table = pd.DataFrame({"micrograph": one.micrograph, "x_px": one.x_index})
        table["y_px"] = one.y_index
        if one.scores is not None:
            table["score"] = one.scores
        if one.diameters_px is not None:
            table["diameter_px"] = one.diameters_px
        if header:
            yield ",".join(table.columns) + "\n"
            header = False
        yield _rows(table, sep=",")


def _rows(table: pd.DataFrame, *, sep: str) -> str:
    return str(
        table.to_csv(sep=sep, header=False, index=False, float_format="%.6f", lineterminator="\n")
    )
