"""The pull to the prior of each source: its size, its slope, and the multiplier that grows while a source is outside."""

from __future__ import annotations

import math

import pytest
import torch

from cryossl.network.objectives.online_teacher import (
    MEMORY,
    PRIOR_MOST,
    PRIOR_RATE,
    PRIOR_WEIGHT,
    OnlineTeacher,
)
from cryossl.pseudolabels.recipe import Consistency


def matching(priors: dict[str, float] | None = None) -> OnlineTeacher:
    return OnlineTeacher(
        seed=0,
        iteration=1,
        loss="bce_dice",
        settings=Consistency(match_prior=True),
        priors=priors or {"a": 0.05, "b": 0.2},
        prior=0.1,
    )


def penalty(objective: OnlineTeacher, ratios: dict[str, float]) -> tuple[float, torch.Tensor]:
    """The penalty of one tile a source, each with this mean prediction, and its gradient by logit."""
    values = torch.tensor(list(ratios.values()), dtype=torch.float32)
    logits = torch.logit(values).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone().requires_grad_()
    found = objective._prior_penalty(logits, tuple(ratios))
    if found.requires_grad:
        found.backward()
    return found.item(), logits.grad


@pytest.mark.parametrize("factor", [1 / 1.24, 0.9, 1.0, 1.1, 1.24])
def test_a_mean_prediction_within_a_quarter_of_the_prior_costs_nothing(factor):
    value, gradient = penalty(matching(), {"a": 0.05 * factor})
    assert value == 0
    assert torch.all(gradient == 0)


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.3, 2.0, 5.0])
def test_beyond_that_it_costs_the_excess_of_the_logarithm_and_is_pulled_back(factor):
    value, gradient = penalty(matching(), {"a": 0.05 * factor})
    assert value == pytest.approx(PRIOR_WEIGHT * (abs(math.log(factor)) - math.log(1.25)), rel=1e-4)
    assert (
        torch.all(gradient > 0) if factor > 1 else torch.all(gradient < 0)
    )  # descent moves the mean to the prior
    # As steep as the penalty of this batch alone: d log(mean) / d logit = 1 - p, shared by 16
    # pixels.
    expected = math.copysign(PRIOR_WEIGHT * (1 - 0.05 * factor) / 16, math.log(factor))
    torch.testing.assert_close(gradient, torch.full_like(gradient, expected), rtol=1e-3, atol=0)


def test_each_source_has_its_own_prior_and_one_without_labels_the_overall_one():
    alone = [
        penalty(matching(), {source: ratio})[0]
        for source, ratio in (("a", 0.3), ("b", 0.9), ("new", 0.4))
    ]
    assert penalty(matching(), {"a": 0.3, "b": 0.9, "new": 0.4})[0] == pytest.approx(
        sum(alone), rel=1e-5
    )
    assert penalty(matching(), {"b": 0.2})[0] == 0 < penalty(matching(), {"a": 0.2})[0]
    assert alone[2] == pytest.approx(PRIOR_WEIGHT * (math.log(4) - math.log(1.25)), rel=1e-4)


def test_the_mean_that_is_held_to_the_prior_runs_over_batches():
    objective = matching()
    penalty(objective, {"a": 0.05})
    for _ in range(3):
        penalty(objective, {"a": 0.5})
    expected = 0.5 + (0.05 - 0.5) * MEMORY**3
    assert objective.state_dict()["means"]["a"] == pytest.approx(expected, rel=1e-5)
    assert penalty(objective, {"a": 0.05})[0] > 0  # this batch is right, the last ones were not


@pytest.mark.parametrize("factor", [0.3, 2.0])
def test_the_longer_a_source_is_outside_the_steeper_it_is_pulled_back_and_inside_that_is_forgotten(
    factor,
):
    objective = matching()
    excess = abs(math.log(factor)) - math.log(1.25)
    for step in range(12):
        value, _ = penalty(objective, {"a": 0.05 * factor, "b": 0.2})
        assert value == pytest.approx(
            (PRIOR_WEIGHT + step * PRIOR_RATE * excess) * excess, rel=1e-3
        )
    grown = objective.state_dict()["multipliers"]
    assert grown == {"a": pytest.approx(12 * PRIOR_RATE * excess, rel=1e-3), "b": 0}
    for _ in range(200):
        penalty(objective, {"a": 0.05})
    assert objective.state_dict()["multipliers"]["a"] == 0


def test_a_checkpoint_made_without_a_penalty_goes_on_with_no_multiplier():
    state = matching().state_dict()
    del state["multipliers"]
    objective = matching()
    penalty(objective, {"a": 0.9})
    assert objective.state_dict()["multipliers"]["a"] > 0
    objective.load_state_dict(state)
    assert objective.state_dict()["multipliers"] == {}


def test_the_pull_has_a_limit():
    objective = matching({"a": 1e-5})
    for _ in range(100):
        penalty(objective, {"a": 0.9})
    assert objective.state_dict()["multipliers"]["a"] == PRIOR_MOST
