"""Score written picks against COCO labels, independently of cryossl.

`python -m scripts.score_picks PICKS --truth FILE`

Only pandas, starfile and scipy are used: files are read anew, and centres are matched by scipy's
linear_sum_assignment. So a score of `cryossl` can be checked, and another picker can be scored by
the same rule: pairs within `--match-distance` of the particle's diameter, one to one, as many as
possible; centres in the unlabelled border do not count on either side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
import starfile
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

MATCH_DISTANCE = 0.3
_MOST_THRESHOLDS = 200
_COLUMNS = {
    "rlnMicrographName": "name",
    "rlnCoordinateX": "x",
    "rlnCoordinateY": "y",
    "rlnAutopickFigureOfMerit": "score",
    "micrograph": "name",
    "x_px": "x",
    "y_px": "y",
    "image_name": "name",
    "x_coord": "x",
    "y_coord": "y",
    "score": "score",
}


@dataclass(frozen=True)
class Labelled:
    """The labelled centres (x, y) of a micrograph, its width and height, the diameter; in px."""

    centres: np.ndarray
    size_px: tuple[int, int]
    diameter_px: float


def read_truths(path: Path, *, only: str = "") -> dict[str, Labelled]:
    """Name without suffix -> the labels of a COCO file; `only` those whose name begins so."""
    document = json.loads(path.read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = {}
    for one in document["annotations"]:
        if one["bbox"][2] > 0:
            boxes.setdefault(one["image_id"], []).append(one["bbox"])
    found = {}
    for image in document["images"]:
        name = Path(image["file_name"]).stem
        if image["id"] in boxes and name.startswith(only):
            corners = np.array(boxes[image["id"]], dtype=float)
            found[name] = Labelled(
                corners[:, :2] + corners[:, 2:] / 2,
                (image["width"], image["height"]),
                float(np.median(corners[:, 2:])),
            )
    return found


def read_picks(path: Path) -> dict[str, np.ndarray]:
    """Name without suffix -> rows (x, y, score) of a CSV, a Topaz table or a particles STAR.

    These count the indices of pixels; half a pixel is added, as in COCO the middle of the first
    pixel is at 0.5.
    """
    if path.suffix == ".star":
        blocks = starfile.read(path, always_dict=True)
        table = next(one for one in blocks.values() if "rlnCoordinateX" in one)
    else:
        table = pd.read_csv(path, sep=None, engine="python")
    table = table.rename(columns=_COLUMNS)
    table["name"] = [Path(str(name)).name for name in table["name"]]
    table["name"] = [
        str(Path(name).with_suffix("")) if Path(name).suffix in (".mrc", ".jpg", ".png") else name
        for name in table["name"]
    ]
    table[["x", "y"]] += 0.5
    return {
        str(name): rows[["x", "y", "score"]].to_numpy(dtype=float)
        for name, rows in table.groupby("name")
    }


def counts(
    picks: np.ndarray, truth: Labelled, *, border_px: float, match_distance: float
) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of the picks (x, y) of a micrograph."""
    high = np.subtract(truth.size_px, border_px)
    found, truths = (
        places[((places >= border_px) & (places < high)).all(axis=1)]
        for places in (picks[:, :2], truth.centres)
    )
    near = cdist(found, truths) <= match_distance * truth.diameter_px
    rows, columns = linear_sum_assignment(near, maximize=True)
    hits = int(near[rows, columns].sum())
    return hits, len(found) - hits, len(truths) - hits


def total(
    picks: Mapping[str, np.ndarray],
    truths: Mapping[str, Labelled],
    *,
    border_px: float,
    match_distance: float = MATCH_DISTANCE,
    threshold: float = -np.inf,
) -> tuple[int, int, int]:
    """The counts of all labelled micrographs, with the picks of this score or more."""
    every = np.zeros(3, dtype=int)
    for name, truth in truths.items():
        rows = picks.get(name, np.zeros((0, 3)))
        every += counts(
            rows[rows[:, 2] >= threshold],
            truth,
            border_px=border_px,
            match_distance=match_distance,
        )
    return int(every[0]), int(every[1]), int(every[2])


def f1(found: Sequence[int]) -> float:
    """F1 of (true positives, false positives, false negatives); 0 if all are 0."""
    hits, false, missed = found
    return 2 * hits / max(2 * hits + false + missed, 1)


def best_threshold(
    picks: Mapping[str, np.ndarray],
    truths: Mapping[str, Labelled],
    *,
    border_px: float,
    match_distance: float = MATCH_DISTANCE,
) -> float:
    """The score with the best F1 on these micrographs; of equals the highest."""
    scores = np.unique(np.concatenate([picks[name][:, 2] for name in truths if name in picks]))
    step = max(1, len(scores) // _MOST_THRESHOLDS)
    place = {"border_px": border_px, "match_distance": match_distance}
    return float(
        max(scores[::step], key=lambda one: (f1(total(picks, truths, **place, threshold=one)), one))
    )


@click.command()
@click.argument("picks", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--truth",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="COCO file with the labels",
)
@click.option("--only", default="", help="score micrographs whose name begins so")
@click.option(
    "--border-px", default=0.0, help="unlabelled band, as `cryossl data check` measures it"
)
@click.option("--match-distance", default=MATCH_DISTANCE, help="in diameters", show_default=True)
@click.option("--threshold", default=-np.inf, help="least score; by default every pick counts")
@click.option("--best", is_flag=True, help="print the best threshold on these micrographs too")
def main(
    picks: Path,
    truth: Path,
    only: str,
    border_px: float,
    match_distance: float,
    threshold: float,
    *,
    best: bool,
) -> None:
    """Print counts, precision, recall and F1 of PICKS: CSV, Topaz table or particles STAR."""
    found, truths = read_picks(picks), read_truths(truth, only=only)
    place = {"border_px": border_px, "match_distance": match_distance}
    hits, false, missed = total(found, truths, **place, threshold=threshold)
    click.echo(
        f"{len(truths)} micrographs: tp {hits}, fp {false}, fn {missed}; precision "
        f"{hits / max(hits + false, 1):.4f}, recall {hits / max(hits + missed, 1):.4f}, "
        f"F1 {f1((hits, false, missed)):.4f}"
    )
    if best:
        click.echo(f"best threshold {best_threshold(found, truths, **place):.6g}")


if __name__ == "__main__":
    main()
