"""Figures and the curves behind them."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from counted_frames import SOURCES, counted, grid
from PIL import Image
from sklearn.metrics import precision_recall_curve
from tracked_frames import frame, run

from analysis.report.curves import _curve, calibration, precision_recall, reliability
from analysis.report.figures import f1_by_iteration, source_gains
from analysis.report.gains import Gain, gain_rows, gains
from analysis.report.plotting import Plot, image, looks
from analysis.report.report import _plots
from analysis.runs.arms import strategy_order
from analysis.tables.comparison import Comparison, compare

NAMES = [
    "gains",
    "f1_by_iteration",
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


def test_the_controls_come_between_baseline_and_strategies_and_each_has_a_look_of_its_own() -> None:
    names = ["naive", "full", "ensemble", "soft", "supervised_noise", "supervised"]
    ordered = sorted(names, key=strategy_order)
    assert ordered == ["supervised", "supervised_noise", "ensemble", "full", "naive", "soft"]
    assert len(set(looks(ordered).values())) == len(names)


@pytest.mark.parametrize("more", [0, 8])
def test_names_and_numbers_beside_the_gains_cover_nothing(more: int) -> None:
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
    figure = gains(gain_rows(found.arms, found.counts, metric="test/f1"), metric="test/f1").figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for written in (axes.get_yticklabels(), axes.texts):
        assert len(written) == 2 + more
        places = sorted((one.get_window_extent() for one in written), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 for low, high in pairwise(places))
        assert all(figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1 for box in places)
    panel = axes.get_window_extent()
    assert all(text.get_window_extent().x0 >= panel.x1 for text in axes.texts)


def test_gains_are_drawn_from_plain_rows_where_their_numbers_say() -> None:
    rows = [
        Gain(5.0, "naive", (1.0, 3.0), (2.0, 0.5, 3.5)),
        Gain(5.0, "class_balanced", (0.0, 0.0), None, accepted=False),
        Gain(10.0, "naive", (1.5,), None),
    ]
    plot = gains(rows, metric="test/f1")
    five, ten = plot.figure.axes
    assert plot.alt == (
        "naive at 5%: +2.00 [+0.50, +3.50]; class_balanced at 5%: no student accepted; "
        "naive at 10%: +1.50"
    )
    drawn = [list(map(float, line.get_xdata())) for line in five.lines]
    assert [1.0, 3.0] in drawn
    assert [0.5, 3.5] in drawn
    assert [2.0] in drawn
    # Of a strategy that accepted nothing there is nothing to draw.
    assert {round(float(line.get_ydata()[0])) for line in five.lines[2:]} == {0}
    assert five.get_xlim() == ten.get_xlim()


def test_an_interval_much_wider_than_the_seeds_neither_hides_them_nor_ends_unseen() -> None:
    rows = [Gain(5.0, "naive", (1.0, 2.0), (1.5, -40.0, 43.0))]
    (axes,) = gains(rows, metric="test/f1").figure.axes
    low, high = axes.get_xlim()
    assert (high - low) < 8
    arrows = {line.get_marker(): float(line.get_xdata()[0]) for line in axes.lines}
    assert low <= arrows["<"] < 1.0 < 2.0 < arrows[">"] <= high
    assert "[-40.00, +43.00]" in axes.texts[0].get_text()


def test_a_band_of_few_seeds_does_not_decide_how_large_the_scores_are_drawn() -> None:
    found = counted(*grid(seeds=[0, 1, 2], micrographs=5))
    (axes,) = f1_by_iteration(found.arms, metric="test/f1").figure.axes
    scores = [float(value) for line in axes.lines for value in line.get_ydata()]
    low, high = axes.get_ylim()
    assert low < min(scores) < max(scores) < high
    assert high - low < 2.5 * (max(scores) - min(scores))
    two = counted(*grid(seeds=[0, 1], micrographs=5))
    (axes,) = f1_by_iteration(two.arms, metric="test/f1").figure.axes
    assert list(axes.collections) == []


def test_the_baseline_lies_above_the_curves_and_a_strategy_that_kept_it_is_named() -> None:
    rows, documents = grid(seeds=[0, 1], micrographs=5)
    rows = [
        row | {"cryossl.accepted": "false"}
        for row in rows
        if row["cryossl.strategy"] != "naive" or row["cryossl.iteration"] == "1"
    ]
    rows = [
        row | {"cryossl.accepted": "true"} if row["cryossl.strategy"] == "class_balanced" else row
        for row in rows
    ]
    found = counted(rows, documents)
    for plot in (
        precision_recall(found.arms, found.counts),
        calibration(found.arms, found.counts),
    ):
        (axes,) = plot.figure.axes
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        curves = [line for line in axes.lines if line.get_linewidth() == 1.8]
        assert len(dashed) == len(curves) == 1  # supervised; class_balanced
        assert dashed[0].get_zorder() > curves[0].get_zorder()
        assert "no student was accepted: naive at 5%." in plot.caption


def test_each_point_of_a_source_is_nearest_to_its_own_line_however_many_strategies_there_are() -> (
    None
):
    more = ["curriculum", "weighted_loss", "ema_consistency", "quantile", "stability", "soft"]
    found = counted(*grid(seeds=[0, 1], micrographs=5, more=more))
    figure = source_gains(found.arms, metric="test/f1").figure
    (axes,) = figure.axes
    points = [line for line in axes.lines if len(line.get_xdata()) == len(SOURCES)]
    drawn = {line.get_label(): np.round(line.get_ydata()).tolist() for line in points}
    # naive accepted no student here, so there is no gain to draw.
    assert drawn == {name: list(range(len(SOURCES))) for name in ("class_balanced", *more)}


def test_calibration_errors_stand_below_the_panel_in_lines_that_fit(comparison: Comparison) -> None:
    figure = calibration(comparison.arms, comparison.counts).figure
    figure.canvas.draw()
    for axes in figure.axes:
        assert list(axes.texts) == []
        names = {arm.strategy for arm in comparison.arms} - {"naive"}  # which accepted no student
        assert axes.get_xlabel().count("%") == len(names)
        label = axes.xaxis.label.get_window_extent()
        assert figure.bbox.x0 <= label.x0 < label.x1 <= figure.bbox.x1


def test_lines_of_equal_f1_are_named_inside_the_panel_alone(comparison: Comparison) -> None:
    figure = precision_recall(comparison.arms, comparison.counts).figure
    figure.canvas.draw()
    for axes in figure.axes:
        assert len(axes.texts) >= 3
        assert min(text.get_window_extent().x0 for text in axes.texts) > axes.get_window_extent().x0
