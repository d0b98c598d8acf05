"""Every named strategy is the value that its name says."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations, permutations
from typing import Literal

import pytest

from cryossl.config import SelectionSettings
from cryossl.errors import ConfigError
from cryossl.recipes import FACTORS
from cryossl.selection import AllAbove, BestPerLabelled, Quality, Selection
from cryossl.strategies import recipe_for, rules_text

NOTE = SelectionSettings()
CHANGES = {
    "class_thresholds": {"particle_threshold", "background_threshold"},
    "balance_quality": {"quality"},
    "quota": {"keep"},
}


def selection_for(name: str, settings: SelectionSettings) -> Selection:
    return recipe_for(name, settings).selection


def _differences(one: Selection, other: Selection) -> set[str]:
    return {field.name for field in fields(Selection) if getattr(one, field.name) != getattr(other, field.name)}


def test_naive_is_the_notes_first_run() -> None:
    assert selection_for("naive", NOTE) == Selection(
        particle_threshold=0.70, background_threshold=0.70, quality=Quality(confidence=1.0), keep=AllAbove(0.70),
        uncertain_pixels="ignore")


def test_class_balanced_is_the_notes_second_run() -> None:
    assert selection_for("class_balanced", NOTE) == Selection(
        particle_threshold=0.60, background_threshold=0.80,
        quality=Quality(particle=0.3, background=0.2, balance=0.5), keep=BestPerLabelled(2.0),
        uncertain_pixels="ignore")


@pytest.mark.parametrize("uncertain", ["ignore", "background"])
def test_naive_with_all_factors_is_class_balanced_and_the_other_way_round(
    uncertain: Literal["ignore", "background"],
) -> None:
    settings = SelectionSettings(uncertain_pixels=uncertain)
    for order in permutations(FACTORS):
        assert selection_for("naive" + "".join(f"+{factor}" for factor in order), settings) == selection_for(
            "class_balanced", settings)
        assert selection_for("class_balanced" + "".join(f"-{factor}" for factor in order), settings) == selection_for(
            "naive", settings)


@pytest.mark.parametrize("factor", FACTORS)
def test_each_factor_changes_its_own_part_and_no_other(factor: str) -> None:
    assert _differences(selection_for("naive", NOTE), selection_for(f"naive+{factor}", NOTE)) == CHANGES[factor]
    assert _differences(
        selection_for("class_balanced", NOTE), selection_for(f"class_balanced-{factor}", NOTE)) == CHANGES[factor]


def test_two_factors_change_the_parts_of_both() -> None:
    for one, other in combinations(FACTORS, 2):
        found = _differences(selection_for("naive", NOTE), selection_for(f"naive+{one}+{other}", NOTE))
        assert found == CHANGES[one] | CHANGES[other]


def test_every_setting_reaches_the_recipe_it_belongs_to() -> None:
    own = SelectionSettings(
        naive_threshold=0.75, particle_threshold=0.55, background_threshold=0.9, quality_particle=0.1,
        quality_background=0.6, quality_balance=0.25, max_pseudo_per_labelled=3.5, uncertain_pixels="background")
    assert selection_for("naive", own) == Selection(
        particle_threshold=0.75, background_threshold=0.75, quality=Quality(confidence=1.0), keep=AllAbove(0.75),
        uncertain_pixels="background")
    assert selection_for("class_balanced", own) == Selection(
        particle_threshold=0.55, background_threshold=0.9,
        quality=Quality(particle=0.1, background=0.6, balance=0.25), keep=BestPerLabelled(3.5),
        uncertain_pixels="background")


@pytest.mark.parametrize("name", ["supervised_long", "supervised", "naive-quota", "class_balanced+quota", "naive+x"])
def test_a_name_without_a_selection_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"supervised_long|unknown strategy"):
        selection_for(name, NOTE)


def test_overlapping_thresholds_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        selection_for("class_balanced", SelectionSettings(particle_threshold=0.2, background_threshold=0.3))


def test_the_rules_in_words_name_every_number_of_the_recipe() -> None:
    assert rules_text(selection_for("naive", NOTE)) == (
        "A pixel is particle from 0.7, background from 0.7; quality = 1 mean confidence; "
        "kept: every image of quality 0.7 or more.")
    assert rules_text(selection_for("class_balanced", NOTE)) == (
        "A pixel is particle from 0.6, background from 0.8; quality = 0.3 particle confidence + 0.2 background confidence + "
        "0.5 balance; kept: the best 2 images per labelled one.")


@pytest.mark.parametrize(("name", "warned"), [
    ("class_balanced-quota", True), ("naive+balance_quality", True), ("naive", False), ("naive+class_thresholds", False),
    ("class_balanced-balance_quality", False)])
def test_a_bar_of_naive_on_the_balanced_quality_is_said_to_lie_on_another_scale(name: str, *, warned: bool) -> None:
    assert ("another scale" in rules_text(selection_for(name, NOTE))) is warned
