"""Temperature, calibration error, and the networks with temperature or test-time averaging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cryossl.network.calibration import (
    BINS,
    COMPRESSION,
    Tempered,
    Views,
    expected_calibration_error,
    fit_temperature,
    logits_of_bins,
)


def histogram_of(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """As prediction counts it: pixels by (true class, p8) of the compressed network."""
    p8 = np.round(255 / (1 + np.exp(-logits / COMPRESSION))).astype(int)
    return np.stack([np.bincount(p8[truth == kind], minlength=256) for kind in (0, 1)]).astype(
        np.int64
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_found_again(temperature):
    rng = np.random.default_rng(0)
    honest = rng.normal(-2.0, 2.0, 400_000)  # log odds that are as often right as they say
    truth = (rng.random(honest.size) < 1 / (1 + np.exp(-honest))).astype(int)
    assert fit_temperature(histogram_of(temperature * honest, truth)) == pytest.approx(
        temperature, rel=0.03
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_without_one_of_the_classes_the_temperature_is_one(missing):
    counts = np.ones((2, 256), np.int64)
    counts[missing] = 0
    assert fit_temperature(counts) == 1.0


def test_a_network_that_is_never_wrong_is_sharpened_to_the_bound_and_one_that_is_a_coin_is_flattened():
    never_wrong, coin = np.zeros((2, 256), np.int64), np.zeros((2, 256), np.int64)
    never_wrong[0, 100], never_wrong[1, 160] = 90, 10
    coin[:, 100] = coin[:, 155] = 50
    assert fit_temperature(never_wrong) < 0.1
    assert fit_temperature(coin) == pytest.approx(100, rel=0.01)


def test_the_logit_of_a_bin_is_that_of_its_probability_uncompressed():
    logits = logits_of_bins()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logits[1:255] / COMPRESSION)), np.arange(1, 255) / 255
    )
    assert (np.diff(logits) > 0).all()
    assert logits[255] == pytest.approx(-logits[0])
    assert 50 < logits[255] < 60


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_a_loop_over_bins(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, (2, 256)) * (rng.random((2, 256)) < 0.3)
    total = error = 0.0
    pixels = [
        (p8 / 255, kind) for kind in (0, 1) for p8 in range(256) for _ in range(counts[kind, p8])
    ]
    for bin_ in range(BINS):
        members = [
            (p, kind)
            for p, kind in pixels
            if bin_ / BINS <= p < (bin_ + 1) / BINS or (p == 1 and bin_ == BINS - 1)
        ]
        total += len(members)
        if members:
            error += len(members) * abs(
                np.mean([kind for _, kind in members]) - np.mean([p for p, _ in members])
            )
    assert expected_calibration_error(counts) == pytest.approx(error / total)


def test_a_calibrated_network_has_no_error_a_contrary_one_has_all_and_none_is_not_zero():
    calibrated, contrary = np.zeros((2, 256), np.int64), np.zeros((2, 256), np.int64)
    calibrated[0, 51], calibrated[1, 51] = 80, 20
    contrary[0, 255], contrary[1, 0] = 5, 5
    assert expected_calibration_error(calibrated) == pytest.approx(0)
    assert expected_calibration_error(contrary) == 1
    assert expected_calibration_error(np.zeros((2, 256), np.int64)) is None


class Lopsided(nn.Module):
    """Logits that depend on where in the tile a pixel is."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(pictures[0, 0].numel(), dtype=torch.float32).view(pictures.shape[-2:])
        return pictures + ramp / ramp.max() + 0.5 * pictures.roll(1, dims=-1)


PICTURES = torch.randn(3, 1, 6, 8, generator=torch.Generator().manual_seed(0))


def test_a_tempered_network_divides_its_logits():
    torch.testing.assert_close(Tempered(Lopsided(), 4.0)(PICTURES), Lopsided()(PICTURES) / 4)


SQUARES = PICTURES[..., :6]
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def orientations(count: int) -> list[tuple[tuple[int, ...], bool]]:
    """(axes to flip, whether to transpose first) of each view."""
    return [(axes, turned) for turned in (False, True)[: count // 4] for axes in FLIPS]


def turn(pictures: torch.Tensor, axes: tuple[int, ...], *, turned: bool) -> torch.Tensor:
    return (pictures.transpose(-2, -1) if turned else pictures).flip(axes)


def turn_back(pictures: torch.Tensor, axes: tuple[int, ...], *, turned: bool) -> torch.Tensor:
    straight = pictures.flip(axes)
    return straight.transpose(-2, -1) if turned else straight


@pytest.mark.parametrize("count", [4, 8])
def test_many_views_answer_alike_however_the_picture_lies(count):
    network = Views(Lopsided(), count)
    straight = network(SQUARES)
    for axes, turned in orientations(count)[1:]:
        assert not torch.allclose(
            turn_back(Lopsided()(turn(SQUARES, axes, turned=turned)), axes, turned=turned),
            Lopsided()(SQUARES),
            atol=0.1,
        )
        again = turn_back(network(turn(SQUARES, axes, turned=turned)), axes, turned=turned)
        torch.testing.assert_close(again, straight)


@pytest.mark.parametrize("count", [4, 8])
def test_many_views_average_probabilities_not_logits(count):
    seen = [
        turn_back(
            torch.sigmoid(Lopsided()(turn(SQUARES, axes, turned=turned))), axes, turned=turned
        )
        for axes, turned in orientations(count)
    ]
    torch.testing.assert_close(
        torch.sigmoid(Views(Lopsided(), count)(SQUARES)), torch.stack(seen).mean(dim=0)
    )


def test_many_views_of_a_network_that_is_sure_stay_finite():
    assert torch.isfinite(Views(Tempered(nn.Identity(), 0.001), 4)(100 * PICTURES)).all()
