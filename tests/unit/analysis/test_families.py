"""Settings that a user names, and the conditions on runs: names, values, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tracked_frames import frame
from varied_frames import cell, own, swept

from analysis.runs.chosen_settings import ChosenSetting, chosen_setting, shown_value
from analysis.runs.conditions import NAMES, conditions_of, restricted
from analysis.runs.families import AXES, axes_called, family_of
from analysis.runs.groups import Choice, group_name, groups_of
from analysis.runs.tidy import tidy
from analysis.tables.sensitivity import sensitivity
from cryossl.config import deciding, fields
from cryossl.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "setting", "strategy"),
    [
        ("particle_threshold", "particle_threshold", ""),
        ("particle-threshold", "particle_threshold", ""),
        ("selection.particle-threshold", "particle_threshold", ""),
        ("class_balanced.particle_threshold", "particle_threshold", "class_balanced"),
        ("class-balanced.particle-threshold", "particle_threshold", "class_balanced"),
        ("best.naive_threshold", "naive_threshold", "naive"),
        ("class_balanced-quota.particle_threshold", "particle_threshold", "class_balanced-quota"),
        ("ratio", "ratio", ""),
        (" encoder ", "encoder", ""),
    ],
)
def test_a_name_is_taken_with_or_without_section_and_dashes(typed, setting, strategy):
    assert axes_called([typed]) == (ChosenSetting(setting, strategy),)


def test_every_setting_that_decides_a_number_can_be_an_axis():
    decides = {name.partition(".")[2] for name in deciding("training", "result")}
    assert {*AXES} == decides - {"strategy_settings"} | {"ratio"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["partcle_threshold"], "did you mean particle_threshold"),
        (["seed"], "every row is over all seeds"),
        (["strategies"], "every strategy has rows of its own"),
        (["strategy_settings"], "STRATEGY.SETTING"),
        (["data"], "runs of different data"),
        (["device"], "decides no number"),
        (["network.particle_threshold"], "section selection, not of network"),
        (["clas_balanced.particle_threshold"], "did you mean class_balanced"),
        (["class_balanced.encoder"], "no 'encoder' of its own: all arms share it"),
        (["supervised.learning_rate"], "leave `supervised.` out"),
        (["ensemble.particle_threshold"], "selects no pseudo-labels"),
        ([".learning_rate"], "names no setting"),
        (["class_balanced."], "names no setting"),
        (["particle_threshold", "particle-threshold"], "names particle_threshold twice"),
        (["particle_threshold", "naive.particle_threshold"], "names particle_threshold twice"),
        (["naive.naive_threshold", "class_balanced.loss"], "share no row"),
        ([""], "names no setting"),
    ],
)
def test_a_name_that_is_no_axis_is_refused_with_the_reason(typed, said):
    with pytest.raises(ConfigError, match="--by") as error:
        axes_called(typed)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        (swept(), "tile_px", "no finished run has a value of tile_px"),
        (swept("0.6"), "particle_threshold", "one value only: 0.6"),
        (swept(), "background_threshold", "settings with several values: particle_threshold"),
        (swept(), "class_balanced.particle_threshold", "of its own, `--by particle_threshold`"),
        (swept(), "ratio", "ratio has one value only: 5"),
    ],
)
def test_a_setting_with_less_than_two_values_is_refused_with_what_there_is(rows, by, said):
    with pytest.raises(ConfigError) as error:
        sensitivity(frame(*rows), axes_called([by]))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_values_in_runs_that_differ_otherwise_are_named():
    rows = [
        *swept("0.6"),
        *(row | {"training.student_epochs": "9"} for row in swept("0.7")),
    ]
    with pytest.raises(ConfigError, match=r"runs with 0\.6 differ in|runs with 0\.7 differ in"):
        sensitivity(frame(*rows), axes_called(["particle_threshold"]))


def test_a_group_is_refused_that_is_not_there_and_one_without_several_values():
    other = swept("0.6", year=2020)
    rows = [*swept(), *(row | {"training.student_epochs": "9"} for row in other)]
    runs = tidy(frame(*rows))
    axes = axes_called(["particle_threshold"])
    with pytest.raises(ConfigError, match="no group is called 'zzz'"):
        family_of(runs, axes, Choice("zzz"), metric="test/f1")
    (alone,) = groups_of(runs[runs["training.student_epochs"] == "9"])
    with pytest.raises(ConfigError, match="one value only"):
        family_of(runs, axes, Choice(group_name(alone)), metric="test/f1")


def test_values_are_in_order_numbers_first_and_words_as_declared():
    target = ChosenSetting("target_particle_ratio")
    assert sorted(["measured", 0.2, 0.04], key=target.order) == [0.04, 0.2, "measured"]
    accept = ChosenSetting("accept")
    assert sorted(["always", "confident", "improved"], key=accept.order) == [
        "improved",
        "confident",
        "always",
    ]


@pytest.mark.parametrize(
    ("name", "logged", "value"),
    [
        ("particle_threshold", "0.50", 0.5),
        ("particle_threshold", "0.5", 0.5),
        ("max_pseudo_per_labelled", "2", 2.0),
        ("audit", "True", True),
        ("audit", "true", True),
        ("border", "auto", "auto"),
        ("border", "12", 12),
        ("sources", "a,b c", ("a", "b c")),
        ("sources", "['a', 'b c']", ("a", "b c")),
        ("sources", "[]", ()),
        ("labelled", "None", None),
        ("loss", "hinge", "hinge"),  # of another version
    ],
)
def test_a_logged_text_becomes_a_value_of_the_settings_type(name, logged, value):
    setting = ChosenSetting(name)
    found = setting.value_in({setting.param: logged})
    assert (found, type(found)) == (value, type(value))


def test_a_value_is_absent_where_a_run_recorded_none():
    setting = ChosenSetting("particle_threshold")
    assert setting.value_in({}) is None
    assert setting.value_in({setting.param: math.nan}) is None
    assert shown_value(None) == "none"


# --- conditions


def ids(rows: list[dict[str, Any]], *where: str) -> set[str]:
    return set(restricted(frame(*rows), conditions_of(where))["run_id"])


def test_a_condition_leaves_the_runs_with_the_value_however_it_is_spelled():
    expected = {row["run_id"] for row in swept("0.5")}
    for text in ("particle_threshold=0.50", "selection.particle-threshold= .5"):
        assert ids(swept(), text) == expected


def test_values_of_one_setting_are_alternatives_and_settings_all_hold():
    rows = swept()
    two = ids(rows, "particle_threshold=0.5", "particle_threshold=0.7")
    assert two == {row["run_id"] for row in swept("0.5", "0.7")}
    one = ids(rows, "particle_threshold=0.5", "particle_threshold=0.7", "seed=1")
    assert one == {row["run_id"] for row in swept("0.5", "0.7") if row["cryossl.seed"] == "1"}


def test_ratio_and_seed_leave_single_runs_and_strategies_keep_the_baselines():
    rows = [*swept("0.6"), *swept("0.6", ratio="10")]
    assert {one.split("-")[1] for one in ids(rows, "ratio=10.0")} == {"10"}
    assert {one.split("-")[2] for one in ids(rows, "seed=0")} == {"0"}
    assert {one.split("-")[0] for one in ids(rows, "strategies=naive")} == {"naive", "supervised"}
    both = ids(rows, "strategies=naive,class_balanced")
    assert both == {row["run_id"] for row in rows}


def test_a_strategys_own_value_counts_for_the_whole_run_and_its_plain_param_does_not():
    rows = [*swept("0.6"), *own("0.7", (0.7, 0.7))]
    apart = {row["run_id"] for row in own("0.7", (0.7, 0.7))}
    assert ids(rows, "class_balanced.particle_threshold=0.7") == apart
    # The strategy's run recorded 0.7 under the plain name; the run's own setting is 0.6.
    assert ids(rows, "particle_threshold=0.6") == {row["run_id"] for row in rows}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (["particle_threshold"], "is not SETTING=VALUE"),
        (["=0.5"], "is not SETTING=VALUE"),
        (["particle_threshold="], "is not SETTING=VALUE"),
        (["particle_treshold=0.5"], "did you mean particle_threshold"),
        (["tracking_uri=x"], "decides no number"),
        (["particle_threshold=x"], "it may be number"),
        (["strategies=nave"], "unknown strategy"),
        (["strategies=,"], "no strategy is named"),
        (["seed=x"], "--where: seed: 'x'"),
        (["encoder=" + "e" * 4000], "no run has encoder=eee"),
        (["particle_threshold=0.9"], "no run has particle_threshold=0.9; there are: 0.5, 0.6, 0.7"),
        (["seed=7"], "there are: 0, 1"),
        (["strategies=soft"], "there are: class_balanced, naive, supervised"),
        (["class_balanced.particle_threshold=0.9"], "there are: 0.5, 0.6, 0.7"),
    ],
)
def test_a_condition_that_nothing_meets_is_one_line_with_what_there_is(where, said):
    with pytest.raises(ConfigError) as error:
        ids(swept(), *where)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_an_empty_list_is_none():
    rows = [row | {"input.sources": sources} for sources in ("", "()") for row in swept("0.6")]
    assert ids(rows, "sources=none") == {row["run_id"] for row in rows}


def test_conditions_that_nothing_meets_at_once_are_said_together():
    rows = [*swept("0.6"), *(row | {"loop.accept": "always"} for row in swept("0.7"))]
    rows = [{"loop.accept": "improved", **row} for row in rows]
    with pytest.raises(ConfigError, match=r"particle_threshold=0\.6 and accept=always at once"):
        ids(rows, "particle_threshold=0.6", "accept=always")


def test_every_recorded_setting_can_be_a_condition():
    assert {*fields()} - {*NAMES} == {name.partition(".")[2] for name in deciding("nothing")} | {
        "strategy_settings"
    }


def test_a_name_tells_which_option_it_was_typed_for():
    with pytest.raises(ConfigError, match="--where"):
        chosen_setting("nothing_like_it", allowed=NAMES, option="--where")


def test_groups_without_the_strategy_whose_setting_is_asked_for_are_passed_over_in_silence():
    """After `sweep --vary STRATEGY.SETTING=...` the other strategies are in a group of their own."""
    rows = [*own("0.5", (0.7, 0.7)), *own("0.6", (0.7, 0.7))]
    apart = cell({"selection.particle_threshold": "0.6"}, {"naive": (0.71, 0.72)})
    found = sensitivity(frame(*rows, *apart), axes_called(["class_balanced.particle_threshold"]))
    assert not any("fewer or older" in fault for fault in found.faults)
    assert {one.strategy for one in found.series} == {"supervised", "class_balanced"}
