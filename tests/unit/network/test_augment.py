from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from cryossl.data.labels import IGNORE
from cryossl.data.levels import NEUTRAL
from cryossl.network.augment import (
    BRIGHTNESS,
    CONTRAST,
    dihedral,
    intensity,
    noised,
    weak_view,
    z_scores,
)


def bytes_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_all_eight_orientations_occur_about_equally_often():
    tile = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    batch = torch.from_numpy(tile).expand(4000, 1, 2, 2)
    turned = dihedral(batch, generator=np.random.default_rng(1))
    counts = Counter(tuple(view.flatten().tolist()) for view in turned)
    every = {
        tuple(np.rot90(base, turns).flatten().tolist())
        for base in (tile, tile.T)
        for turns in range(4)
    }
    assert set(counts) == every
    assert len(every) == 8
    assert min(counts.values()) > 400


def test_each_tile_is_one_of_numpys_rotations_and_reflections():
    batch = bytes_of(32, 1, 5, 5)
    turned = dihedral(batch, generator=np.random.default_rng(2))
    for before, after in zip(batch[:, 0].numpy(), turned[:, 0], strict=True):
        views = [np.rot90(base, turns) for base in (before, before.T) for turns in range(4)]
        assert sum(np.array_equal(view, after.numpy()) for view in views) == 1


def test_labels_turn_with_their_picture():
    pictures = bytes_of(16, 1, 8, 8)
    labels = (pictures > 200).to(torch.uint8)
    labels[:, :, :2] = IGNORE
    seen, turned = weak_view(pictures, labels, generator=np.random.default_rng(3))
    for picture, label_map, before, label_before in zip(
        seen, turned, pictures, labels, strict=True
    ):
        valid = label_map != IGNORE
        assert (label_map == 1).sum() == (label_before == 1).sum()
        bright = z_scores(before)[label_before == 1].min()
        dark = z_scores(before)[label_before == 0].max()
        if bright > dark:  # contrast and brightness keep the order
            assert picture[label_map == 1].min() > picture[valid & (label_map == 0)].max()


def test_intensity_is_one_factor_and_one_shift_a_tile_within_the_bounds():
    zeros, ones = torch.zeros(500, 1, 2, 2), torch.ones(500, 1, 2, 2)
    shift = intensity(zeros, generator=np.random.default_rng(4))
    factor = intensity(ones, generator=np.random.default_rng(4)) - shift
    for drawn, least, greatest in (
        (shift, -BRIGHTNESS, BRIGHTNESS),
        (factor, 1 / CONTRAST, CONTRAST),
    ):
        assert torch.all(drawn == drawn[:, :1, :1, :1])
        assert least - 1e-6 <= drawn.min() < least + 0.02
        assert greatest - 0.02 < drawn.max() <= greatest + 1e-6


def test_the_same_generator_gives_the_same_view_and_another_one_does_not():
    pictures, labels = bytes_of(4, 1, 8, 8), bytes_of(4, 1, 8, 8, seed=1)
    views = [
        weak_view(pictures, labels, generator=np.random.default_rng(seed)) for seed in (5, 5, 6)
    ]
    assert torch.equal(views[0][0], views[1][0])
    assert torch.equal(views[0][1], views[1][1])
    assert not torch.equal(views[0][0], views[2][0])


def test_the_batch_that_goes_in_is_not_changed():
    pictures, labels = bytes_of(4, 1, 8, 8), bytes_of(4, 1, 8, 8, seed=1)
    kept = pictures.clone(), labels.clone()
    weak_view(pictures, labels, generator=np.random.default_rng(7))
    assert torch.equal(pictures, kept[0])
    assert torch.equal(labels, kept[1])


def noise_on(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tiles of one value each, their number, as picture, target and weight, after the noise."""
    numbers = torch.arange(count, dtype=torch.float32).view(count, 1, 1, 1).expand(count, 1, 16, 16)
    return noised(
        numbers.clone(), numbers.clone(), 10 * numbers, generator=np.random.default_rng(seed)
    )


def test_noise_moves_picture_target_and_weight_of_a_box_together():
    pictures, target, weight = noise_on(64, seed=0)
    torch.testing.assert_close(weight, 10 * target)
    own = torch.arange(64).view(64, 1, 1, 1)
    plain = [
        index for index in range(64) if (pictures[index][target[index] == index] == index).all()
    ]
    assert 16 <= len(plain) <= 48  # about half of the tiles are seen as they were
    for index in range(64):
        taken = target[index] != index
        for other in target[index][taken].unique().int().tolist():
            if other in plain:
                assert (pictures[index][taken] == other).all()
    boxed = (target != own).flatten(1).any(dim=1)
    assert 16 <= int(boxed.sum()) <= 48


def test_noise_is_a_function_of_its_generator():
    one, again, other = noise_on(8, seed=1), noise_on(8, seed=1), noise_on(8, seed=2)
    assert all(torch.equal(first, second) for first, second in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])


def test_bytes_become_z_scores_between_minus_5_and_5():
    found = z_scores(torch.tensor([0, NEUTRAL, 255], dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([-5.0, 128 / 25.5 - 5, 5.0]))
    assert abs(found[1].item()) < 0.02
