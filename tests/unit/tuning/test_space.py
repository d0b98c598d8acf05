"""The space of a tuning: what may stand in it, and the trials that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cryossl.config import fields
from cryossl.config_file import build
from cryossl.errors import ConfigError
from cryossl.strategy_settings import own_names, with_own
from cryossl.tuning.plan import PRESET
from cryossl.tuning.space import (
    FIXED,
    Choices,
    Range,
    as_json,
    present_values,
    space_of,
)

CONFIG = build({"strategies": "naive,soft"})


def space(text: str, config=CONFIG):
    return space_of(yaml.safe_load(text), config, name="space x")


def test_settings_at_the_top_are_of_every_strategy_and_those_below_its_name_of_one():
    found = space(
        """
        learning_rate: {low: 0.001, high: 1e-2, log: true}
        naive: {naive_threshold: {low: 0.5, high: 0.9}, learning-rate: {low: 0.002, high: 0.004}}
        soft: {loss: [focal, weighted]}
        class_balanced: {particle_threshold: {low: 0.5, high: 0.9}}
        """
    )
    assert found == {
        "naive": (
            Range("learning_rate", 0.002, 0.004, integer=False),
            Range("naive_threshold", 0.5, 0.9, integer=False),
        ),
        "soft": (
            Range("learning_rate", 0.001, 0.01, integer=False, log=True),
            Choices("loss", ("focal", "weighted")),
        ),
    }


def test_best_is_the_strategy_that_it_stands_for():
    assert space("{best: {batch_size: [2, 4]}, soft: {batch_size: [2, 4]}}") == space(
        "{batch_size: [2, 4]}"
    )


def test_a_choice_is_spelt_as_it_is_logged():
    found = space("{learning_rate: [0.0030, 1e-2], target_particle_ratio: [measured, 0.04]}")
    assert found["naive"] == (
        Choices("learning_rate", ("0.003", "0.01")),
        Choices("target_particle_ratio", ("measured", "0.04")),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold"),
        ("[learning_rate]", "must hold"),
        ("learning_rate", "must hold"),
        ("{learning_rat: [1, 2]}", "neither a setting nor a strategy"),
        ("{naiv: {loss: [focal, weighted]}}", "neither a setting nor a strategy"),
        ("{1: [1, 2]}", "neither a setting nor a strategy"),
        ("{naive: [0.5, 0.6]}", "naive must hold"),
        ("{naive: {}}", "naive must hold"),
        ("{best: {loss: [focal, weighted]}, naive: {loss: [focal, weighted]}}", "there twice"),
        ("{batch_size: [2, 4], batch-size: [2, 4]}", "there twice"),
        ("{naive: {naive_treshold: {low: 0.5, high: 0.9}}}", "did you mean naive_threshold or"),
        ("{encoder: [resnet18, resnet34]}", "encoder cannot be tuned: all arms share it"),
        ("{naive: {tile_px: {low: 64, high: 256}}}", "naive.tile_px cannot be tuned: all arms"),
        ("{baseline_epochs: {low: 10, high: 100}}", "all arms share it"),
        ("{model: [last, best]}", "all arms share it"),
        ("{seed: [1, 2]}", "all arms share it"),
        ("{strategy_settings: [a, b]}", "all arms share it"),
        ("{validations: [5, 10]}", "validations cannot be tuned: trials are compared"),
        ("{learning_rate: 0.001}", "is neither {low: NUMBER, high: NUMBER} nor a list"),
        ("{learning_rate: null}", "is neither {low: NUMBER, high: NUMBER} nor a list"),
        ("{learning_rate: {low: 0.001}}", "needs low and high"),
        ("{learning_rate: {low: 0.001, hihg: 0.1}}", "unknown 'hihg'"),
        ("{learning_rate: {low: 0.01, high: 0.001}}", "not below high"),
        ("{learning_rate: {low: 0.01, high: 0.01}}", "not below high"),
        ("{learning_rate: {low: 0, high: 0.01}}", "0.0 is not allowed, it may be number > 0"),
        ("{learning_rate: {low: 0.001, high: 1.5}}", "1.5 is not allowed"),
        ("{learning_rate: {low: small, high: 0.1}}", "learning_rate.low: 'small' is no number"),
        ("{learning_rate: {low: .nan, high: 0.1}}", "is no number"),
        ("{learning_rate: {low: 0.001, high: .inf}}", "is no number"),
        ("{learning_rate: {low: true, high: 0.1}}", "True is no number"),
        ("{learning_rate: {low: 0.001, high: 0.01, log: 1}}", "neither true nor false"),
        ("{learning_rate: {low: 0.001, high: 0.011, step: 0.003}}", "no whole number of steps"),
        ("{learning_rate: {low: 0.001, high: 0.01, step: 0}}", "no whole number of steps"),
        ("{learning_rate: {low: 0.001, high: 0.01, step: -0.001}}", "no whole number of steps"),
        ("{learning_rate: {low: 0.001, high: 0.01, log: true, step: 0.001}}", "exclude each other"),
        ("{weight_decay: {low: 0, high: 0.1, log: true}}", "log needs a low above 0"),
        ("{batch_size: {low: 2.5, high: 8}}", "2.5 is no whole number"),
        ("{batch_size: {low: 2, high: 8, step: 0.5}}", "0.5 is no whole number"),
        ("{target_particle_ratio: {low: 0.01, high: 0.1}}", "give a list of choices"),
        ("{loss: {low: 1, high: 2}}", "give a list of choices"),
        ("{loss: [focal]}", "two or more values, each once"),
        ("{loss: []}", "two or more values, each once"),
        ("{learning_rate: [0.003, 0.0030]}", "two or more values, each once"),
        ("{loss: [focal, hinge]}", "'hinge' is not allowed"),
        ("{loss: [focal, [weighted]]}", "['weighted'] is not allowed"),
        ("{batch_size: [true, 4]}", "True is not allowed"),
        ("{learning_rate: {low: 0.01, high: 0.1}}", "naive has learning_rate=0.003 now"),
        ("{loss: [focal, tversky]}", "naive has loss=weighted now"),
        ("{student_epochs: {low: 12, high: 72, step: 20}}", "naive has student_epochs=50 now"),
        ("{naive: {learning_rate: [0.003, 0.01]}}", "nothing of soft is tuned"),
    ],
)
def test_what_is_no_space_is_refused_by_name(text, said):
    with pytest.raises(ConfigError) as refused:
        space(text)
    assert str(refused.value).startswith("space x: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_setting_of_a_strategy_can_be_tuned_but_those_with_a_reason():
    for name in own_names():
        field = fields()[name][1]
        default = present_values(CONFIG, "naive")[name]
        other = {
            "loss": "focal",
            "uncertain_pixels": "background",
            "target_scope": "per_source",
            "augment": "any",
        }
        more = other.get(name) or (0.75 if field.annotation is not int else field.default + 1)
        text = yaml.safe_dump({name: [yaml.safe_load(default), more]})
        if name in FIXED:
            with pytest.raises(ConfigError, match="cannot be tuned"):
                space(text)
        else:
            assert [one.name for one in space(text)["soft"]] == [name]


def test_the_preset_is_a_space_of_its_strategies():
    document = yaml.safe_load(PRESET.read_text())
    found = space_of(document, build({"strategies": "naive,class_balanced,soft"}), name="preset")
    assert set(found) == {"naive", "class_balanced", "soft"}
    assert Path(__file__).parents[3] / "presets" / "space.yaml" == PRESET


def test_values_have_few_digits_and_stay_in_the_range():
    one = Range("learning_rate", 0.00123449, 0.1, integer=False)
    assert one.text(0.0123456) == "0.01235"
    assert one.text(0.00123449) == "0.00123449"
    assert (
        Range("learning_rate", 0.1, 0.5, integer=False, step=0.1).text(0.30000000000000004) == "0.3"
    )
    assert Range("batch_size", 2, 16, integer=True).text(3.0) == "3"


def test_a_trial_is_the_config_with_the_values_of_one_strategy():
    config = build(
        {"strategies": "naive,soft", "strategy_settings": "naive.batch_size=8,soft.batch_size=2"}
    )
    changed = with_own(config, "naive", {"batch_size": "16", "learning_rate": "0.01"})
    assert changed.selection.strategy_settings == (
        "naive.batch_size=16",
        "naive.learning_rate=0.01",
        "soft.batch_size=2",
    )
    assert present_values(changed, "naive")["batch_size"] == "16"
    assert present_values(changed, "soft")["batch_size"] == "2"
    assert present_values(changed, "soft")["learning_rate"] == "0.003"


def test_the_space_as_json_does_not_depend_on_the_order_of_strategies():
    text = "{batch_size: [2, 4]}"
    turned = build({"strategies": "soft,naive"})
    assert list(as_json(space(text))) == list(as_json(space(text, turned)))
