"""Figures and the curves behind them."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from counted_frames import SOURCES, counted, grid
from PIL import Image
from sklearn.metrics import precision_recall_curve
from tracked_frames import frame, run

from analysis.report.curves import _curve, calibration, precision_recall, reliability
from analysis.report.figures import f1_by_iteration, gains, source_gains
from analysis.report.plotting import Plot, image, looks
from analysis.report.report import _plots
from analysis.tables.comparison import Comparison, compare

NAMES = [
    "f1_by_iteration",
    "gains",
    "particle_ratio",
    "precision_recall",
    "source_gains",
    "cost",
    "calibration",
    "quality",
]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return counted(
        *grid(seeds=range(3), ratios=("5", "10"), more=("class_balanced-quota", "naive+quota"))
    )


def test_every_figure_is_drawn_from_a_whole_store(comparison: Comparison) -> None:
    plots = _plots(comparison)
    assert [plot.name for plot in plots if plot.figure is not None] == NAMES
    for plot in plots:
        picture = Image.open(io.BytesIO(image(plot.figure, "png")))  # type: ignore[arg-type]
        assert np.asarray(picture.convert("L")).std() > 5
        assert picture.width >= 1000  # 200 dots an inch, for print


def test_the_same_data_give_the_same_file(comparison: Comparison) -> None:
    once, again = (image(_plots(comparison)[0].figure, "svg") for _ in range(2))  # type: ignore[arg-type]
    assert once == again
    assert b"<script" not in once
    assert b"http://www.w3.org/1999/xlink" in once  # a name, not an address that is opened
    assert b'href="http' not in once


def test_the_curves_of_students_start_at_the_supervised_baseline_whichever_baseline_is_to_beat() -> (
    None
):
    longer = run("supervised_long", 1, f1=0.75)
    found = compare(frame(run("supervised", 0, f1=0.70), run("naive", 1, f1=0.72), longer))
    assert {arm.reference.metrics["test/f1"] for arm in found.arms if arm.strategy == "naive"} == {
        0.75
    }
    figure = f1_by_iteration(found.arms, metric="test/f1").figure
    curves = [
        line
        for line in figure.axes[0].lines
        if list(line.get_xdata()) == [0, 1] and line.get_linestyle() == "-"
    ]
    starts = [curve.get_ydata()[0] for curve in curves]
    assert len(starts) == 2  # the seed's and the mean's
    assert starts == pytest.approx([70.0, 70.0])


def test_a_figure_without_data_gives_its_reason() -> None:
    plots = _plots(compare(frame(run("supervised", 0, f1=0.7))))
    assert [plot.figure for plot in plots] == [None] * len(NAMES)
    assert all(plot.reason for plot in plots)


def test_words_from_outside_are_no_formula_for_matplotlib() -> None:
    rows, documents = grid(seeds=[0, 1])
    renamed: list[dict[str, Any]] = [row | {"test/f1/$\\frac{x$": 0.5} for row in rows]
    plot: Plot = next(
        plot for plot in _plots(counted(renamed, documents)) if plot.name == "source_gains"
    )
    assert plot.figure is not None
    assert len(image(plot.figure, "png")) > 1000


def test_usual_strategies_look_the_same_in_every_figure_and_no_two_look_alike() -> None:
    names = [
        "supervised",
        "supervised_long",
        "naive",
        "class_balanced",
        *(f"naive+{number}" for number in range(7)),
    ]
    assert looks(names)["naive"] == looks(["naive"])["naive"]
    assert len(set(looks(names).values())) == len(names)


def test_the_precision_recall_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, p8 = rng.integers(0, 2, 500), rng.integers(0, 256, 500)
    histogram = np.stack([np.bincount(p8[truth == value], minlength=256) for value in (0, 1)])
    recall, precision = _curve(histogram)
    precisions, recalls, _ = precision_recall_curve(truth, p8)
    theirs = sorted(
        {(round(r, 12), round(p, 12)) for r, p in zip(recalls[:-1], precisions[:-1], strict=True)}
    )
    assert (
        sorted({(round(r, 12), round(p, 12)) for r, p in zip(recall, precision, strict=True)})
        == theirs
    )


def test_probabilities_that_mean_what_they_say_lie_on_the_diagonal() -> None:
    p8 = np.arange(256)
    histogram = np.stack([1000 * (255 - p8), 1000 * p8]).astype(np.int64)
    said, found, pixels = reliability(histogram)
    assert said == pytest.approx(found, abs=1e-12)
    assert pixels.sum() == histogram.sum()


def test_a_strategy_gets_a_colour_that_no_usual_one_has_while_there_are_any() -> None:
    usual = ["supervised", "supervised_long", "supervised_noise", "full", "naive", "class_balanced"]
    styles = looks([*usual, "quantile", "soft"])
    assert len({colour for colour, _ in styles.values()}) == 8


@pytest.mark.parametrize("more", [0, 8])
def test_the_names_below_the_gains_do_not_cover_each_other(more: int) -> None:
    names = [
        "curriculum",
        "weighted_loss",
        "ema_consistency+prior_match",
        "quantile",
        "stability",
        "soft",
        "class_balanced-class_thresholds",
        "class_balanced-quota",
    ][:more]
    found = counted(*grid(seeds=[0, 1], micrographs=5, more=names))
    figure = gains(found.arms, found.counts, metric="test/f1").figure
    figure.canvas.draw()
    (axes,) = figure.axes
    labels = axes.get_xticklabels()
    assert len(labels) == 2 + more
    step = axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]
    for label in labels:
        angle = math.radians(label.get_rotation())
        label.set_rotation(0)
        size = label.get_window_extent()
        # Slanted, neighbours lie side by side as far apart as their baselines are; level, as their
        # middles are.
        assert (size.height < step * math.sin(angle)) if angle else (size.width < step)


def test_each_point_of_a_source_is_nearest_to_its_own_line_however_many_strategies_there_are() -> (
    None
):
    more = ["curriculum", "weighted_loss", "ema_consistency", "quantile", "stability", "soft"]
    found = counted(*grid(seeds=[0, 1], micrographs=5, more=more))
    figure = source_gains(found.arms, metric="test/f1").figure
    (axes,) = figure.axes
    points = [line for line in axes.lines if len(line.get_xdata()) == len(SOURCES)]
    drawn = {line.get_label(): np.round(line.get_ydata()).tolist() for line in points}
    assert drawn == {name: list(range(len(SOURCES))) for name in ("naive", "class_balanced", *more)}


def test_calibration_errors_stand_below_the_panel_in_lines_that_fit(comparison: Comparison) -> None:
    figure = calibration(comparison.arms, comparison.counts).figure
    figure.canvas.draw()
    for axes in figure.axes:
        assert list(axes.texts) == []
        assert axes.get_xlabel().count("%") == len({arm.strategy for arm in comparison.arms})
        label = axes.xaxis.label.get_window_extent()
        assert figure.bbox.x0 <= label.x0 < label.x1 <= figure.bbox.x1


def test_lines_of_equal_f1_are_named_inside_the_panel_alone(comparison: Comparison) -> None:
    figure = precision_recall(comparison.arms, comparison.counts).figure
    figure.canvas.draw()
    for axes in figure.axes:
        assert len(axes.texts) >= 3
        assert min(text.get_window_extent().x0 for text in axes.texts) > axes.get_window_extent().x0
