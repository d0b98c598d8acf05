"""Our losses against torch's and segmentation-models-pytorch's, where weights are 0 or 1."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torchvision.ops import sigmoid_focal_loss

from cryossl.data.labels import IGNORE
from cryossl.network.losses import cross_entropy, dice, focal, loss_of, tversky


def draw(seed: int, *, valid: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (4, 1, 17, 23)
    return (
        3 * torch.randn(shape, generator=random),
        (torch.rand(shape, generator=random) < 0.1).float(),
        (torch.rand(shape, generator=random) < valid).float(),
    )


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
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True, ignore_index=IGNORE)(
        theirs, marked
    )
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
    torch.testing.assert_close(
        cross_entropy(logits, soft, weight),
        torch.nn.functional.binary_cross_entropy_with_logits(logits, soft),
    )
    expected = smp.losses.DiceLoss(mode="binary", from_logits=True)(logits, soft)
    torch.testing.assert_close(dice(logits, soft, weight), expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("valid", [1.0, 0.6])
def test_focal_loss_and_its_gradient_are_torchvisions_over_the_valid_pixels(seed, valid):
    logits, target, weight = draw(seed, valid=valid)
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    chosen = weight > 0
    expected = sigmoid_focal_loss(
        theirs[chosen], target[chosen], alpha=0.75, gamma=2, reduction="mean"
    )
    found = focal(ours, target, weight)
    torch.testing.assert_close(found, expected)
    expected.backward()
    found.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("seed", range(5))
def test_tversky_is_that_of_segmentation_models_pytorch(seed):
    logits, target, weight = draw(seed, valid=1.0)
    expected = smp.losses.TverskyLoss(mode="binary", from_logits=True, alpha=0.3, beta=0.7)(
        logits, target
    )
    torch.testing.assert_close(tversky(logits, target, weight), expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prior", [0.04, 0.1])
def test_the_weighted_loss_is_torchs_with_a_positive_weight_and_half_of_each_part(seed, prior):
    logits, target, weight = draw(seed, valid=0.6)
    chosen = weight > 0
    factor = torch.tensor(min(((1 - prior) / prior) ** 0.5, 5.0))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[chosen], target[chosen], pos_weight=factor
    )
    marked = torch.where(chosen, target, float(IGNORE))
    overlap = smp.losses.DiceLoss(mode="binary", from_logits=True, ignore_index=IGNORE)(
        logits, marked
    )
    torch.testing.assert_close(
        loss_of("weighted", prior=prior)(logits, target, weight), (entropy + overlap) / 2
    )
