"""Steps whose losses are read late: the same training, and no update by what is not finite."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import CPU, SMALL, TILE_PX, equal, examples, interrupted_after, mixed, train

from cryossl.errors import NumericError
from cryossl.network.architecture import build
from cryossl.network.batches import Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.device import Replayed
from cryossl.network.objectives.averaged import Averaged
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.network.step import STEPS_UNREAD, Arithmetic, Stepper
from cryossl.pseudolabels.recipe import Consistency

ARITHMETIC = Arithmetic(weight_decay=1e-2, seed=0, iteration=0, precision="fp32")


def stepper(*, captured: bool) -> Stepper:
    network, objective = build(SMALL, seed=0), Supervised(seed=0, iteration=0)
    objective.begin(network)
    return Stepper(network, objective, ARITHMETIC, device=CPU, captured=captured)


def batches(*, broken: int | None = None) -> TileBatches:
    """Ten tiles; one of them may have a weight that is not finite."""
    tiles = examples(10)
    if broken is not None:
        tiles[broken] = replace(tiles[broken], weight=float("nan"))
    return TileBatches(tiles, Sampling(batch_size=4, tile_px=TILE_PX, seed=0, iteration=0))


def first_step_with(name: str) -> int:
    return next(
        step
        for step in range(9)
        if any(item.startswith(name) for item in batches().batch(step).items)
    )


@pytest.mark.parametrize("noise", [False, True])
def test_a_training_whose_losses_are_read_late_is_the_same_to_the_last_bit(tmp_path, noise):
    trained = [
        train(
            tmp_path / str(captured),
            steps=40,
            captured=captured,
            objective=Supervised(seed=0, iteration=0, noise=noise),
        )
        for captured in (False, True)
    ]
    assert equal(trained[0].last, trained[1].last)
    assert trained[0].history == trained[1].history


def teacher() -> OnlineTeacher:
    return OnlineTeacher(
        seed=0,
        iteration=1,
        loss="bce_dice",
        settings=Consistency(),
        priors={"a": 0.1, "b": 0.1},
        prior=0.1,
    )


def test_consistency_read_late_is_the_same_too(tmp_path):
    trained = [
        train(
            tmp_path / str(captured),
            batches=mixed(steps=12),
            captured=captured,
            objective=Averaged(teacher(), decay=0.9),
        )
        for captured in (False, True)
    ]
    assert equal(trained[0].last, trained[1].last)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False), (True, True)])
def test_a_training_goes_on_from_a_checkpoint_whichever_way_it_was_made(tmp_path, before, after):
    whole = train(tmp_path / "whole", steps=12)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", steps=12, captured=before, report=interrupted_after(5))
    resumed = train(tmp_path / "cut", steps=12, captured=after)
    assert equal(whole.last, resumed.last)
    assert whole.history == resumed.history


def test_a_loss_that_is_not_finite_is_found_late_and_its_update_is_left_out():
    late, broken = stepper(captured=True), batches(broken=3)
    bad = first_step_with("m3")
    for step in range(bad + 1):
        before = [each.detach().clone() for each in late._network.parameters()]
        late.make(broken.batch(step), step, learning_rate=1e-3)
    after = [each.detach().clone() for each in late._network.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(NumericError, match=rf"at step {bad + 1},.*tiles .*m3"):
        late.losses()


def test_a_later_step_changes_the_network_again_though_one_was_left_out():
    late = stepper(captured=True)
    bad = first_step_with("m3")
    late.make(batches(broken=3).batch(bad), bad, learning_rate=1e-3)
    before = next(late._network.parameters()).detach().clone()
    late.make(batches().batch(0), 1, learning_rate=1e-3)
    assert not torch.equal(before, next(late._network.parameters()))
    assert all(torch.isfinite(each).all() for each in late._network.parameters())


def test_no_network_that_saw_a_loss_that_is_not_finite_is_scored_or_saved(tmp_path):
    scored = []

    def validate(network) -> float:
        scored.append(
            all(bool(torch.isfinite(each).all()) for each in network.state_dict().values())
        )
        return 0.5

    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    with pytest.raises(NumericError):
        train(
            tmp_path,
            steps=60,
            batches=batches(broken=3),
            captured=True,
            checkpoint=checkpoint,
            validate=validate,
        )
    assert all(scored)
    saved = checkpoint.load()
    assert saved is None or all(
        np.isfinite(each.numpy()).all() for each in saved["network"].values()
    )


def test_losses_are_read_after_a_number_of_steps_at_most():
    late = stepper(captured=True)
    for step in range(STEPS_UNREAD):
        assert not late.must_read
        late.make(batches().batch(step), step, learning_rate=1e-3)
    assert late.must_read
    assert len(late.losses()) == STEPS_UNREAD
    assert late.losses() == []
    assert not late.must_read


def test_on_a_cpu_nothing_is_captured():
    calls = []

    def doubled(number: torch.Tensor) -> torch.Tensor:
        calls.append(number)
        return 2 * number

    replayed = Replayed(wanted=True)
    found = [replayed(doubled, torch.tensor(float(n))).item() for n in range(6)]
    assert found == [0, 2, 4, 6, 8, 10]
    assert len(calls) == 6


@pytest.mark.parametrize("captured", [False, True])
def test_a_training_frees_its_tensors_without_the_collector_of_cycles(captured):
    """On a GPU the next training needs their memory, and that of a graph, at once."""
    gc.collect()
    gc.disable()
    try:
        made, objective = stepper(captured=captured), teacher()
        made.make(batches().batch(0), 0, learning_rate=1e-3)
        objective.begin(build(SMALL, seed=0), captured=captured)
        kept = [weakref.ref(made.optimiser), weakref.ref(objective.model(made._network))]
        del made, objective
        assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "mobilenet_v2"])
def test_weights_stay_where_they_are_when_the_network_is_scored(encoder):
    """A CUDA graph changes the weights at the addresses that they had when it was captured."""
    network = build(SMALL.model_copy(update={"encoder": encoder}), seed=0)

    def places() -> list[int]:
        network.to(device=CPU, memory_format=torch.channels_last)  # as `fit` and `predict` do
        return [each.data_ptr() for each in network.state_dict().values()]

    assert places() == places()
