"""Every named strategy is the value that its name says."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from cryossl.config import SelectionSettings
from cryossl.errors import ConfigError
from cryossl.pseudolabels.keep_rules import AllAbove, BestOfEachSource, BestPerLabelled
from cryossl.pseudolabels.recipe import Consistency, Learning, Teaching
from cryossl.pseudolabels.selection import Quality, Selection
from cryossl.pseudolabels.strategies import (
    Recipe,
    recipe_for,
    rounds_of,
    rules_by_iteration,
    rules_text,
)
from cryossl.strategy_names import BEST, CONTROLS, FACTORS, TAKES, fixes_its_count

PROJECT = Path(__file__).resolve().parents[3]
NOTE = SelectionSettings()
CHANGES = {
    "class_thresholds": {"particle_threshold", "background_threshold"},
    "balance_quality": {"quality"},
    "quota": {"keep"},
}


def selection_for(name: str, settings: SelectionSettings) -> Selection:
    return recipe_for(name, settings).selection


def _differences(one: Selection, other: Selection) -> set[str]:
    return {
        field.name
        for field in fields(Selection)
        if getattr(one, field.name) != getattr(other, field.name)
    }


def test_naive_is_the_notes_first_run() -> None:
    assert selection_for("naive", NOTE) == Selection(
        particle_threshold=0.70,
        background_threshold=0.70,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.70),
        uncertain_pixels="ignore",
    )


def test_class_balanced_is_the_notes_second_run() -> None:
    assert selection_for("class_balanced", NOTE) == Selection(
        particle_threshold=0.60,
        background_threshold=0.80,
        quality=Quality(particle=0.3, background=0.2, balance=0.5),
        keep=BestPerLabelled(2.0),
        uncertain_pixels="ignore",
    )


@pytest.mark.parametrize("uncertain", ["ignore", "background"])
def test_naive_with_all_factors_is_class_balanced_and_the_other_way_round(
    uncertain: Literal["ignore", "background"],
) -> None:
    settings = SelectionSettings(uncertain_pixels=uncertain)
    for order in permutations(FACTORS):
        assert selection_for(
            "naive" + "".join(f"+{factor}" for factor in order), settings
        ) == selection_for("class_balanced", settings)
        assert selection_for(
            "class_balanced" + "".join(f"-{factor}" for factor in order), settings
        ) == selection_for("naive", settings)


@pytest.mark.parametrize("factor", FACTORS)
def test_each_factor_changes_its_own_part_and_no_other(factor: str) -> None:
    assert (
        _differences(selection_for("naive", NOTE), selection_for(f"naive+{factor}", NOTE))
        == CHANGES[factor]
    )
    assert (
        _differences(
            selection_for("class_balanced", NOTE), selection_for(f"class_balanced-{factor}", NOTE)
        )
        == CHANGES[factor]
    )


def test_two_factors_change_the_parts_of_both() -> None:
    for one, other in combinations(FACTORS, 2):
        found = _differences(
            selection_for("naive", NOTE), selection_for(f"naive+{one}+{other}", NOTE)
        )
        assert found == CHANGES[one] | CHANGES[other]


def test_every_setting_reaches_the_recipe_it_belongs_to() -> None:
    own = SelectionSettings(
        naive_threshold=0.75,
        particle_threshold=0.55,
        background_threshold=0.9,
        quality_particle=0.1,
        quality_background=0.6,
        quality_balance=0.25,
        max_pseudo_per_labelled=3.5,
        uncertain_pixels="background",
    )
    assert selection_for("naive", own) == Selection(
        particle_threshold=0.75,
        background_threshold=0.75,
        quality=Quality(confidence=1.0),
        keep=AllAbove(0.75),
        uncertain_pixels="background",
    )
    assert selection_for("class_balanced", own) == Selection(
        particle_threshold=0.55,
        background_threshold=0.9,
        quality=Quality(particle=0.1, background=0.6, balance=0.25),
        keep=BestPerLabelled(3.5),
        uncertain_pixels="background",
    )


@pytest.mark.parametrize(
    "name", ["supervised_long", "supervised", "naive-quota", "class_balanced+quota", "naive+x"]
)
def test_a_name_without_a_selection_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"supervised_long|unknown strategy"):
        selection_for(name, NOTE)


def test_overlapping_thresholds_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        selection_for(
            "class_balanced", SelectionSettings(particle_threshold=0.2, background_threshold=0.3)
        )


def test_the_rules_in_words_name_every_number_of_the_recipe() -> None:
    assert rules_text(selection_for("naive", NOTE)) == (
        "A pixel is particle from 0.7, background from 0.7; quality = 1 mean confidence; "
        "kept: every image of quality 0.7 or more."
    )
    assert rules_text(selection_for("class_balanced", NOTE)) == (
        "A pixel is particle from 0.6, background from 0.8; quality = 0.3 particle confidence + "
        "0.2 background confidence + "
        "0.5 balance; kept: the best 2 images per labelled one."
    )


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("class_balanced-quota", True),
        ("naive+balance_quality", True),
        ("naive", False),
        ("naive+class_thresholds", False),
        ("class_balanced-balance_quality", False),
    ],
)
def test_a_bar_of_naive_on_the_balanced_quality_is_said_to_lie_on_another_scale(
    name: str, *, warned: bool
) -> None:
    assert ("another scale" in rules_text(selection_for(name, NOTE))) is warned


def test_the_rules_of_an_arm_are_told_for_each_iteration_that_changes_them() -> None:
    told = rules_by_iteration("curriculum", NOTE, iterations=5).split("\n\n")
    assert [text.partition(":")[0] for text in told] == [
        "From iteration 1",
        "From iteration 2",
        "From iteration 3",
    ]
    assert [
        f"the best {quota} images" in text for text, quota in zip(told, (1, 2, 4), strict=True)
    ] == [True] * 3
    assert all("2 px of background round a particle are left out" in text for text in told)
    assert rules_by_iteration("naive", NOTE, iterations=3) == rules_text(
        selection_for("naive", NOTE)
    )
    assert rules_by_iteration("naive", NOTE, iterations=0) == ""


RINGED = {"ring_px": 2}
BALANCED = {
    "particle_threshold": 0.60,
    "background_threshold": 0.80,
    "quality": Quality(particle=0.3, background=0.2, balance=0.5),
    "keep": BestPerLabelled(2.0),
}
CALIBRATED = Teaching(calibrated=True)
EACH_SOURCE = {"scope": "per_source"}
EVERYTHING = {"quality": Quality(confidence=1.0), "keep": AllAbove(0.0)}
MIXED = Learning(loss="weighted", mixed=True)
TABLE = {
    "naive+calibrated": lambda _: Recipe(selection_for("naive", NOTE), CALIBRATED),
    "class_balanced+calibrated": lambda _: Recipe(
        selection_for("class_balanced", NOTE), CALIBRATED
    ),
    "naive+noise": lambda _: Recipe(selection_for("naive", NOTE), learning=Learning(noised=True)),
    "class_balanced+calibrated+noise": lambda _: Recipe(
        selection_for("class_balanced", NOTE), CALIBRATED, Learning(noised=True)
    ),
    "weighted_loss": lambda _: Recipe(Selection(**BALANCED, **RINGED), learning=MIXED),
    "curriculum": lambda iteration: Recipe(
        Selection(**BALANCED | {"keep": BestPerLabelled({1: 1, 2: 2}.get(iteration, 4))}, **RINGED),
        learning=Learning(loss="weighted", mixed=True, pseudo_weight=(0.25, 1.0)),
    ),
    "quantile": lambda iteration: Recipe(
        Selection(
            0.50,
            0.70,
            **EVERYTHING,
            **EACH_SOURCE,
            **RINGED,
            portion={1: 0.50, 2: 0.65}.get(iteration, 0.80),
        ),
        CALIBRATED,
        MIXED,
    ),
    "stability": lambda iteration: Recipe(
        Selection(
            0.50,
            0.70,
            Quality(agreement=1.0),
            BestOfEachSource({1: 0.5}.get(iteration, 1.0)),
            **EACH_SOURCE,
            **RINGED,
        ),
        Teaching(calibrated=True, snapshots=True),
        Learning(loss="weighted", mixed=True, by_agreement=iteration > 1),
    ),
    "soft": lambda _: Recipe(
        Selection(0.50, 0.50, **EVERYTHING, **EACH_SOURCE, soft=True),
        Teaching(calibrated=True, views=4),
        MIXED,
    ),
    "noisy_student": lambda _: Recipe(
        Selection(0.50, 0.50, **EVERYTHING, **EACH_SOURCE, soft=True),
        Teaching(calibrated=True, views=8),
        Learning(mixed=True, noised=True),
    ),
    "ema_consistency": lambda _: Recipe(
        Selection(0.60, 0.95, **EVERYTHING, **EACH_SOURCE),
        Teaching(),
        Learning(
            loss="weighted",
            mixed=True,
            warm_start=True,
            consistency=Consistency(
                background_threshold=0.95, particle_range=(0.60, 0.95), weight=0.5, decay=0.996
            ),
        ),
        iterations=1,
    ),
}


@pytest.mark.parametrize("iteration", [1, 2, 3, 4])
@pytest.mark.parametrize("name", TABLE)
def test_the_strategies_beyond_the_note_are_those_of_the_documented_table(
    name: str, iteration: int
) -> None:
    assert recipe_for(name, NOTE, iteration=iteration) == TABLE[name](iteration)


def test_the_table_holds_every_base_there_is() -> None:
    documented = (PROJECT / "docs" / "method.md").read_text(encoding="utf-8")
    assert {name.partition("+")[0] for name in TABLE} == set(TAKES) - set(CONTROLS)
    marks = {mark[1:] for taken in TAKES.values() for mark in taken}
    assert [name for name in TAKES if f"`{name}`" not in documented] == []
    assert [mark for mark in marks if f"{mark}`" not in documented] == []


@pytest.mark.parametrize(
    ("name", "paste", "match_prior"),
    [
        ("ema_consistency+labelled_paste", True, False),
        ("ema_consistency+prior_match", False, True),
        ("ema_consistency+prior_match+labelled_paste", True, True),
    ],
)
def test_a_plug_in_switches_itself_on_and_nothing_else(
    name: str, paste: bool, match_prior: bool
) -> None:
    plain = recipe_for("ema_consistency", NOTE)
    online = replace(Consistency(), paste=paste, match_prior=match_prior)
    assert recipe_for(name, NOTE) == replace(
        plain, learning=replace(plain.learning, consistency=online)
    )


def test_best_is_an_alias_that_no_run_carries() -> None:
    assert SelectionSettings(strategies=("full", "best")).strategies == ("full", BEST)
    assert recipe_for(BEST, NOTE).iterations is None
    with pytest.raises(ValidationError, match=f"named twice; best is {BEST}"):
        SelectionSettings(strategies=("best", BEST))


@pytest.mark.parametrize(
    "names",
    [("naive+quota+noise", "naive+noise+quota"), ("naive", "class_balanced-quota", "naive")],
)
def test_a_recipe_is_named_twice_in_any_spelling(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="named twice"):
        SelectionSettings(strategies=names)


def test_an_unknown_strategy_is_told_every_base_with_all_that_it_takes() -> None:
    with pytest.raises(ValidationError) as caught:
        SelectionSettings(strategies=("clever",))
    told = str(caught.value)
    assert f"best (it is {BEST})" in told
    for base, marks in TAKES.items():
        assert base + "".join(f"[{mark}]" for mark in sorted(marks)) in told


@pytest.mark.parametrize("loss", ["focal", "tversky"])
def test_the_loss_is_chosen_for_the_strategies_that_weigh_classes_and_for_no_other(
    loss: Literal["focal", "tversky"],
) -> None:
    for name in TAKES.keys() - set(CONTROLS):
        beyond = name not in ("naive", "class_balanced", "noisy_student")
        assert recipe_for(name, SelectionSettings(loss=loss)).learning.loss == (
            loss if beyond else "bce_dice"
        )


def test_target_and_quota_of_each_source_are_had_by_the_notes_strategies_on_request() -> None:
    for name in ("naive", "class_balanced", "class_balanced-quota"):
        own = selection_for(name, SelectionSettings(target_scope="per_source"))
        assert own == replace(selection_for(name, NOTE), scope="per_source")


@pytest.mark.parametrize(
    ("name", "rounds"),
    [
        ("naive", 3),
        ("quantile", 3),
        ("ema_consistency+prior_match", 1),
        ("full", 1),
        ("supervised_long", 1),
        ("supervised_noise", 1),
        ("ensemble", 1),
    ],
)
def test_controls_and_online_learning_take_one_round(name: str, rounds: int) -> None:
    assert rounds_of(name, 3) == rounds
    assert rounds_of(name, 1) == 1


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "full+quota",
        "soft+labelled_paste",
        "ema_consistency+calibrated",
        "quantile+quota",
        "naive+calibrated+calibrated",
        "naive-calibrated",
    ],
)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"takes|no selection|twice"):
        recipe_for(name, NOTE)


@pytest.mark.parametrize("name", [base for base in TAKES if base not in CONTROLS])
def test_a_strategy_fixes_its_count_if_no_threshold_and_no_quota_changes_what_it_keeps(
    name: str,
) -> None:
    other = SelectionSettings(naive_threshold=0.9, max_pseudo_per_labelled=7)
    assert fixes_its_count(name) is (
        selection_for(name, NOTE).keep == selection_for(name, other).keep
    )
