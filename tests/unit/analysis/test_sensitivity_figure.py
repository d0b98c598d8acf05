"""The figure of a sensitivity: what its lines and cells show."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from tracked_frames import frame
from varied_frames import BASE, NAIVE, SCORES, cell, swept

from analysis.report.plotting import Plot, image
from analysis.report.sensitivity_figure import sensitivity_figure
from analysis.runs.families import axes_called
from analysis.stats.statistics import seed_interval
from analysis.tables.sensitivity import sensitivity

PAIR = ("particle_threshold", "max_pseudo_per_labelled")
PAIR_SETTINGS = tuple(f"selection.{name}" for name in PAIR)


def drawn(rows: list[dict[str, Any]], *by: str) -> Plot:
    plot = sensitivity_figure(sensitivity(frame(*rows), axes_called(by or PAIR[:1])))
    picture = Image.open(io.BytesIO(image(plot.figure, "png")))  # type: ignore[arg-type]
    assert np.asarray(picture.convert("L")).std() > 5
    return plot


def lines(axes: Any) -> dict[str, Any]:
    return {one.get_label(): one for one in axes.lines if not one.get_label().startswith("_")}


def test_a_line_goes_through_the_means_the_baseline_is_dashed_and_the_default_is_marked():
    plot = drawn(swept())
    (axes,) = plot.figure.axes  # type: ignore[union-attr]
    found = lines(axes)
    assert list(found["class_balanced"].get_xdata()) == [0.5, 0.6, 0.7]
    assert list(found["class_balanced"].get_ydata()) == pytest.approx([75.0, 74.5, 72.25])
    assert list(found["supervised"].get_ydata()) == pytest.approx([100 * sum(BASE) / 2] * 3)
    assert found["supervised"].get_linestyle() == "--"
    assert found["naive"].get_marker() in ("", "None")
    assert list(found["default, 0.6"].get_xdata()) == [0.6, 0.6]
    assert "changes by 2.75 points" in plot.alt
    seeds = [one for one in axes.lines if one.get_marker() == "."]
    assert [list(one.get_ydata()) for one in seeds] == [
        pytest.approx([100 * score for score in SCORES[value]]) for value in SCORES
    ]


def band_at_first(*scores: tuple[float, ...]) -> tuple[float, float]:
    """Lower and upper end of the band at the first of two values of a threshold."""
    base = (0.70, 0.71, 0.72)
    rows = [
        row
        for value, three in zip(("0.5", "0.6"), scores, strict=True)
        for row in cell(
            {"selection.particle_threshold": value}, {"class_balanced": three}, base=base
        )
    ]
    (axes,) = drawn(rows).figure.axes  # type: ignore[union-attr]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    at_first = corners[np.isclose(corners[:, 0], 0.5), 1]
    return float(at_first.min()), float(at_first.max())


def test_from_three_seeds_on_the_band_is_that_of_the_difference_between_the_values():
    """With two values its half width is that of the interval of their difference / sqrt(2)."""
    first, second = (0.73, 0.75, 0.77), (0.74, 0.74, 0.77)
    difference = seed_interval(100 * (np.array(first) - np.array(second)))
    assert difference is not None
    half = (difference.upper - difference.lower) / 2 / math.sqrt(2)
    assert band_at_first(first, second) == pytest.approx((75 - half, 75 + half))
    apart = tuple(one + shift for one, shift in zip(first, (-0.1, 0, 0.1), strict=True))
    also = tuple(one + shift for one, shift in zip(second, (-0.1, 0, 0.1), strict=True))
    assert band_at_first(apart, also) == pytest.approx((75 - half, 75 + half))


def test_each_labelled_part_has_a_panel():
    rows = [*swept(), *swept(ratio="10")]
    titles = [axes.get_title(loc="left") for axes in drawn(rows).figure.axes]  # type: ignore[union-attr]
    assert titles == ["5% (258) labelled", "10% (258) labelled"]


def test_words_stand_beside_each_other_and_far_numbers_on_a_logarithmic_axis():
    def varied(name: str, *values: str) -> list[dict[str, Any]]:
        return [
            row
            for place, value in enumerate(values)
            for row in cell({name: value}, {"naive": (0.72 + place / 100, 0.73)})
        ]

    words = drawn(varied("loop.accept", "always", "improved"), "accept").figure.axes[0]  # type: ignore[union-attr]
    assert [text.get_text() for text in words.get_xticklabels()] == ["improved", "always"]
    assert words.get_xscale() == "linear"
    far = drawn(varied("training.learning_rate", "0.0001", "0.003"), "learning_rate")
    assert far.figure.axes[0].get_xscale() == "log"  # type: ignore[union-attr]


def test_a_heat_map_writes_each_mean_in_its_cell_and_frames_the_default():
    scores = {("0.5", "1.0"): 0.71, ("0.5", "2.0"): 0.72, ("0.6", "2.0"): 0.75}
    rows = [
        row
        for (threshold, quota), score in scores.items()
        for row in cell(
            {
                "selection.particle_threshold": threshold,
                "selection.max_pseudo_per_labelled": quota,
            },
            {"naive": NAIVE, "class_balanced": (score, score)},
        )
    ]
    plot = drawn(rows, *PAIR)
    (axes,) = plot.figure.axes  # type: ignore[union-attr]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "71.00", (0, 1): "72.00", (1, 1): "75.00"}
    (frame_of_default,) = [one for one in axes.patches if isinstance(one, Rectangle)]
    assert frame_of_default.get_xy() == (0.5, 0.5)
    assert "naive at 5% (258)" in plot.caption


def test_while_a_seed_is_missing_only_shared_seeds_are_drawn():
    short = cell(
        {"selection.particle_threshold": "0.7"},
        {"naive": (NAIVE[0], math.nan), "class_balanced": (0.71, math.nan)},
    )
    plot = drawn([*swept("0.5", "0.6"), *short])
    (axes,) = plot.figure.axes  # type: ignore[union-attr]
    of_seed_0 = [100 * SCORES["0.5"][0], 100 * SCORES["0.6"][0], 71.0]
    assert list(lines(axes)["class_balanced"].get_ydata()) == pytest.approx(of_seed_0)


def test_a_combination_that_has_not_finished_does_not_make_others_differ():
    begun = {"status": "RUNNING", "test/f1": math.nan, "cryossl.accepted": None}
    rows = [
        row | (begun if (threshold, quota) == ("0.6", "2.0") else {})
        for threshold in ("0.5", "0.6")
        for quota in ("1.0", "2.0")
        for row in cell(
            dict(zip(PAIR_SETTINGS, (threshold, quota), strict=True)), {"class_balanced": NAIVE}
        )
    ]
    found = sensitivity(frame(*rows), axes_called(PAIR))
    assert [len(one.levels) for one in found.series] == [4, 4]
    assert "same numbers at all values" in sensitivity_figure(found).reason


def test_without_any_effect_there_is_no_map_and_the_reason_is_given():
    rows = [
        row
        for threshold in ("0.5", "0.6")
        for quota in ("1.0", "2.0")
        for row in cell(
            {
                "selection.particle_threshold": threshold,
                "selection.max_pseudo_per_labelled": quota,
            },
            {"naive": NAIVE},
        )
    ]
    plot = sensitivity_figure(sensitivity(frame(*rows), axes_called(PAIR)))
    assert plot.figure is None
    assert "same numbers at all values" in plot.reason
