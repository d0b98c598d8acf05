"""Which micrographs a person should look at, and the page that shows them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from cryossl.picking.contact_sheet import Row, drawn, page, shown


@pytest.mark.parametrize(
    ("picks", "contrast", "doubt"),
    [
        (0, None, "no pick"),
        (5, None, ""),
        (40, -30.0, ""),
        (40, 25.0, ""),
        (40, 1.5, "the picture shows nothing at its picks"),
    ],
    ids=["none", "too few to tell", "dark", "bright", "empty"],
)
def test_what_is_doubtful(picks: int, contrast: float | None, doubt: str) -> None:
    assert Row("m", picks, 0.5, contrast).doubt == doubt


def test_best_median_worst_and_doubtful_micrographs_are_shown_once() -> None:
    rows = [Row(f"m{number}", 20, number / 20, -30.0) for number in range(12)]
    found = shown([*rows, Row("carbon", 40, 0.9, 0.5), Row("empty", 0, 0.0, None)])
    assert [row.name for row in found["Best"]] == ["m11", "m10", "m9"]
    assert [row.name for row in found["Worst"]] == ["m2", "m1", "m0"]
    assert {row.name for row in found["Look at these"]} == {"carbon", "empty"}
    names = [row.name for group in found.values() for row in group]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_few_micrographs_are_shown_once_too(number: int) -> None:
    found = shown([Row(f"m{each}", 20, 0.5, -30.0) for each in range(number)])
    names = [row.name for group in found.values() for row in group]
    assert sorted(names) == [f"m{each}" for each in range(number)]


def test_a_circle_is_drawn_round_a_pick() -> None:
    picture = np.random.default_rng(0).normal(0, 1, (100, 200)).astype(np.float32)
    jpeg = drawn(picture, np.array([[50.0, 150.0]], np.float32), diameter_px=40)
    colours = np.asarray(Image.open(io.BytesIO(jpeg)), float)
    orange = colours[..., 0] - colours[..., 2] > 80
    rows, columns = np.nonzero(orange)
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert math.dist(middle, (50, 150)) < 2
    assert np.ptp(columns) == pytest.approx(40, abs=3)


def test_names_from_outside_stay_words() -> None:
    text = page("<b>", {"<i>": "&"}, [Row("<script>", 0, 0.0, None)], {"<u>": "x"}, lambda _: None)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<u>" not in text
