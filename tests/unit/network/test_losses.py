from __future__ import annotations

import pytest
import torch

from cryossl.network.losses import (
    cross_entropy,
    dice,
    loss_of,
    positive_weight,
    segmentation_loss,
    tversky,
)


def maps(*, seed: int, valid: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (3, 1, 8, 8)
    return (
        torch.randn(shape, generator=random),
        (torch.rand(shape, generator=random) < 0.3).float(),
        (torch.rand(shape, generator=random) < valid).float(),
    )


def test_a_pixel_of_weight_zero_changes_neither_loss_nor_gradient():
    logits, target, weight = maps(seed=1, valid=0.5)
    changed = torch.where(weight > 0, logits, -7 * logits + 3).requires_grad_()
    flipped = torch.where(weight > 0, target, 1 - target)
    loss = segmentation_loss(changed, flipped, weight)
    torch.testing.assert_close(loss, segmentation_loss(logits, target, weight))
    loss.backward()
    assert torch.all(changed.grad[weight == 0] == 0)
    assert torch.all(changed.grad[weight > 0] != 0)


def test_a_sure_and_right_prediction_costs_nothing_and_a_sure_and_wrong_one_much():
    _, target, weight = maps(seed=2)
    right = 50 * (2 * target - 1)
    assert segmentation_loss(right, target, weight).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(-right, target, weight).item() > 50


def test_cross_entropy_of_a_lighter_image_counts_less():
    logits, target, _ = maps(seed=3)
    full, quarter = torch.ones_like(logits), torch.full_like(logits, 0.25)
    torch.testing.assert_close(
        cross_entropy(logits, target, quarter), 0.25 * cross_entropy(logits, target, full)
    )


def test_dice_of_a_uniformly_lighter_batch_is_the_same_ratio():
    logits, target, weight = maps(seed=4)
    torch.testing.assert_close(dice(logits, target, 0.25 * weight), dice(logits, target, weight))


def test_a_batch_without_a_valid_pixel_costs_nothing():
    logits, target, weight = maps(seed=5)
    logits.requires_grad_()
    loss = segmentation_loss(logits, target, 0 * weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.all(logits.grad == 0)


def test_dice_says_nothing_about_a_batch_without_particles():
    logits, target, weight = maps(seed=6)
    logits.requires_grad_()
    loss = dice(logits, 0 * target, weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.all(logits.grad == 0)
    assert cross_entropy(logits, 0 * target, weight).item() > 0


def test_the_loss_is_cross_entropy_plus_dice():
    logits, target, weight = maps(seed=7, valid=0.7)
    total = cross_entropy(logits, target, weight) + dice(logits, target, weight)
    torch.testing.assert_close(segmentation_loss(logits, target, weight), total)


def test_a_soft_target_is_cheapest_met_exactly():
    soft, weight = (
        torch.full((1, 1, 4, 4), 0.3, dtype=torch.float64),
        torch.ones(1, 1, 4, 4, dtype=torch.float64),
    )
    costs = {
        p: segmentation_loss(torch.full_like(soft, p).logit(), soft, weight).item()
        for p in (0.1, 0.29, 0.3, 0.31, 0.9)
    }
    assert min(costs, key=costs.get) == 0.3


def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    logits, target, weight = (part.double() for part in maps(seed=8, valid=0.6))
    assert torch.autograd.gradcheck(
        lambda x: segmentation_loss(x, target, weight), (logits.requires_grad_(),)
    )


BEYOND = ("weighted", "focal", "tversky")


@pytest.mark.parametrize("name", BEYOND)
def test_a_pixel_of_weight_zero_has_no_say_in_the_other_losses_either(name):
    loss = loss_of(name, prior=0.1)
    logits, target, weight = maps(seed=1, valid=0.5)
    changed = torch.where(weight > 0, logits, -7 * logits + 3).requires_grad_()
    value = loss(changed, torch.where(weight > 0, target, 1 - target), weight)
    torch.testing.assert_close(value, loss(logits, target, weight))
    value.backward()
    assert torch.all(changed.grad[weight == 0] == 0)
    assert torch.all(changed.grad[weight > 0] != 0)


@pytest.mark.parametrize("name", BEYOND)
def test_the_other_losses_are_near_zero_where_the_prediction_is_right_and_large_where_it_is_wrong(
    name,
):
    loss = loss_of(name, prior=0.1)
    _, target, weight = maps(seed=2)
    right = 50 * (2 * target - 1)
    assert loss(right, target, weight).item() == pytest.approx(0, abs=1e-6)
    assert loss(-right, target, weight).item() > 0.9


@pytest.mark.parametrize("name", BEYOND)
def test_the_other_losses_of_no_valid_pixel_are_zero_without_a_gradient(name):
    logits, target, weight = maps(seed=5)
    value = loss_of(name, prior=0.1)(logits.requires_grad_(), target, 0 * weight)
    value.backward()
    assert value.item() == 0
    assert torch.all(logits.grad == 0)


@pytest.mark.parametrize("name", BEYOND)
def test_the_gradient_of_the_other_losses_is_that_of_finite_differences(name):
    logits, target, weight = (part.double() for part in maps(seed=8, valid=0.6))
    assert torch.autograd.gradcheck(
        lambda x: loss_of(name, prior=0.1)(x, target, weight), (logits.requires_grad_(),)
    )


@pytest.mark.parametrize(
    ("prior", "expected"),
    [(0.5, 1.0), (0.2, 2.0), (0.1, 3.0), (0.04, 24**0.5), (1 / 26, 5.0), (0.001, 5.0), (0.8, 0.5)],
)
def test_a_particle_pixel_counts_the_root_of_the_odds_and_at_most_five_times(prior, expected):
    assert positive_weight(prior) == pytest.approx(expected)


def test_the_weighted_loss_is_half_the_weighted_cross_entropy_and_half_dice():
    logits, target, weight = maps(seed=9, valid=0.7)
    prior = 0.1  # so a particle pixel counts three times
    log_p, log_not_p = (
        torch.nn.functional.logsigmoid(logits),
        torch.nn.functional.logsigmoid(-logits),
    )
    each = -(3 * target * log_p + (1 - target) * log_not_p)
    expected = 0.5 * each[weight > 0].mean() + 0.5 * dice(logits, target, weight)
    torch.testing.assert_close(loss_of("weighted", prior=prior)(logits, target, weight), expected)


def test_a_missed_particle_costs_more_than_a_false_one_under_tversky_in_the_proportion_of_its_constants():
    # One particle pixel hit for sure; besides it, one missed, or one false: 1 / (1 + 0.7) against 1
    # / (1 + 0.3).
    sure = torch.tensor([50.0, -50.0, 50.0, -50.0]).view(1, 1, 1, 4)
    weight = torch.ones_like(sure)
    missed, false = (
        torch.tensor(truth).view(1, 1, 1, 4)
        for truth in ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    )
    only_missed = torch.tensor([1.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 4)
    assert tversky(sure, missed, weight * only_missed).item() == pytest.approx(1 - 1 / 1.7)
    assert tversky(sure, false, weight).item() == pytest.approx(1 - 1 / 1.3)


def test_the_default_loss_takes_no_prior():
    logits, target, weight = maps(seed=10)
    expected = segmentation_loss(logits, target, weight)
    assert {
        loss_of("bce_dice", prior=prior)(logits, target, weight).item() for prior in (0.04, 0.5)
    } == {expected.item()}
