"""Early stop: when a training ends, what it leaves, and that an interruption changes nothing."""

from __future__ import annotations

import pytest
from small_trainings import Stopped, equal, train

from cryossl.network.checkpoints import Checkpoint


def scoring(scores):
    """A validation that gives these scores in turn."""
    left = iter(scores)
    return lambda _: next(left)


@pytest.mark.parametrize(
    ("scores", "patience", "steps", "best_step"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 12, 12),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 1, 4, 2),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 2, 6, 2),
        ([0.1, 0.1, 0.2, 0.2, 0.2, 0.9], 2, 10, 6),
        ([None, None, None, 0.2, 0.3, 0.4], 2, 4, 4),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 0, 12, 2),
    ],
)
def test_so_many_scores_in_a_row_that_are_not_higher_end_a_training(
    tmp_path, scores, patience, steps, best_step
):
    fitted = train(tmp_path, validations=6, patience=patience, validate=scoring(scores))
    assert fitted.history[-1].step == steps
    assert fitted.best_step == best_step
    assert not fitted.collapsed


def test_a_training_that_ended_early_went_as_the_first_steps_of_a_whole_one(tmp_path):
    falling = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    whole = train(tmp_path / "a", validations=6, validate=scoring(falling))
    short = train(tmp_path / "b", validations=6, patience=2, validate=scoring(falling))
    assert equal(whole.best, short.best)
    assert short.history[0] == whole.history[0]


def test_the_last_weights_stand_for_a_third_that_was_not_reached(tmp_path):
    fitted = train(
        tmp_path, validations=12, patience=1, validate=scoring([0.5, 0.6, 0.7, 0.8, 0.1])
    )
    first, second = fitted.snapshots
    assert fitted.history[-1].step == 5
    assert not equal(first, fitted.last)
    assert equal(second, fitted.last)


@pytest.mark.parametrize("stop_at", [3, 5, 6])
def test_scores_before_an_interruption_count_after_it(tmp_path, stop_at):
    falling = {2: 0.5, 4: 0.4, 6: 0.3, 8: 0.2}
    done = []

    def report(progress):
        done.append(progress.done)
        if progress.done == stop_at and not stopped:
            stopped.append(True)
            raise Stopped

    def validate(_):
        return falling[(done[-1] if done else 0) + 1]

    stopped: list[bool] = []
    arguments = {"validations": 6, "patience": 2, "validate": validate, "report": report}
    checkpoint = Checkpoint(tmp_path / "a", every_seconds=0)
    with pytest.raises(Stopped):
        train(tmp_path / "a", checkpoint=checkpoint, **arguments)
    again = train(tmp_path / "a", checkpoint=checkpoint, **arguments)
    whole = train(tmp_path / "b", validations=6, patience=2, validate=scoring(falling.values()))
    assert again.history[-1].step == whole.history[-1].step == 6
    assert equal(again.last, whole.last)
