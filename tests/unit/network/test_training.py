from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_trainings import (
    SMALL,
    TILE_PX,
    WITH_DROPOUT,
    equal,
    examples,
    interrupted_after,
    train,
    weight_score,
)
from watched_calls import watched_calls

from cryossl.config import NetworkSettings
from cryossl.data.labels import IGNORE
from cryossl.errors import NumericError, StorageError
from cryossl.network.architecture import build
from cryossl.network.batches import Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.training import Hyperparameters


def test_training_learns_bright_squares(tmp_path):
    history = train(tmp_path, steps=45, learning_rate=1e-2).history
    assert history[-1].loss < 0.5 * history[0].loss


def test_the_same_seed_gives_the_same_weights_and_another_seed_or_iteration_does_not(tmp_path):
    first, again, other, later = (
        train(tmp_path / str(index), steps=4, **change)
        for index, change in enumerate([{}, {}, {"seed": 1}, {"iteration": 1}])
    )
    assert equal(first.last, again.last)
    assert first.history == again.history
    assert not equal(first.last, other.last)
    assert not equal(first.last, later.last)


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-3}, {"weight_decay": 0.5}, {"precision": "bf16"}]
)
def test_every_setting_of_the_optimiser_changes_the_weights(tmp_path, change):
    assert not equal(
        train(tmp_path / "a", steps=4).last, train(tmp_path / "b", steps=4, **change).last
    )


def test_training_leaves_the_generator_of_torch_as_it_was(tmp_path):
    before = torch.random.get_rng_state()
    train(tmp_path, steps=2, settings=WITH_DROPOUT)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_is_reported_when_it_ends_and_the_last_one_may_be_short(tmp_path):
    records = []
    fitted = train(tmp_path, steps=8, on_epoch=records.append)  # 3 steps an epoch
    assert [(record.epoch, record.step) for record in records] == [(1, 3), (2, 6), (3, 8)]
    assert tuple(records) == fitted.history
    assert all(record.loss > 0 and record.seconds > 0 for record in records)


@pytest.mark.parametrize(
    ("steps", "validations"), [(12, 3), (12, 5), (7, 7), (3, 10), (1, 1), (100, 10)]
)
def test_validation_comes_evenly_as_often_as_set_and_after_the_last_step(steps, validations):
    settings = Hyperparameters(steps, 1e-3, 0, 0, 0, "fp32", validations)
    after = [done for done in range(1, steps + 1) if settings.validates_after(done)]
    assert len(after) == min(steps, validations)
    assert after[-1] == steps
    gaps = np.diff([0, *after])
    assert gaps.max() - gaps.min() <= 1


def test_validation_sees_the_network_in_evaluation_mode_and_its_score_is_recorded(tmp_path):
    modes, scores = [], iter([0.2, 0.6, 0.4])

    def validate(network):
        modes.append(network.training)
        return next(scores)

    fitted = train(tmp_path, steps=9, validate=validate)
    assert modes == [False] * 3
    assert [record.validation_f1 for record in fitted.history] == [0.2, 0.6, 0.4]
    assert (fitted.best_step, fitted.best_f1) == (6, 0.6)
    assert not equal(fitted.best, fitted.last)


def test_the_best_weights_are_those_that_were_validated(tmp_path):
    seen, scores = [], iter([0.2, 0.6, 0.6])

    def validate(network):
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return next(scores)

    assert equal(train(tmp_path, steps=9, validate=validate).best, seen[1])


def test_weights_are_copied_when_they_are_kept_and_not_at_each_step(tmp_path):
    with watched_calls("cryossl/network/training.py", "_snapshot", lambda: None) as copies:
        train(tmp_path, steps=12, validations=1)
    assert len(copies) == 4  # after both thirds, with the best score, at the end


@pytest.mark.parametrize("undefined", [None, math.nan])
def test_an_undefined_score_is_never_the_best(tmp_path, undefined):
    scores = iter([0.1, undefined, undefined])
    fitted = train(tmp_path / "a", steps=9, validate=lambda _: next(scores))
    assert (fitted.best_step, fitted.best_f1) == (3, 0.1)
    assert fitted.history[-1].validation_f1 is None
    never = train(tmp_path / "b", steps=3, validate=lambda _: undefined)
    assert (never.best_step, never.best_f1) == (3, None)
    assert equal(never.best, never.last)


@pytest.mark.parametrize("settings", [SMALL, WITH_DROPOUT], ids=["batchnorm", "dropout"])
@pytest.mark.parametrize("stop_at", [1, 4, 6, 11])
def test_interrupted_and_resumed_is_undisturbed_bit_for_bit(tmp_path, settings, stop_at):
    checkpoint = Checkpoint(tmp_path / "disturbed", every_seconds=3600)
    undisturbed = train(tmp_path / "undisturbed", settings=settings, validate=weight_score)
    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path,
            settings=settings,
            checkpoint=checkpoint,
            report=interrupted_after(stop_at),
            validate=weight_score,
        )
    assert checkpoint.load()["state"]["step"] == stop_at
    events = []
    resumed = train(
        tmp_path,
        settings=settings,
        checkpoint=Checkpoint(tmp_path / "disturbed"),
        validate=weight_score,
        report=events.append,
    )
    assert [event.done for event in events if event.resumed] == [stop_at]
    assert next(event.done for event in events if not event.resumed) == stop_at + 1
    assert equal(resumed.last, undisturbed.last)
    assert equal(resumed.best, undisturbed.best)
    assert (resumed.history, resumed.best_step) == (undisturbed.history, undisturbed.best_step)


def test_a_finished_training_is_not_done_again(tmp_path):
    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    fitted = train(tmp_path, checkpoint=checkpoint)
    steps = []
    again = train(tmp_path, checkpoint=checkpoint, report=steps.append)
    assert steps == []
    assert equal(again.last, fitted.last)
    assert again.history == fitted.history


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-4},
        {"steps": 13},
        {"tiles": examples(9)},
        {"settings": NetworkSettings(decoder_width=8)},
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change):
    train(tmp_path, checkpoint=Checkpoint(tmp_path, every_seconds=0))
    with pytest.raises(StorageError, match="belongs to another training"):
        train(tmp_path, **change)


def test_a_loss_that_is_not_finite_stops_at_that_step_and_leaves_the_last_good_checkpoint(tmp_path):
    tiles = examples(10)
    poisoned = tiles[7].tile.id
    order = TileBatches(
        tiles, Sampling(batch_size=4, tile_px=TILE_PX, seed=0, purpose="train", iteration=0)
    )
    bad_step = next(step for step in range(3) if poisoned in order.batch(step).items)
    tiles[7] = replace(tiles[7], weight=math.inf)
    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    with pytest.raises(
        NumericError, match=f"at step {bad_step + 1}, learning .*{poisoned}.*lower --learning-rate"
    ):
        train(tmp_path, checkpoint=checkpoint, tiles=tiles)
    saved = checkpoint.load()
    assert (saved["state"]["step"] if saved else 0) == bad_step
    assert saved is None or all(
        torch.isfinite(tensor).all() for tensor in saved["network"].values()
    )


def test_pixels_to_ignore_teach_nothing(tmp_path):
    plain, masked = examples(10), []
    for example in plain:
        labels = example.labels.copy()
        labels[:] = IGNORE
        masked.append(replace(example, labels=labels))
    fitted = train(tmp_path, steps=3, tiles=masked, weight_decay=0.0)
    initial = build(SMALL, seed=0)
    assert all(
        torch.equal(fitted.last[name], parameter) for name, parameter in initial.named_parameters()
    )
    assert all(record.loss == 0 for record in fitted.history)


def test_the_learning_rate_warms_up_and_falls_towards_zero():
    settings = Hyperparameters(200, 2e-3, 0, 0, 0, "fp32", 1)
    rates = [settings.learning_rate_at(step) for step in range(200)]
    assert rates[0] == pytest.approx(2e-4)
    assert max(rates) == rates[9] == 2e-3
    assert all(later <= earlier for earlier, later in pairwise(rates[9:]))
    assert 0 < rates[-1] < 1e-5
    assert Hyperparameters(1, 2e-3, 0, 0, 0, "fp32", 1).learning_rate_at(0) == 2e-3
