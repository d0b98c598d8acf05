"""Consistency with the student's own average: the average, its thresholds, and what is exchanged."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from small_trainings import CPU, equal, mixed, train
from torch import nn

from cryossl.data.labels import BACKGROUND, IGNORE, PARTICLE
from cryossl.network.batches import Batch
from cryossl.network.objectives.online_teacher import (
    MEMORY,
    PRIOR_WEIGHT,
    OnlineTeacher,
    moved_confidence,
)
from cryossl.pseudolabels.recipe import Consistency

SIDE = 16


def online(
    *,
    seed: int = 0,
    priors: dict[str, float] | None = None,
    prior: float = 0.1,
    loss="bce_dice",
    **changes,
) -> OnlineTeacher:
    return OnlineTeacher(
        seed=seed,
        iteration=1,
        loss=loss,
        settings=Consistency(**changes),
        priors={"a": 0.05, "b": 0.2} if priors is None else priors,
        prior=prior,
    )


def with_buffers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def averaged(
    objective: OnlineTeacher, *, steps: int
) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The network's states after each of some steps of any kind, and the average's at the end."""
    network = with_buffers()
    objective.begin(network)
    states = []
    draws = torch.Generator().manual_seed(0)
    for step in range(steps):
        network.train()(torch.randn(2, 1, 8, 8, generator=draws))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draws))
        objective.after_step(network, step)
        states.append(copy.deepcopy(network.state_dict()))
    return states, objective.model(network).state_dict()


@pytest.mark.parametrize("decay", [0.996, 0.6])
def test_the_average_is_the_closed_form_of_its_decays_buffers_included(decay):
    steps = 7
    states, found = averaged(online(decay=decay), steps=steps)
    decays = [min(1 - 1 / (step + 1), decay) for step in range(steps)]
    shares = [(1 - decays[step]) * math.prod(decays[step + 1 :]) for step in range(steps)]
    assert sum(shares) == pytest.approx(
        1
    )  # the decay of the first step is 0: the starting weights are forgotten
    for name, value in found.items():
        if name.endswith("num_batches_tracked"):
            assert value == steps
        else:
            torch.testing.assert_close(
                value, sum(share * state[name] for share, state in zip(shares, states, strict=True))
            )
    assert {"1.running_mean", "1.running_var"} <= set(found)


def test_the_average_starts_as_the_network_and_takes_no_gradient():
    network, objective = with_buffers(), online()
    objective.begin(network)
    average = objective.model(network)
    assert average is not network
    assert equal(average.state_dict(), network.state_dict())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_average_is_what_is_validated_and_kept(tmp_path):
    seen, objective = [], online()
    fitted = train(
        tmp_path,
        batches=mixed(steps=6),
        steps=6,
        objective=objective,
        validations=1,
        validate=lambda network: seen.append(copy.deepcopy(network.state_dict())),
    )
    assert equal(fitted.last, seen[-1])
    assert equal(fitted.last, objective.state_dict()["average"])
    assert not equal(fitted.last, train(tmp_path / "b", batches=mixed(steps=6), steps=6).last)


def targets_of(objective: OnlineTeacher, *values: float) -> list[tuple[float, float]]:
    """(target, weight) of pixels for which the average has these probabilities."""
    target, weight = (
        part.flatten().tolist()
        for part in objective._pseudo(torch.tensor(values).view(1, 1, 1, -1))
    )
    return list(zip(target, weight, strict=True))


def test_background_is_learned_where_it_is_sure_particle_where_the_mean_particle_is_and_nothing_between():
    found = targets_of(online(), 0.01, 0.049, 0.051, 0.3, 0.55, 0.59, 0.62, 0.99)
    # The running mean: 0.95 x 0.60 + 0.05 x 0.6875 = 0.604.
    assert found == [(0, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 1)]


def test_the_particle_threshold_follows_the_mean_particle_confidence_within_its_range():
    objective = online()
    for _ in range(10):
        targets_of(objective, 0.001, 0.7, 0.9)
    expected = 0.8 + (0.60 - 0.8) * MEMORY**10
    assert objective.state_dict()["confidence"] == pytest.approx(expected, rel=1e-5)
    assert [target for target, _ in targets_of(objective, 0.65, 0.75)] == [0, 1]
    for _ in range(300):
        targets_of(objective, 0.999)
    assert [target for target, _ in targets_of(objective, 0.945, 0.96)] == [0, 1]  # not above 0.95
    for _ in range(300):
        targets_of(objective, 0.51)
    assert [target for target, _ in targets_of(objective, 0.59, 0.61)] == [0, 1]  # not below 0.60


def test_a_batch_without_a_particle_leaves_the_threshold_where_it_was():
    objective = online()
    targets_of(objective, 0.9)
    before = objective.state_dict()["confidence"]
    targets_of(objective, 0.1, 0.49)
    assert objective.state_dict()["confidence"] == before


def test_the_mean_confidence_for_a_gpu_equals_that_of_python_to_rounding():
    objective, moved = online(), 0.60
    draws = torch.Generator().manual_seed(0)
    for scale in (1.0, 0.4, 0.9, 0.0, 1.0):  # of 0.4 and 0 no pixel is a particle
        guess = scale * torch.rand(4, 1, 32, 32, generator=draws)
        objective._pseudo(guess)
        moved = moved_confidence(moved, guess)
        assert float(moved) == pytest.approx(objective.state_dict()["confidence"], rel=1e-6)


def tagged(objective: OnlineTeacher, labels: torch.Tensor, tiles: int, *, step: int):
    """Tiles whose every pixel carries its own number, as picture, target and weight, after the exchanges."""
    tags = torch.arange(tiles * SIDE * SIDE).view(tiles, 1, SIDE, SIDE)
    parts = [tags, tags + 0, tags + 0]
    for mask, order in objective._exchanges(labels, tiles, step=step):
        parts = [torch.where(mask, each[order], each) for each in parts]
    return tags, parts


def labels_with_particles() -> torch.Tensor:
    labels = torch.full((3, 1, SIDE, SIDE), BACKGROUND, dtype=torch.uint8)
    labels[0, 0, 2, 3] = labels[2, 0, 12:14, 9:11] = PARTICLE  # none in the second
    return labels


def test_cutmix_moves_boxes_between_unlabelled_tiles_to_the_same_place_and_leaves_labelled_ones_alone():
    moved = 0
    for step in range(20):
        tags, (pictures, *others) = tagged(online(), labels_with_particles(), 7, step=step)
        assert all(torch.equal(pictures, other) for other in others)
        assert torch.equal(
            pictures % (SIDE * SIDE), tags % (SIDE * SIDE)
        )  # no pixel changes its place in the tile
        assert torch.equal(pictures[:3], tags[:3])
        givers = pictures[3:] // (SIDE * SIDE)
        assert givers.min() >= 3
        moved += int((pictures != tags).sum())
    assert moved > 0.05 * 20 * 4 * SIDE * SIDE


def test_pasting_swaps_a_box_around_a_labelled_particle_both_ways():
    pasted = 0
    for step in range(20):
        mix, paste = online(paste=True)._exchanges(labels_with_particles(), 7, step=step)
        assert not mix[0][:3].any()
        mask, order = paste
        assert order.tolist() == [3, 4, 5, 0, 1, 2, 6]
        assert torch.equal(mask[:3], mask[3:6])
        assert not mask[1].any()  # no particle, no box
        assert not mask[6].any()
        assert mask[0, 0, 2, 3]
        assert mask[2, 0, 12:14, 9:11].any()
        tags, (pictures, *_) = tagged(online(paste=True), labels_with_particles(), 7, step=step)
        assert torch.equal(pictures[3:6][mask[:3]], tags[:3][mask[:3]])
        givers = pictures[:3][mask[:3]] // (SIDE * SIDE)
        assert givers.min() >= 3
        assert torch.equal(pictures[:3][~mask[:3]], tags[:3][~mask[:3]])
        pasted += int(mask.sum())
    assert pasted > 0


def test_the_exchanges_of_a_step_are_always_the_same_and_each_step_has_its_own():
    first, again, later, other = (
        tagged(online(seed=seed, paste=True), labels_with_particles(), 7, step=step)[1][0]
        for seed, step in ((0, 4), (0, 4), (0, 5), (1, 4))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


class BySign(nn.Module):
    """Sure of a particle where the picture is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.scale * pictures.sign()


class _Constant(nn.Module):
    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 0 * pictures + self.logit


def flat_batch(*, unlabelled: int = BACKGROUND, sources: tuple[str, ...] = ("a",) * 8) -> Batch:
    """Eight tiles, each all bright or all dark; four are labelled, and rightly."""
    bright = torch.tensor([1, 0, 1, 0, 1, 1, 0, 0]).view(8, 1, 1, 1).expand(8, 1, SIDE, SIDE)
    labels = bright.to(torch.uint8).clone()
    labels[4:] = unlabelled  # nothing is known of them but where they end
    pictures = torch.where(bright == 1, 250, 5).to(torch.uint8)
    return Batch(
        pictures,
        labels,
        torch.ones(8),
        tuple(f"m{index}" for index in range(8)),
        sources,
        labelled=4,
    )


def cost(
    objective: OnlineTeacher, batch: Batch, *, step: int = 0, network: nn.Module | None = None
) -> torch.Tensor:
    network = network or BySign()
    objective.begin(network)
    return objective.loss(network, objective.inputs(batch, step=step, device=CPU))


@pytest.mark.parametrize("paste", [False, True])
def test_a_student_that_answers_as_its_average_pays_next_to_nothing_however_tiles_are_mixed(paste):
    # If pictures moved without their targets, a twentieth of the pixels or more would each cost 8.
    for step in range(12):
        assert cost(online(paste=paste), flat_batch(), step=step).item() < 0.1


class Contrary(BySign):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return -super().forward(pictures)


def test_a_student_that_contradicts_its_average_pays_for_unlabelled_tiles_by_their_weight():
    batch = flat_batch()
    costs = []
    for weight in (0.0, 0.5, 1.0):
        objective = online(weight=weight)
        objective.begin(BySign())
        inputs = objective.inputs(batch, step=0, device=CPU)
        costs.append(objective.loss(Contrary(), inputs).item())
    assert costs[1] > costs[0] + 2
    assert costs[2] - costs[0] == pytest.approx(2 * (costs[1] - costs[0]), rel=1e-5)


def test_an_unlabelled_pixel_beyond_the_edge_teaches_nothing():
    costs = {
        cost(online(weight=weight), flat_batch(unlabelled=IGNORE), network=_Constant(5.0)).item()
        for weight in (0.0, 7)
    }
    assert len(costs) == 1


def test_no_gradient_reaches_the_average():
    network, objective = BySign(), online()
    cost(objective, flat_batch(), network=network).backward()
    assert network.scale.grad is not None
    assert all(parameter.grad is None for parameter in objective.model(network).parameters())


def test_the_penalty_is_part_of_the_loss_where_it_is_set_and_of_no_other():
    everything = _Constant(4.0)
    plain, held = (
        cost(online(match_prior=match), flat_batch(), network=everything).item()
        for match in (False, True)
    )
    share = torch.sigmoid(torch.tensor(4.0)).item()
    assert held - plain == pytest.approx(
        PRIOR_WEIGHT * (math.log(share / 0.05) - math.log(1.25)), rel=1e-4
    )
