"""The watch for collapse: when it is called, when it ends a training, and what is kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_stores import dataset, make_store  # noqa: F401 (a fixture)
from small_trainings import CPU, Stopped, equal, train
from torch import nn

from cryossl.config import Config
from cryossl.network.checkpoints import Checkpoint
from cryossl.pseudolabels.keep_rules import AllAbove
from cryossl.pseudolabels.pool import Pool, Selected
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.selection import Quality, Selection
from cryossl.pseudolabels.summary import summarise
from cryossl.selftraining.models import HEALTHY, WATCHED_MICROGRAPHS, Inference
from cryossl.system.stages import Stage, Stages


def watching(answers: Iterator[bool], called_after: list[int], done: list[int]):
    """A watch with these answers, which notes after how many steps it was called."""

    def watch(network) -> bool:
        assert not network.training
        called_after.append(len(done) + 1)
        return next(answers)

    return watch


@pytest.mark.parametrize(
    ("answers", "collapsed", "steps", "called_after"),
    [
        ([True] * 4, True, 8, [6, 8]),
        ([True, False, True, True], True, 12, [6, 8, 10, 12]),
        ([True, False, True, False], False, 12, [6, 8, 10, 12]),
        ([False, False, False, True], False, 12, [6, 8, 10, 12]),
    ],
)
def test_two_alarms_in_a_row_in_the_second_half_end_a_training(
    tmp_path, answers, collapsed, steps, called_after
):
    found, done, records = [], [], []
    fitted = train(
        tmp_path,
        validations=6,
        watch=watching(iter(answers), found, done),
        report=done.append,
        on_epoch=records.append,
    )
    assert found == called_after
    assert len(done) == steps
    assert fitted.collapsed == collapsed
    assert fitted.history[-1].step == records[-1].step == steps


def test_a_training_without_a_watch_or_with_a_quiet_one_is_the_same(tmp_path):
    plain, watched = train(tmp_path / "a"), train(tmp_path / "b", watch=lambda _: False)
    assert equal(plain.last, watched.last)
    assert not plain.collapsed
    assert not watched.collapsed


def test_an_alarm_before_an_interruption_counts_after_it(tmp_path):
    checkpoint = Checkpoint(tmp_path, every_seconds=0)

    def stop(progress):
        if progress.done == 7:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path, validations=6, watch=lambda _: True, checkpoint=checkpoint, report=stop)
    fitted = train(tmp_path, validations=6, watch=lambda _: True, checkpoint=checkpoint)
    assert (fitted.collapsed, fitted.history[-1].step) == (True, 8)
    again = train(tmp_path, validations=6, watch=lambda _: False, checkpoint=checkpoint)
    assert again.collapsed  # a collapsed training is a finished one
    assert equal(again.last, fitted.last)


@pytest.mark.parametrize(
    ("steps", "thirds"), [(12, [4, 8]), (10, [4, 7]), (3, [1, 2]), (2, [1, 2])]
)
def test_the_weights_after_one_and_two_thirds_are_kept(tmp_path, steps, thirds):
    seen = []
    fitted = train(
        tmp_path,
        steps=steps,
        validations=steps,
        validate=lambda net: seen.append(copy.deepcopy(net.state_dict())),
    )
    assert [
        [place for place, weights in enumerate(seen, start=1) if equal(weights, snapshot)]
        for snapshot in fitted.snapshots
    ] == [[third] for third in thirds]


# --- the question itself


class Brighter(nn.Module):
    """Finds a particle wherever the picture is brighter than a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 20 * (pictures - self.level)


@pytest.fixture
def store(dataset, tmp_path):  # noqa: F811
    return make_store(dataset, tmp_path / "stores")


@pytest.mark.parametrize("cutoff", [77, 178])
@pytest.mark.parametrize("level", [-9.0, -1.0, 0.0, 1.0, 1.5, 2.0, 9.0])
def test_a_network_seems_collapsed_if_it_finds_four_times_too_much_or_too_little_in_the_probe(
    store, tmp_path, cutoff, level
):
    names = [name for name, one in store.micrographs.items() if one.part == "train"]
    assert len(names) <= WATCHED_MICROGRAPHS  # so that the probe is the pool
    pool = Pool(store, names)
    inference = Inference(
        Config(), store, Stages(tmp_path / "stages"), device=CPU, precision="fp32"
    )
    priors = Priors(0.15, {"a": 0.1, "b": 0.3}, {"a": 1, "b": 1})
    found = sum(
        int(np.count_nonzero(p8 >= cutoff)) for _, p8 in inference.predict(Brighter(level), names)
    )
    expected = sum(priors.of(pool.source(name)) * store.picture(name).size for name in names)
    watch = inference.watch(_selected(tmp_path, {"a": cutoff, "b": cutoff}), pool, priors)
    assert watch(Brighter(level)) == (not HEALTHY[0] <= found / expected <= HEALTHY[1])
    assert watch(Brighter(9.0))
    assert watch(Brighter(-9.0))
    assert not watch(Brighter(0.9))


def _selected(folder, prior_cutoffs: dict[str, int]) -> Selected:
    rules = Selection(
        particle_threshold=0.5,
        background_threshold=0.5,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.0),
    )
    nothing = summarise({}, (), rules, labelled_count=1, target_ratio=0.1, sources={})
    return Selected(
        Stage("select", "key", folder, reused=True), (), {}, nothing, {}, {}, prior_cutoffs
    )
