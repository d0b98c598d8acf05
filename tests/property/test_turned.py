"""A tile that is turned by any angle and scaled: labels go with the picture, IGNORE where nothing is known."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.network.augment import SCALE, intensity, turned_and_scaled, weak_view, z_scores

SIDE = 48
TILES = 3
seeds = st.integers(0, 2**32)


def tiles(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that are bright on three discs, with one side unlabelled: z scores and labels."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.full((TILES, 1, SIDE, SIDE), BACKGROUND, np.uint8)
    for label_map in labels[:, 0]:
        for y, x in random.uniform(0, SIDE, (3, 2)):
            label_map[(rows - y) ** 2 + (columns - x) ** 2 <= 6**2] = PARTICLE
    pictures = torch.from_numpy(np.where(labels == PARTICLE, 2.0, -1.0).astype(np.float32))
    labels[:, :, :4] = IGNORE
    return pictures, torch.from_numpy(labels)


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_labels_turn_with_the_picture(seed):
    pictures, labels = tiles(seed)
    seen, found = turned_and_scaled(pictures, labels, generator=np.random.default_rng(seed))
    for picture, label_map in zip(seen[:, 0].numpy(), found[:, 0].numpy(), strict=True):
        assert set(np.unique(label_map)) <= {BACKGROUND, PARTICLE, IGNORE}
        known = label_map != IGNORE
        # Interpolation blurs an outline by a pixel, of the scaled size.
        inside = ndimage.binary_erosion(label_map == PARTICLE, iterations=2, border_value=0)
        outside = ndimage.binary_erosion(label_map == BACKGROUND, iterations=2, border_value=0)
        assert (picture[inside & known] > 1.5).all()
        assert (picture[outside & known] < -0.5).all()


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_picture_and_labels_are_those_of_scipy_for_the_same_angles_and_factors(seed):
    pictures, labels = tiles(seed)
    seen, found = turned_and_scaled(pictures, labels, generator=np.random.default_rng(seed))
    draws = np.random.default_rng(seed)
    angles = draws.uniform(-np.pi / 4, np.pi / 4, TILES)
    factors = np.exp(draws.uniform(-np.log(SCALE), np.log(SCALE), TILES))
    middle = np.full(2, (SIDE - 1) / 2)
    for tile, (angle, factor) in enumerate(zip(angles, factors, strict=True)):
        cosine, sine = np.cos(angle) / factor, np.sin(angle) / factor
        matrix = np.array([[cosine, sine], [-sine, cosine]])  # of (y, x)
        offset = middle - matrix @ middle
        picture = ndimage.affine_transform(
            pictures[tile, 0].numpy(), matrix, offset, order=1, mode="reflect"
        )
        np.testing.assert_allclose(seen[tile, 0].numpy(), picture, atol=1e-3)
        label_map = ndimage.affine_transform(
            labels[tile, 0].numpy(), matrix, offset, order=0, mode="grid-constant", cval=IGNORE
        )
        # A place that lies between two pixels may be rounded otherwise.
        assert np.mean(found[tile, 0].numpy() != label_map) < 0.01


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_the_middle_stays_known_and_codes_of_soft_targets_stay_themselves(seed):
    codes = torch.from_numpy(
        np.random.default_rng(seed).integers(0, IGNORE, (TILES, 1, SIDE, SIDE), np.uint8)
    )
    _, found = turned_and_scaled(
        torch.zeros(TILES, 1, SIDE, SIDE), codes, generator=np.random.default_rng(seed)
    )
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    near = np.hypot(rows, columns) <= SIDE / 2 / SCALE - 1
    assert not (found[:, 0].numpy()[:, near] == IGNORE).any()
    for before, after in zip(codes, found, strict=True):
        assert set(after.unique().tolist()) <= {*before.unique().tolist(), IGNORE}


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_without_it_the_weak_view_draws_nothing_more(seed):
    raw = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (TILES, 1, 8, 8), np.uint8))
    draws, again = (np.random.default_rng(seed) for _ in range(2))
    seen, labels = weak_view(raw, raw, generator=draws)
    flags = again.integers(0, 2, size=(3, TILES))
    expected = raw
    for axes, flag in (((-2,), 0), ((-1,), 1)):
        on = torch.from_numpy(flags[flag].astype(bool)).view(TILES, 1, 1, 1)
        expected = torch.where(on, expected.flip(axes), expected)
    on = torch.from_numpy(flags[2].astype(bool)).view(TILES, 1, 1, 1)
    expected = torch.where(on, expected.transpose(-2, -1), expected)
    assert torch.equal(labels, expected)
    assert torch.equal(seen, intensity(z_scores(expected), generator=again))
    assert draws.random() == again.random()


def test_any_angle_changes_the_weak_view_so_that_the_check_above_can_fail():
    pictures, labels = tiles(0)
    raw = ((pictures + 5) * 25.5).to(torch.uint8)
    views = [
        weak_view(raw, labels, generator=np.random.default_rng(0), any_angle=chosen)[1]
        for chosen in (False, True)
    ]
    assert not torch.equal(*views)
    assert (views[1] == IGNORE).sum() > (views[0] == IGNORE).sum()
