"""What a trial is worth, when it is given up, and which trial comes next."""

from __future__ import annotations

import random

import pytest

from cryossl.tuning.rules import LEAST_COMPLETE, POINTS, bars, best_at, next_number, point_value


def test_a_point_has_the_best_f1_until_its_share_of_the_training_is_done():
    records = [(1, 0.25, 0.4), (2, 0.5, 0.3), (3, 0.75, 0.6), (4, 1.0, 0.5)]
    assert best_at(records[:1], 0.5) == (False, None)
    assert best_at(records[:2], 0.5) == (True, 0.4)
    assert best_at(records, 0.5) == (True, 0.4)
    assert best_at(list(reversed(records)), 0.75) == (True, 0.6)
    assert best_at([], 0.5) == (False, None)


def test_epochs_without_a_score_give_no_value():
    assert best_at([(1, 0.3, None), (2, 0.6, None)], 0.5) == (True, None)
    assert best_at([(1, 0.3, 0.2), (2, 0.6, None)], 0.5) == (True, 0.2)


def test_with_a_gap_in_the_epochs_no_point_is_known():
    assert best_at([(2, 0.5, 0.3), (3, 0.75, 0.6)], 0.5) == (False, None)
    assert best_at([(1, 0.2, 0.1), (3, 0.75, 0.6)], 0.5) == (False, None)


def test_a_point_is_the_mean_of_the_seeds_before_and_this_one():
    assert point_value([], 0.4) == 0.4
    assert point_value([0.2, 0.6], 0.7) == pytest.approx(0.5)


def test_the_bar_is_the_median_of_complete_trials_and_the_last_point_has_none():
    complete = [dict.fromkeys(range(2 * POINTS), value / 10) for value in (1, 2, 4, 8, 9)]
    assert bars(complete, seeds=2) == dict.fromkeys(range(2 * POINTS - 1), 0.4)
    assert bars(complete[: LEAST_COMPLETE - 1], seeds=2) == {}


def test_a_point_that_few_trials_have_has_no_bar():
    complete = [{2: 0.5}] * LEAST_COMPLETE + [{0: 0.1}]
    assert bars(complete, seeds=2) == {2: 0.5}


@pytest.mark.parametrize(
    ("done", "begun", "window", "expected"),
    [
        ([], 0, 1, 0),
        ([], 1, 1, None),
        ([0], 1, 1, 1),
        ([], 1, 3, 1),
        ([], 3, 3, None),
        ([1, 2], 3, 3, None),  # trial 3 knows the end of trial 0, which has not ended
        ([0], 3, 3, 3),
        ([0, 1, 2, 3], 4, 1, None),  # four trials are all
    ],
)
def test_a_trial_waits_for_those_whose_ends_it_knows(done, begun, window, expected):
    assert next_number(done=done, begun=begun, trials=4, window=window) == expected


@pytest.mark.parametrize("window", [1, 2, 5])
def test_whatever_the_order_of_ends_every_trial_begins_once_and_knows_the_same(window):
    for order in range(20):
        rng = random.Random(order)
        going, done, known = [], [], {}
        while len(done) < 12:
            number = next_number(done=done, begun=len(known), trials=12, window=window)
            if number is not None:
                known[number] = [one for one in range(number - window + 1) if one in done]
                going.append(number)
                continue
            done.append(going.pop(rng.randrange(len(going))))
        assert known == {number: list(range(number - window + 1)) for number in range(12)}
