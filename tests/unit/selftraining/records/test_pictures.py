"""What the pictures show, pixel by pixel where nothing is reduced."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.evaluation.answer import found_of
from cryossl.evaluation.metrics import Counts
from cryossl.pseudolabels.selection import Assessment
from cryossl.selftraining.records.pictures import (
    ERRORS,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GAP_PX,
    INK,
    LEAST_WIDTH_PX,
    LINE_PX,
    OPACITY,
    PAPER,
    TRUE_POSITIVE,
    PseudoLabelExample,
    curves_picture,
    prediction_picture,
    pseudo_label_sheet,
    scale_bar,
    worst_median_best,
)

SIDE = 128
GREY = np.full((SIDE, SIDE), 77, dtype=np.uint8)

# Machado, Oliveira and Fernandes (2009): what full deuteranopia and protanopia make of linear RGB.
SEEN_WITH = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


def _quadrants() -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities, a quadrant for each kind of pixel; the last rows are predicted and ignored."""
    truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
    probabilities = np.zeros((SIDE, SIDE), dtype=np.uint8)
    truth[:, :64] = PARTICLE
    probabilities[:64] = 255
    truth[120:] = IGNORE
    probabilities[120:] = 255
    return truth, probabilities


def _panels(picture: np.ndarray) -> list[np.ndarray]:
    """Image, truth, prediction and errors, without the caption."""
    body = picture[2 * LINE_PX : -LINE_PX]
    return [body[:, place * (SIDE + GAP_PX) : place * (SIDE + GAP_PX) + SIDE] for place in range(4)]


def _tint(colour: tuple[int, int, int]) -> list[int]:
    return np.rint(128 * (1 - OPACITY) + OPACITY * np.array(colour)).astype(int).tolist()


def _assessment(quality: float) -> Assessment:
    return Assessment(
        quality=quality,
        particle_confidence=0.7,
        background_confidence=0.9,
        mean_confidence=0.8,
        balance=0.5,
        particle_ratio=0.04,
        ignored_fraction=0.2,
        pixels=100,
        particle_pixels=4,
        ignored_pixels=20,
    )


def _draw(name: str = "train/one.jpg", threshold8: int = 128) -> np.ndarray:
    truth, probabilities = _quadrants()
    return prediction_picture(
        GREY, truth, probabilities, threshold8=threshold8, name=name, side_px=SIDE
    )


def test_four_panels_stand_side_by_side_between_lines_of_words() -> None:
    assert _draw().shape == (SIDE + 3 * LINE_PX, 4 * SIDE + 3 * GAP_PX, 3)


def test_errors_have_their_colours_where_they_are() -> None:
    errors = _panels(_draw())[3]
    assert errors[10, 10].tolist() == _tint(TRUE_POSITIVE)
    assert errors[10, 100].tolist() == _tint(FALSE_POSITIVE)
    assert errors[100, 10].tolist() == _tint(FALSE_NEGATIVE)
    assert errors[100, 100].tolist() == [128, 128, 128]


def test_the_first_panel_is_the_picture_alone() -> None:
    assert np.unique(_panels(_draw())[0]).tolist() == [128]


def test_prediction_is_shown_everywhere_and_truth_where_it_is_valid() -> None:
    _, truth, prediction, _ = _panels(_draw())
    assert (prediction[:64] != 128).any(axis=2).all()
    assert (prediction[64:120] == 128).all()
    assert (prediction[120:] != 128).any(axis=2).all()
    assert (truth[:120, :64] != 128).any(axis=2).all()
    assert (truth[:120, 64:] == 128).all()


def test_ignored_pixels_are_grey_and_hatched_and_carry_no_error_colour() -> None:
    _, truth, _, errors = _panels(_draw())
    for panel in (truth, errors):
        band = panel[120:]
        assert (band == band[..., :1]).all()
        assert len(np.unique(band)) == 2


def test_the_threshold_decides_what_is_predicted() -> None:
    truth, _ = _quadrants()
    probabilities = np.full((SIDE, SIDE), 150, dtype=np.uint8)
    below, at = (
        prediction_picture(
            GREY, truth, probabilities, threshold8=threshold8, name="m", side_px=SIDE
        )
        for threshold8 in (151, 150)
    )
    assert (_panels(below)[2] == 128).all()
    assert (_panels(at)[2] != 128).any(axis=2).all()


def test_the_caption_names_the_micrograph_and_its_scores() -> None:
    caption, other = _draw("train/one.jpg")[:LINE_PX], _draw("train/two.jpg")[:LINE_PX]
    assert (caption != np.array(PAPER)).any()
    assert not np.array_equal(caption, other)
    assert not np.array_equal(caption, _draw(threshold8=0)[:LINE_PX])


def test_a_long_name_is_shortened_and_stays_inside() -> None:
    drawn = _draw("train/" + "x" * 500 + ".jpg")
    assert drawn.shape == _draw().shape
    assert (drawn[:LINE_PX, -2:] == np.array(PAPER)).all()


@pytest.mark.parametrize(
    ("height", "width"), [(1024, 1024), (700, 1031), (1031, 333), (7, 9), (1, 400)]
)
def test_a_picture_of_any_shape_is_reduced_to_the_side_and_never_enlarged(
    height: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width), dtype=np.uint8)
    truth = rng.choice([BACKGROUND, PARTICLE, IGNORE], (height, width)).astype(np.uint8)
    drawn = prediction_picture(picture, truth, picture, threshold8=128, name="m", side_px=256)
    assert drawn.shape[0] == 3 * LINE_PX + max(1, round(height * min(1, 256 / max(height, width))))
    side = max(1, round(width * min(1, 256 / max(height, width))))
    assert drawn.shape[1] == max(LEAST_WIDTH_PX, 4 * side + 3 * GAP_PX)


@pytest.mark.parametrize("side", [9, 64, 256])
def test_the_legend_of_the_errors_is_whole_for_pictures_of_any_size(side: int) -> None:
    blank = np.zeros((side, side), np.uint8)
    below = prediction_picture(blank, blank, blank, threshold8=1, name="m", side_px=256)[-LINE_PX:]
    for _, colour in ERRORS:
        square = (below == np.array(colour)).all(axis=2)
        assert (square.sum(axis=0) == 9).sum() >= 9
    assert (below[:, -2:] == np.array(PAPER)).all()


@pytest.mark.parametrize(
    ("width", "shown", "pixel", "bar"),
    [
        (300, 300, None, (100, "100 px")),
        (1024, 384, None, (75, "200 px")),
        (1024, 384, 4.0, (94, "100 nm")),
        (256, 256, 7.5, (67, "50 nm")),
        (1, 1, None, (1, "1 px")),
    ],
)
def test_the_scale_bar_is_as_long_as_it_says(
    width: int, shown: int, pixel: float | None, bar: tuple[int, str]
) -> None:
    length, text = scale_bar(width, shown_px=shown, pixel_size_angstrom=pixel)
    assert (length, text) == bar
    size, unit = text.split()
    px = float(size) * 10 / pixel if pixel and unit == "nm" else float(size)
    assert length == pytest.approx(px * shown / width, abs=0.5)


def test_the_bar_is_drawn_as_long_as_it_is() -> None:
    blank = np.zeros((300, 300), np.uint8)
    below = prediction_picture(blank, blank, blank, threshold8=1, name="m", side_px=300)[-LINE_PX:]
    assert (below[7] == np.array(INK)).all(axis=1).sum() >= 100
    assert (below[7, 2:102] == np.array(INK)).all()


def test_a_thin_error_survives_reduction() -> None:
    truth, probabilities = (
        np.zeros((512, 512), dtype=np.uint8),
        np.zeros((512, 512), dtype=np.uint8),
    )
    truth[:, 201] = PARTICLE
    drawn = prediction_picture(
        np.full((512, 512), 9, np.uint8),
        truth,
        probabilities,
        threshold8=128,
        name="m",
        side_px=SIDE,
    )
    assert (_panels(drawn)[3][:, 50] != 128).any(axis=1).all()


def test_drawing_changes_none_of_its_inputs() -> None:
    truth, probabilities = _quadrants()
    before = (GREY.copy(), truth.copy(), probabilities.copy())
    prediction_picture(GREY, truth, probabilities, threshold8=128, name="m", side_px=64)
    assert all(
        np.array_equal(*pair) for pair in zip(before, (GREY, truth, probabilities), strict=True)
    )


@pytest.mark.parametrize("seen_with", SEEN_WITH)
def test_error_colours_stay_apart_for_the_colour_blind(seen_with: str) -> None:
    for one, other in combinations((TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE), 2):
        linear = (np.array([one, other]) / 255) ** 2.2
        seen = 255 * np.clip(linear @ np.array(SEEN_WITH[seen_with]).T, 0, 1) ** (1 / 2.2)
        assert np.linalg.norm(seen[0] - seen[1]) > 80


def test_error_colours_differ_in_grey_print() -> None:
    greys = [
        Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
        for colour in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)
    ]
    assert min(abs(one - other) for one, other in combinations(greys, 2)) > 30


def test_a_sheet_has_the_best_left_and_the_worst_right_with_captions() -> None:
    truth, _ = _quadrants()
    good = PseudoLabelExample("g", GREY, truth, _assessment(0.9))
    bad = PseudoLabelExample("b", GREY, truth, _assessment(0.1))
    sheet = pseudo_label_sheet([good, good], [bad], side_px=SIDE)
    column = 2 * SIDE + GAP_PX
    assert sheet.shape == (LINE_PX + 2 * (SIDE + 3 * LINE_PX), 2 * column + 4 * GAP_PX, 3)
    assert (sheet[LINE_PX + SIDE + 3 * LINE_PX :, column:] == np.array(PAPER)).all()
    captions = [
        sheet[LINE_PX + SIDE : LINE_PX + SIDE + 3 * LINE_PX, start : start + column]
        for start in (0, column + 4 * GAP_PX)
    ]
    assert not np.array_equal(*captions)


def test_a_sheet_shows_particles_coloured_and_doubtful_pixels_hatched() -> None:
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    labels[:40], labels[80:] = PARTICLE, IGNORE
    sheet = pseudo_label_sheet(
        [PseudoLabelExample("m", GREY, labels, _assessment(0.5))], [], side_px=SIDE
    )
    shown = sheet[LINE_PX : LINE_PX + SIDE, SIDE + GAP_PX : 2 * SIDE + GAP_PX]
    assert shown[10, 10].tolist() == _tint(TRUE_POSITIVE)
    assert (shown[40:80] == 128).all()
    assert len(np.unique(shown[80:].reshape(-1, 3), axis=0)) == 2


def test_a_sheet_of_pictures_of_different_shapes_holds_together() -> None:
    examples = [
        PseudoLabelExample(
            "m", np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), _assessment(0.5)
        )
        for shape in ((SIDE, 60), (60, SIDE), (3 * SIDE, 2 * SIDE))
    ]
    assert (
        pseudo_label_sheet(examples, examples[:1], side_px=SIDE).shape[1]
        == 2 * (2 * SIDE + GAP_PX) + 4 * GAP_PX
    )


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="no pseudo-label"):
        pseudo_label_sheet([], [], side_px=SIDE)


def test_worst_median_and_best_are_by_f1_and_leave_out_the_undefined() -> None:
    counts = {
        "e": Counts(9, 1, 0),
        "d": Counts(1, 9, 0),
        "c": Counts(5, 5, 0),
        "b": Counts(0, 0, 0),
    }
    assert worst_median_best(counts) == {"worst": "d", "median": "c", "best": "e"}
    assert worst_median_best({"a": Counts(1, 0, 0)}) == {"worst": "a", "median": "a", "best": "a"}
    assert worst_median_best({"b": Counts(0, 0, 0)}) == {}


def test_the_curves_have_a_line_for_each_strategy_and_another_axis_by_eight_views() -> None:
    numbers = {"test/f1": 0.5, "test/f1_views8": 0.5}
    one, eight = (
        curves_picture([found_of("naive", 1, {0: numbers, 1: numbers}, views=views)])
        for views in (1, 8)
    )
    two = curves_picture(
        [found_of(name, 0, {0: numbers, 1: numbers}, views=1) for name in ("naive", "soft")]
    )
    assert one.shape == eight.shape == two.shape
    assert (one != eight).any()
    assert (one != two).any()
