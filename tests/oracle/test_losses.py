"""Our losses against torch's and segmentation-models-pytorch's, where weights are 0 or 1."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from cryossl.labels import IGNORE
from cryossl.losses import cross_entropy, dice


def draw(seed: int, *, valid: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (4, 1, 17, 23)
    return (3 * torch.randn(shape, generator=random), (torch.rand(shape, generator=random) < 0.1).float(),
            (torch.rand(shape, generator=random) < valid).float())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("valid", [1.0, 0.6, 0.02])
def test_cross_entropy_is_torchs_over_the_valid_pixels(seed, valid):
    logits, target, weight = draw(seed, valid=valid)
    chosen = weight > 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[chosen], target[chosen])
    torch.testing.assert_close(cross_entropy(logits, target, weight), expected)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("valid", [1.0, 0.6, 0.02])
def test_dice_and_its_gradient_are_those_of_segmentation_models_pytorch(seed, valid):
    logits, target, weight = draw(seed, valid=valid)
    marked = torch.where(weight > 0, target, float(IGNORE))
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True, ignore_index=IGNORE)(theirs, marked)
    found = dice(ours, target, weight)
    torch.testing.assert_close(found, expected)
    expected.backward()
    found.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_batch_without_particles_has_no_dice_as_in_segmentation_models_pytorch():
    logits, target, weight = draw(0, valid=1.0)
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True)(logits, 0 * target)
    assert dice(logits, 0 * target, weight).item() == expected.item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_soft_targets_are_torchs_and_segmentation_models_pytorchs_too(seed):
    logits, _, weight = draw(seed, valid=1.0)
    soft = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(cross_entropy(logits, soft, weight),
                               torch.nn.functional.binary_cross_entropy_with_logits(logits, soft))
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True)(logits, soft)
    torch.testing.assert_close(dice(logits, soft, weight), expected)
