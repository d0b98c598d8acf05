"""The moving average as the model: what is saved and validated, and that it changes no step."""

from __future__ import annotations

import pytest
import torch
from small_trainings import equal, interrupted_after, mixed, train, weight_score

from cryossl.errors import StorageError
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.objectives.averaged import Averaged
from cryossl.network.objectives.objective import Objective
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.pseudolabels.recipe import Consistency

STEPS = 12


def supervised(**changes: bool) -> Objective:
    return Supervised(seed=0, iteration=0, **changes)


def online(**changes: bool) -> Objective:
    return OnlineTeacher(
        seed=0,
        iteration=0,
        loss="weighted",
        settings=Consistency(),
        priors={"a": 0.05, "b": 0.2},
        prior=0.1,
        **changes,
    )


def trained(folder, objective: Objective, **changes):
    return train(folder, batches=mixed(steps=STEPS), steps=STEPS, objective=objective, **changes)


@pytest.mark.parametrize("kind", [supervised, online])
def test_the_average_changes_no_step_of_the_training(tmp_path, kind):
    plain = trained(tmp_path / "a", kind())
    averaged = trained(tmp_path / "b", Averaged(kind(), decay=0.5))
    assert averaged.history == plain.history
    for name in ("last", "best"):
        assert not equal(getattr(averaged, name), getattr(plain, name))
    assert not equal(averaged.snapshots[0], plain.snapshots[0])


def test_an_average_without_memory_is_the_network_itself(tmp_path):
    plain = trained(tmp_path / "a", supervised(), validate=weight_score)
    averaged = trained(tmp_path / "b", Averaged(supervised(), decay=1e-12), validate=weight_score)
    assert equal(averaged.last, plain.last)
    assert equal(averaged.best, plain.best)
    assert averaged.history == plain.history


def test_a_long_average_is_the_plain_mean_of_all_steps(tmp_path):
    states = []

    def note(network) -> float:
        states.append({name: one.clone() for name, one in network.state_dict().items()})
        return 0.5

    trained(tmp_path / "a", supervised(), validations=STEPS, validate=note)
    plain, states[:] = list(states), []
    averaged = trained(tmp_path / "b", Averaged(supervised(), decay=0.999999), validate=note)
    for name, found in averaged.last.items():
        if found.is_floating_point():
            expected = torch.stack([state[name] for state in plain]).mean(dim=0)
            torch.testing.assert_close(found, expected)
        else:
            assert torch.equal(found, plain[-1][name])


def test_the_average_is_what_is_validated_and_what_is_best(tmp_path):
    seen = []

    def score(network) -> float:
        assert not network.training
        seen.append({name: one.clone() for name, one in network.state_dict().items()})
        return {1: 0.1, 2: 0.3}.get(len(seen), 0.2)

    fitted = trained(tmp_path, Averaged(supervised(), decay=0.5), validate=score)
    assert equal(fitted.best, seen[1])
    assert equal(fitted.last, seen[-1])


@pytest.mark.parametrize("kind", [supervised, online])
@pytest.mark.parametrize("stop_at", [1, 5, 8])
def test_interrupted_and_resumed_is_undisturbed_bit_for_bit(tmp_path, kind, stop_at):
    undisturbed = trained(tmp_path / "calm", Averaged(kind(), decay=0.8), validate=weight_score)
    with pytest.raises(KeyboardInterrupt):
        trained(
            tmp_path,
            Averaged(kind(), decay=0.8),
            checkpoint=Checkpoint(tmp_path / "disturbed", every_seconds=3600),
            report=interrupted_after(stop_at),
            validate=weight_score,
        )
    again = trained(
        tmp_path,
        Averaged(kind(), decay=0.8),
        checkpoint=Checkpoint(tmp_path / "disturbed"),
        validate=weight_score,
    )
    assert equal(again.last, undisturbed.last)
    assert equal(again.best, undisturbed.best)
    assert all(map(equal, again.snapshots, undisturbed.snapshots))
    assert again.history == undisturbed.history


@pytest.mark.parametrize(
    "other",
    [supervised(), Averaged(supervised(), decay=0.7), Averaged(online(), decay=0.8)],
    ids=["none", "decay", "kind"],
)
def test_a_checkpoint_of_another_average_is_refused(tmp_path, other):
    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    trained(tmp_path, Averaged(supervised(), decay=0.8), checkpoint=checkpoint)
    with pytest.raises(StorageError, match="belongs to another training"):
        trained(tmp_path, other)


@pytest.mark.parametrize("kind", [supervised, online])
def test_any_angle_is_another_training(tmp_path, kind):
    turned = trained(
        tmp_path, kind(any_angle=True), checkpoint=Checkpoint(tmp_path, every_seconds=0)
    )
    assert not equal(turned.last, trained(tmp_path / "plain", kind()).last)
    with pytest.raises(StorageError, match="belongs to another training"):
        trained(tmp_path, kind())


def test_in_bf16_the_average_is_kept_in_fp32(tmp_path):
    fitted = trained(tmp_path, Averaged(supervised(), decay=0.5), precision="bf16")
    kinds = {one.dtype for one in fitted.last.values() if one.is_floating_point()}
    assert kinds == {torch.float32}
