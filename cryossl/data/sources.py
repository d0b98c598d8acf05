"""Sources: the protein or data set of a micrograph; particle diameter and border of a source.

Neither COCO nor CryoTransformer's files give the EMPIAR entry reliably, and without it nothing can
be balanced over proteins. All functions are pure: names, sizes and boxes in, values out.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from jaxtyping import Float64

from cryossl.data.guessed import from_names, from_sizes
from cryossl.errors import DataError

_PLAIN = re.compile(r"\w[\w.\- ]{0,63}")

_SHOWN = 20
"""Sources that a note names; of the others it gives the number."""
_OUTLIERS = 0.01
"""Largest share of the expected particles that an empty band may have, from stray clicks."""
_EVIDENCE = 8.0
"""Particles expected in a band before it counts as empty; none is there by chance with exp(-8)."""


@dataclass(frozen=True)
class Description:
    """The facts of a micrograph from which its source may be found, without its labels."""

    id: str
    height_px: int
    width_px: int
    stated: str


def is_plain(source: str) -> bool:
    """Whether a source's name can be part of a metric's name and of a file name."""
    return _PLAIN.fullmatch(source) is not None


def parse_table(text: str, *, name: str) -> tuple[tuple[str, str], ...]:
    """`sources.csv` -> rows (file name or glob, source). Raises DataError with the line."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    try:
        if not {"file", "source"} <= set(reader.fieldnames or ()):
            raise DataError(f"{name}: its first line must be `file,source`", cure="add the header")
        rows = []
        for row in reader:
            file, source = (row["file"] or "").strip(), (row["source"] or "").strip()
            if not file or not source:
                raise DataError(
                    f"{name}: line {reader.line_num} lacks a file or a source", cure="complete it"
                )
            rows.append((file, source))
    except csv.Error as error:
        raise DataError(
            f"{name}: line {reader.line_num}: {error}", cure="save it as plain CSV"
        ) from None
    return tuple(rows)


def assign(
    descriptions: Sequence[Description], *, table: Sequence[tuple[str, str]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Micrograph id -> source, and notes for the user.

    The source is the first of these that is known:

    - from the table: a file name or id before a glob, then the first glob that matches;
    - the source in the annotation file;
    - the beginning of the file name, where it is repeated (`guessed`);
    - the picture's size.

    Labels are not used: most of them are hidden later, by a draw that depends on the source.
    """
    exact = dict(reversed(table))
    globs = [(file, source) for file, source in table if _is_glob(file)]
    sources: dict[str, str] = {}
    for description in descriptions:
        if source := _from_table(description, exact, globs) or description.stated:
            sources[description.id] = source
    rest = [description for description in descriptions if description.id not in sources]
    by_name = from_names({description.id: _name(description) for description in rest})
    by_size = from_sizes(
        {
            description.id: (description.height_px, description.width_px)
            for description in rest
            if description.id not in by_name
        }
    )
    sources |= by_name | by_size
    return sources, _notes(by_name, by_size, sources, descriptions, table)


def _is_glob(file: str) -> bool:
    return any(mark in file for mark in "*?[")


def _name(description: Description) -> str:
    return description.id.rsplit("/", 1)[-1]


def _from_table(
    description: Description, exact: Mapping[str, str], globs: Sequence[tuple[str, str]]
) -> str:
    for key in (description.id, _name(description)):
        if key in exact:
            return exact[key]
    return next(
        (
            source
            for glob, source in globs
            if fnmatchcase(_name(description), glob) or fnmatchcase(description.id, glob)
        ),
        "",
    )


def counts_text(sources: Iterable[str]) -> str:
    """`10017 (15), 10028 (8)`: sources with their micrographs, the most frequent ones first."""
    count = sorted(Counter(sources).items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{source} ({number})" for source, number in count[:_SHOWN])
    return shown + (f" and {len(count) - _SHOWN} more" if len(count) > _SHOWN else "")


def _notes(
    by_name: Mapping[str, str],
    by_size: Mapping[str, str],
    sources: Mapping[str, str],
    descriptions: Sequence[Description],
    table: Sequence[tuple[str, str]],
) -> tuple[str, ...]:
    notes = []
    named = [source for key, source in sources.items() if key not in {*by_name, *by_size}]
    if named:
        notes.append(f"sources, with their micrographs: {counts_text(named)}")
    if by_name:
        notes.append(
            "sources, guessed from the beginning of file names, with their micrographs: "
            f"{counts_text(by_name.values())}; if that is wrong, name them in sources.csv"
        )
    if by_size:
        notes.append(
            f"the source of {len(by_size)} micrographs is not known, for no beginning of a file "
            "name is repeated as a source's would be: grouped by picture size alone, into "
            f"{counts_text(by_size.values())}; if a group holds several proteins, name them in "
            "sources.csv"
        )
    keys = {key for one in descriptions for key in (one.id, _name(one))}
    unused = [
        file
        for file, _ in table
        if file not in keys and not (_is_glob(file) and any(fnmatchcase(key, file) for key in keys))
    ]
    if unused:
        notes.append(
            f"sources.csv: {len(unused)} lines fit no micrograph, the first is {unused[0]!r}"
        )
    return tuple(notes)


def diameter_px(bounds: Iterable[Float64[np.ndarray, "_ 4"]]) -> float | None:
    """Median box width in px over all particles of a source; None without any."""
    widths = [boxes[:, 3] for boxes in bounds if len(boxes)]
    return float(np.median(np.concatenate(widths))) if widths else None


def border_px(labelled: Sequence[tuple[Float64[np.ndarray, "_ 4"], int, int]]) -> int:
    """Width in px of the band at the edges in which a source's particles are not labelled, or 0.

    Particles do not depend on where the picture ends. So if labels reach the edge, centres lie in
    every band along it, in proportion to its area. The border is the distance m of a centre from
    its nearest edge below which (nearly) no centre lies. It is the largest m with at most 1% of the
    expected centres nearer to the edge, and with at least 8 expected, so that few labels do not
    give a border by chance.

    Centres are used and not box edges: a particle is left out if its own box, often larger than the
    drawn one, does not fit into the picture, and then it is missing at any centre in the band.

    `labelled` has the boxes, height and width of each labelled micrograph.
    """
    distances = np.sort(
        np.concatenate([np.zeros(0), *(_edge_distance(*picture) for picture in labelled)])
    )
    if not len(distances):
        return 0
    bands = np.arange(1, max(1, int(distances[-1])) + 1)
    # The share of a picture that a band covers is computed once for each picture size.
    particles: Counter[tuple[int, int]] = Counter()
    for boxes, height, width in labelled:
        particles[height, width] += len(boxes)
    expected = np.zeros(len(bands))
    for (height, width), number in particles.items():
        inner = np.clip(height - 2 * bands, 0, None) * np.clip(width - 2 * bands, 0, None)
        expected += number * (1 - inner / (height * width))
    nearer = np.searchsorted(distances, bands, side="left")
    empty = bands[(nearer <= _OUTLIERS * expected) & (expected >= _EVIDENCE)]
    return int(empty.max()) if len(empty) else 0


def _edge_distance(
    boxes: Float64[np.ndarray, "n 4"], height: int, width: int
) -> Float64[np.ndarray, " n"]:
    centre_y, centre_x = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    nearest: Float64[np.ndarray, " n"] = np.minimum.reduce(
        [centre_y, height - centre_y, centre_x, width - centre_x]
    )
    return nearest
