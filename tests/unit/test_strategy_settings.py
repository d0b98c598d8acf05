"""Settings of one strategy alone: their spelling, what is refused, and the config that they make."""

from __future__ import annotations

import pytest

from cryossl.config import Config, fields
from cryossl.config_file import build
from cryossl.errors import ConfigError
from cryossl.setting import allowed_text
from cryossl.strategy_settings import (
    config_of_strategy,
    logged_settings,
    logged_tries,
    own_names,
    refuse_unused,
    tuned_seeds,
    with_strategies,
)


def test_a_strategy_has_its_own_settings_and_the_others_do_not():
    config = build(
        {
            "particle_threshold": 0.7,
            "strategy_settings": "class_balanced.particle_threshold=0.5,soft.student_epochs=7",
        }
    )
    own = config_of_strategy(config, "class_balanced")
    assert own.selection.particle_threshold == 0.5
    assert own.training == config.training
    assert config_of_strategy(config, "soft").training.student_epochs == 7
    assert config_of_strategy(config, "naive") == config


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("naive.naive_threshold=0.80", "naive.naive-threshold=.8"),
        ("best.naive_threshold=0.8", "naive.naive_threshold=0.8"),
        ("class-balanced.particle-threshold=0.8", "class_balanced.particle_threshold=0.8"),
        (
            "soft.loss=focal,naive.learning_rate=1e-3",
            "naive.learning_rate=0.001, soft.loss=focal ",
        ),
    ],
)
def test_two_spellings_of_the_same_settings_are_the_same_config(first, second):
    assert build({"strategy_settings": first}) == build({"strategy_settings": second})


def test_a_number_keeps_all_its_digits():
    config = build({"strategy_settings": "naive.naive_threshold=0.712345678901"})
    assert config_of_strategy(config, "naive").selection.naive_threshold == 0.712345678901


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("particle_threshold=0.5", "STRATEGY.SETTING=VALUE"),
        ("class_balanced.particle_threshold", "STRATEGY.SETTING=VALUE"),
        ("clas_balanced.particle_threshold=0.5", "clas_balanced"),
        ("class_balanced.particle_treshold=0.5", "did you mean particle_threshold"),
        ("class_balanced.particle_threshold=2", "particle_threshold"),
        ("class_balanced.particle_threshold=nan", "particle_threshold"),
        ("naive.encoder=resnet18", "all arms share it"),
        ("naive.baseline_epochs=3", "all arms share it"),
        ("naive.ratio=5", "all arms share it"),
        ("naive.strategy_settings=soft.loss=focal", "all arms share it"),
        ("supervised.learning_rate=0.1", "baseline"),
        ("full.particle_threshold=0.5", "full selects no pseudo-labels"),
        ("selection.particle_threshold=0.5", "STRATEGY.SETTING=VALUE"),
        ("network.particle_threshold=0.5", "section selection, not of network"),
        (".particle_threshold=0.5", "names no setting"),
        ("=0.5", "STRATEGY.SETTING=VALUE"),
        ("naive.naive_threshold=0.8,naive.naive_threshold=0.9", "twice"),
        ("naive.naive_threshold=0.8,best.naive_threshold=0.9", "twice"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(entry, named):
    with pytest.raises(ConfigError) as caught:
        build({"strategy_settings": entry})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_name_is_cut_in_the_message():
    with pytest.raises(ConfigError) as caught:
        build({"strategy_settings": f"{'x' * 5000}.loss=focal"})
    assert "unknown strategy" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_settings_of_a_strategy_that_does_not_run_are_refused():
    config = build({"strategies": "naive", "strategy_settings": "soft.loss=focal"})
    with pytest.raises(ConfigError, match=r"sets soft\.loss, and soft is not among"):
        refuse_unused(config)
    refuse_unused(build({"strategies": "naive,soft", "strategy_settings": "soft.loss=focal"}))


def test_with_fewer_strategies_only_their_settings_stay():
    entries = "soft.loss=focal,naive.naive_threshold=0.8"
    config = with_strategies(build({"strategy_settings": entries}), ("soft",))
    assert config.selection.strategies == ("soft",)
    assert config.selection.strategy_settings == ("soft.loss=focal",)


def test_a_mapping_in_a_config_file_is_refused_with_the_form():
    with pytest.raises(ConfigError, match=r"may be `STRATEGY\.SETTING=VALUE`, separated by comm"):
        build({"strategy_settings": {"soft": {"loss": "focal"}}})
    assert allowed_text(fields()["strategies"][1]) == "names, separated by commas"


def test_a_control_has_settings_of_its_training_alone():
    config = build({"strategy_settings": "full.student_epochs=9"})
    assert config_of_strategy(config, "full").training.student_epochs == 9


def test_what_is_logged_is_read_again():
    entries = "class_balanced-quota.particle_threshold=0.5,naive.naive_threshold=0.8"
    config = build({"strategy_settings": entries})
    logged = str(config.flat()["selection.strategy_settings"])
    assert logged_settings(logged) == {
        "class_balanced-quota.particle_threshold": "0.5",
        "naive.naive_threshold": "0.8",
    }
    assert logged_settings(str(Config().flat()["selection.strategy_settings"])) == {}


def test_only_what_a_student_decides_can_be_its_own():
    names = own_names()
    assert {"particle_threshold", "student_epochs", "patience", "loss"} <= set(names)
    assert not {"model", "precision", "device", "strategies", "encoder", "seed"} & set(names)


def test_a_tuned_config_names_the_seeds_of_its_tuning():
    tuned = build({"tuned_by": "study-1.a 0123456789ab seeds 1000-1002"})
    assert list(tuned_seeds(tuned)) == [1000, 1001, 1002]
    assert list(tuned_seeds(build({}))) == []


@pytest.mark.parametrize(
    "text", ["x", "a 0123456789ab seeds 5", "a 0123 seeds 1-2", "a b c seeds 1-2"]
)
def test_tuned_by_has_one_form(text):
    with pytest.raises(ConfigError, match=r"tuned_by: .* is not allowed"):
        build({"tuned_by": text})


def test_tries_are_counted_by_strategy():
    config = build({"tries": "naive=20,class_balanced-quota=7"})
    text = ",".join(config.selection.tries)
    assert logged_tries(text, "naive") == 20
    assert logged_tries(text, "class_balanced-quota") == 7
    assert logged_tries(text, "class_balanced") == 1
    assert logged_tries(text, "quota") == 1
    assert logged_tries("", "naive") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("naive", "not STRATEGY=COUNT"),
        ("naive=0", "not STRATEGY=COUNT"),
        ("naive=-1", "not STRATEGY=COUNT"),
        ("naive=many", "not STRATEGY=COUNT"),
        ("naiv=3", "unknown strategy 'naiv'"),
        ("naive=3,naive=4", "a strategy is named twice"),
        ("naive=3,best=4", "a strategy is named twice"),
    ],
)
def test_other_tries_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        build({"tries": text})
