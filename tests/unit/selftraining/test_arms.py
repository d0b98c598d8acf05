"""The plan of an invocation: the baseline first, every strategy in its order, the control last."""

from __future__ import annotations

from cryossl.selftraining.arms import left_out, plan


def titles(*strategies: str, iterations: int) -> list[str]:
    return [phase.title for phase in plan(strategies, iterations=iterations)]


def test_the_plan_is_the_baseline_and_then_each_strategy_by_iterations():
    assert titles("naive", "class_balanced", iterations=2) == [
        "Load the data",
        "supervised",
        "naive: iteration 1",
        "naive: iteration 2",
        "naive: test part",
        "class_balanced: iteration 1",
        "class_balanced: iteration 2",
        "class_balanced: test part",
    ]


def test_the_control_comes_last_and_once_for_it_takes_as_long_as_the_longest_student():
    assert titles("supervised_long", "naive", iterations=3)[2:] == [
        "naive: iteration 1",
        "naive: iteration 2",
        "naive: iteration 3",
        "naive: test part",
        "supervised_long",
    ]


def test_an_ensemble_has_a_phase_for_each_network_but_the_baseline():
    named = plan(("ensemble", "naive"), iterations=1, ensemble_networks=4)
    assert [phase.title for phase in named][-3:] == [
        "ensemble: network 2",
        "ensemble: network 3",
        "ensemble: network 4",
    ]


def test_zero_iterations_are_the_baseline_alone():
    assert titles("naive", "supervised_long", iterations=0) == [
        "Load the data",
        "supervised",
    ]


def test_both_controls_come_last_in_their_own_order_and_online_learning_takes_one_round():
    assert titles("full", "ema_consistency", "supervised_long", "soft", iterations=2)[2:] == [
        "ema_consistency: iteration 1",
        "ema_consistency: test part",
        "soft: iteration 1",
        "soft: iteration 2",
        "soft: test part",
        "full",
        "supervised_long",
    ]


def test_strategies_that_zero_iterations_leave_out_are_named():
    said = left_out(("naive", "full"), iterations=0)
    assert "naive" in said
    assert "full" in said
    assert left_out(("naive", "full"), iterations=1) == ""
