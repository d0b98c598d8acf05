"""A training with an average of its own: what decides it, and that an interruption leaves no trace."""

from __future__ import annotations

import pytest
from small_trainings import equal, interrupted_after, mixed, train, weight_score

from cryossl.errors import StorageError
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.objectives.objective import Objective
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.pseudolabels.recipe import Consistency

STEPS = 12


def online(**changes) -> OnlineTeacher:
    settings = {
        "seed": 0,
        "iteration": 0,
        "loss": "weighted",
        "prior": 0.1,
        "priors": {"a": 0.05, "b": 0.2},
    } | {name: changes.pop(name) for name in ("loss", "prior", "priors") if name in changes}
    return OnlineTeacher(**settings, settings=Consistency(**changes))


def trained(folder, objective: Objective, **changes):
    return train(folder, batches=mixed(steps=STEPS), steps=STEPS, objective=objective, **changes)


@pytest.mark.parametrize(
    "plug_ins", [{}, {"paste": True, "match_prior": True}], ids=["plain", "plug-ins"]
)
@pytest.mark.parametrize("stop_at", [1, 5, 8])
def test_interrupted_and_resumed_is_undisturbed_bit_for_bit(tmp_path, plug_ins, stop_at):
    checkpoint = Checkpoint(tmp_path / "disturbed", every_seconds=3600)
    calm = online(**plug_ins)
    undisturbed = trained(tmp_path / "calm", calm, validate=weight_score)
    with pytest.raises(KeyboardInterrupt):
        trained(
            tmp_path,
            online(**plug_ins),
            checkpoint=checkpoint,
            report=interrupted_after(stop_at),
            validate=weight_score,
        )
    resumed = online(**plug_ins)
    again = trained(
        tmp_path, resumed, checkpoint=Checkpoint(tmp_path / "disturbed"), validate=weight_score
    )
    assert equal(again.last, undisturbed.last)
    assert equal(again.best, undisturbed.best)
    assert [equal(*pair) for pair in zip(again.snapshots, undisturbed.snapshots, strict=True)] == [
        True,
        True,
    ]
    assert again.history == undisturbed.history
    assert {name: value for name, value in resumed.state_dict().items() if name != "average"} == {
        name: value for name, value in calm.state_dict().items() if name != "average"
    }
    assert bool(calm.state_dict()["means"]) == bool(plug_ins)


@pytest.mark.parametrize(
    "change",
    [
        {"background_threshold": 0.6},
        {"particle_range": (0.9, 0.95)},
        {"weight": 2.0},
        {"decay": 0.2},
        {"paste": True},
        {"match_prior": True, "priors": {"a": 0.9, "b": 0.9}},
        {"loss": "tversky"},
        {"prior": 0.4},
    ],
    ids=lambda change: ",".join(change),
)
def test_every_setting_changes_the_weights_and_the_identity(tmp_path, change):
    # A fresh network is near 1/2 everywhere: thresholds that some of its pixels reach.
    usual = {"background_threshold": 0.5, "particle_range": (0.5, 0.95)}
    one, other = online(**usual), online(**{**usual, **change})
    assert one.identity() != other.identity()
    assert not equal(trained(tmp_path / "a", one).last, trained(tmp_path / "b", other).last)


@pytest.mark.parametrize(
    "other", [online(weight=0.4), Supervised(seed=0, iteration=0)], ids=["settings", "kind"]
)
def test_a_checkpoint_of_another_objective_is_refused(tmp_path, other):
    trained(tmp_path, online(), checkpoint=Checkpoint(tmp_path, every_seconds=0))
    with pytest.raises(StorageError, match="belongs to another training"):
        trained(tmp_path, other)


def test_losses_by_name_train_to_different_weights(tmp_path):
    found = [
        trained(tmp_path / loss, Supervised(seed=0, iteration=0, loss=loss, prior=0.1)).last
        for loss in ("bce_dice", "weighted", "focal", "tversky")
    ]
    assert not any(equal(one, other) for place, one in enumerate(found) for other in found[:place])


def test_the_default_objective_is_supervised_with_cross_entropy_and_dice(tmp_path):
    assert equal(
        train(tmp_path / "a", steps=3).last,
        train(
            tmp_path / "b", steps=3, objective=Supervised(seed=0, iteration=0, loss="bce_dice")
        ).last,
    )
