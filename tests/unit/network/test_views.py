"""The strong view, and the boxes in which tiles are exchanged."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from cryossl.network.augment import (
    CUT_SHARES,
    STRONG_CONTRAST,
    STRONG_NOISE,
    _blurred,
    box_mask,
    strong_view,
)


def test_a_strong_view_of_nothing_is_noise_of_at_most_its_deviation_and_another_amount_for_each_tile():
    seen = strong_view(torch.zeros(200, 1, 16, 16), generator=np.random.default_rng(0))
    spread = seen.std(dim=(1, 2, 3))
    assert spread.max() < 1.2 * STRONG_NOISE
    assert spread.min() < 0.1
    assert spread.max() > 0.9 * STRONG_NOISE
    assert seen.mean().abs() < 0.02


def test_a_strong_view_of_a_flat_tile_shows_its_contrast_within_the_bounds():
    # Blur leaves a flat tile as it is, and noise averages out.
    seen = (
        strong_view(torch.full((300, 1, 32, 32), 3.0), generator=np.random.default_rng(1)).mean(
            dim=(1, 2, 3)
        )
        / 3
    )
    assert 1 / STRONG_CONTRAST - 0.05 < seen.min() < 1 / STRONG_CONTRAST + 0.1
    assert STRONG_CONTRAST - 0.2 < seen.max() < STRONG_CONTRAST + 0.05


def test_a_strong_view_moves_nothing():
    point = torch.zeros(64, 1, 25, 25)
    point[:, :, 12, 12] = 1e4
    seen = strong_view(point, generator=np.random.default_rng(2))
    assert set(seen.flatten(1).argmax(dim=1).tolist()) == {12 * 25 + 12}


def test_each_tile_is_blurred_by_its_own_gaussian_as_scipy_does_it():
    pictures = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(3))
    deviations = np.array([0.0, 0.5, 1.0, 2.0])
    found = _blurred(pictures, deviations)
    torch.testing.assert_close(found[0], pictures[0])
    for index in (1, 2, 3):
        expected = ndimage.gaussian_filter(
            pictures[index, 0].double().numpy(), deviations[index], mode="mirror", radius=6
        )
        np.testing.assert_allclose(found[index, 0].numpy(), expected, atol=1e-5)


def test_the_same_generator_gives_the_same_strong_view_and_another_one_does_not():
    pictures = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(4))
    first, again, other = (
        strong_view(pictures, generator=np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def sides(mask: torch.Tensor) -> tuple[int, int]:
    """Height and width of the one box of a tile; it must be a full rectangle."""
    rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return len(rows), len(columns)


def test_a_box_is_a_rectangle_with_sides_between_its_shares_anywhere_in_the_tile():
    mask = box_mask(400, 32, generator=np.random.default_rng(7))
    found = np.array([sides(each[0]) for each in mask])
    least, greatest = (round(32 * share) for share in CUT_SHARES)
    assert found.min() == least
    assert found.max() == greatest
    covered = mask.float().mean(dim=(0, 1))
    assert covered.min() > 0  # also the corners
    assert covered[16, 16] > 0.3


def test_a_box_around_a_centre_holds_it_and_stays_in_the_tile_and_none_means_no_box():
    centres = [(0, 0), (31, 31), (5, 30), None, (16, 16)] * 20
    mask = box_mask(100, 32, generator=np.random.default_rng(8), centres=centres)
    for each, centre in zip(mask[:, 0], centres, strict=True):
        if centre is None:
            assert not each.any()
        else:
            assert each[centre]
            assert min(sides(each)) >= 8
