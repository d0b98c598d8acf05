"""The members that every keep rule has, beside `choose`, which the tests of `select` show."""

from __future__ import annotations

import pytest

from cryossl.pseudolabels.keep_rules import AllAbove, BestOfEachSource, BestPerLabelled, KeepRule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (AllAbove(0.7), "AllAbove(threshold=0.7)"),
        (BestPerLabelled(2.0), "BestPerLabelled(multiple=2.0)"),
        (BestOfEachSource(0.5), "BestOfEachSource(share=0.5)"),
    ],
)
def test_the_repr_that_enters_stage_keys_does_not_change(rule: KeepRule, text: str) -> None:
    assert repr(rule) == text


@pytest.mark.parametrize(
    ("rule", "bound"),
    [(AllAbove(0.7), 50), (BestPerLabelled(2.0), 20), (BestOfEachSource(0.5), 50)],
)
def test_an_upper_bound_of_the_kept_images_is_known_before_a_teacher_is_trained(
    rule: KeepRule, bound: int
) -> None:
    assert rule.at_most(50, 10) == bound
    assert rule.at_most(5, 10) == 5


def test_only_a_threshold_on_quality_leaves_images_out_before_the_quota() -> None:
    qualities = [0.9, 0.7, 0.2]
    assert AllAbove(0.7).candidates(qualities) == 2
    assert BestPerLabelled(0.1).candidates(qualities) == 3
    assert BestOfEachSource(0.5).candidates(qualities) == 3
    assert (AllAbove.absolute, BestPerLabelled.absolute, BestOfEachSource.absolute) == (
        True,
        False,
        False,
    )
