"""Settings that vary over a sweep: the variants that they make, and what is refused."""

from __future__ import annotations

import pytest

from cryossl.config import Config
from cryossl.config_file import build
from cryossl.errors import ConfigError
from cryossl.strategy_settings import config_of_strategy
from cryossl.sweep.grid import cells
from cryossl.sweep.variations import Variant, arm_identity, variants, variations

BALANCED = build({"strategies": "class_balanced"})
BOTH = build({"strategies": "naive,class_balanced,supervised_noise,full"})


def made(config: Config, *texts: str) -> list[Variant]:
    return variants(config, variations(texts, config))


def test_every_combination_of_values_is_a_variant():
    found = made(BALANCED, "particle_threshold=0.5,0.60", "max-pseudo-per-labelled=1,2,4")
    assert [
        (one.config.selection.particle_threshold, one.config.selection.max_pseudo_per_labelled)
        for one in found
    ] == [(0.5, 1), (0.5, 2), (0.5, 4), (0.6, 1), (0.6, 2), (0.6, 4)]
    assert found[3].title == "particle_threshold=0.6, max_pseudo_per_labelled=1"
    assert found[3].folder == "particle_threshold_0.6_max_pseudo_per_labelled_1"


def test_nothing_varies_unless_it_is_asked_for():
    (only,) = made(BOTH)
    assert (only.config, only.title, only.folder) == (BOTH, "", "")


def test_a_setting_of_one_strategy_varies_beside_the_baselines_alone():
    base, first, second = made(BOTH, "class_balanced.particle_threshold=0.5,0.7")
    assert base.config.selection.strategies == ("naive", "supervised_noise", "full")
    assert base.title == ""
    for variant, value in ((first, 0.5), (second, 0.7)):
        assert variant.config.selection.strategies == ("class_balanced", "supervised_noise")
        own = config_of_strategy(variant.config, "class_balanced")
        assert own.selection.particle_threshold == value
        assert variant.title == f"class_balanced.particle_threshold={value}"


def test_dashes_and_best_name_a_strategy_too():
    (_, first, _) = made(BOTH, "class-balanced.particle-threshold=0.5,0.7")
    assert first.title == "class_balanced.particle_threshold=0.5"
    (_, first, _) = made(BOTH, "best.naive_threshold=0.6,0.8")
    assert first.title == "naive.naive_threshold=0.6"


def test_a_setting_of_the_training_varies_for_all():
    found = made(BOTH, "training.learning_rate=0.001,3e-3")
    assert [one.config.training.learning_rate for one in found] == [0.001, 0.003]
    assert found[0].config.selection.strategies == BOTH.selection.strategies


def test_folders_of_different_variants_differ():
    config = build({"strategies": "naive+quota,class_balanced-quota"})
    texts = (
        "naive+quota.naive_threshold=0.7,0.8",
        "class_balanced-quota.particle_threshold=0.5,0.7",
    )
    found = made(config, *texts)
    assert len({one.folder for one in found}) == len(found) == 4
    long = made(
        BALANCED,
        *(
            f"{name}=0.6,0.7"
            for name in (
                "particle_threshold",
                "background_threshold",
                "quality_particle",
                "quality_background",
                "quality_balance",
            )
        ),
    )
    assert len({one.folder for one in long}) == len(long) == 32
    assert max(len(one.folder) for one in long) <= 70


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["particle_threshold"], "is not SETTING=VALUES"),
        (["particle_threshold="], "is not SETTING=VALUES"),
        (["=0.5"], "is not SETTING=VALUES"),
        (["particle_threshold=0.5;"], "--vary 'particle_threshold=0.5;': '' is not SETTING=VALUES"),
        (["particle_threshold=0.5;particle_threshold=0.6"], "names particle_threshold twice"),
        (["particle_treshold=0.5"], "did you mean particle_threshold"),
        (["particle_threshold=0.5,2"], "particle_threshold"),
        (["particle_threshold=0.5,,0.6"], "particle_threshold"),
        (["particle_threshold=0.5,nan"], "particle_threshold"),
        (["particle_threshold=0.5,0.50"], "has 0.5 twice"),
        (["particle_threshold=0.5", "particle-threshold=0.6"], "names particle_threshold twice"),
        (["ratio=5,10"], "--ratios"),
        (["seed=0,1"], "--seeds"),
        (["strategies=naive,soft"], "--strategies"),
        (["threads=1,2"], "does not decide a number"),
        (["data=a,b"], "its values are other data, which share no table"),
        (["test_half=by_seed,fixed"], "its values are other data, which share no table"),
        (["sources=a,b"], "is a list"),
        (["audit=true,false"], "does not decide a number"),
        (["strategy_settings=soft.loss=focal"], "name the strategy"),
        (["soft.loss=weighted,focal"], "not among the strategies"),
        (
            [
                f"{name}=" + ",".join(f"{n}e-5" for n in range(1, 500))
                for name in ("learning_rate", "weight_decay")
            ],
            "249,001 cells or more",
        ),
        (["sofd.loss=weighted"], "did you mean soft"),
        (["network.particle_threshold=0.5,0.6"], "section selection, not of network"),
        ([".particle_threshold=0.5,0.6"], "names no setting"),
        (["supervised.learning_rate=0.1,0.2"], "leave `supervised.` out"),
        (["class_balanced.nothing_like_it=1,2"], "--vary: class_balanced has no"),
        (["x" * 5000 + ".loss=weighted,focal"], "unknown strategy"),
        (["class_balanced.encoder=resnet18"], "all arms share it"),
        (["naive_threshold=0.7,0.8"], "the same for class_balanced"),
        (["loss=weighted,focal"], "the same for class_balanced"),
        (["class_balanced.naive_threshold=0.7,0.8"], "are the same for class_balanced"),
    ],
)
def test_what_cannot_vary_is_refused_in_one_line(texts, said):
    with pytest.raises(ConfigError) as caught:
        made(BALANCED, *texts)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_one_text_may_hold_several_settings_as_mlflow_can_give_an_option_once_only():
    several = ("particle_threshold=0.5,0.6", "class_balanced.background_threshold=0.7,0.8")
    assert variations([" ; ".join(several)], BALANCED) == variations(several, BALANCED)
    assert len(made(BALANCED, ";".join(several))) == 4


def test_a_setting_does_not_vary_in_cells_that_it_does_not_change():
    naive, *balanced = made(
        BOTH, "max_pseudo_per_labelled=1,2", "class_balanced.particle_threshold=0.5,0.7"
    )
    assert (naive.title, len(balanced)) == ("", 4)


def test_a_value_that_changes_one_of_several_strategies_is_no_repetition():
    assert len(made(BOTH, "naive_threshold=0.7,0.8")) == 2


@pytest.mark.parametrize(
    ("strategy", "values", "same"),
    [
        ("supervised", {"particle_threshold": 0.5, "student_epochs": 3, "max_iterations": 1}, True),
        ("supervised", {"learning_rate": 0.1}, False),
        ("supervised", {"seed": 1}, False),
        ("naive", {"particle_threshold": 0.5}, True),
        ("naive", {"target_particle_ratio": 0.1}, False),
        ("naive", {"student_epochs": 3}, False),
        ("naive", {"strategy_settings": "naive.naive_threshold=0.6"}, False),
        ("naive", {"strategy_settings": "soft.loss=focal"}, True),
        ("class_balanced", {"particle_threshold": 0.5}, False),
        ("full", {"particle_threshold": 0.5}, True),
        ("full", {"student_epochs": 3}, False),
    ],
)
def test_arms_are_the_same_where_nothing_that_decides_them_differs(strategy, values, same):
    one, other = (arm_identity(build(each), strategy) for each in ({}, values))
    assert (one == other) == same


def test_a_sweep_of_too_many_cells_is_refused_at_once():
    found = made(BALANCED, "particle_threshold=0.5,0.6")
    assert len(cells(BALANCED, ratios="5,10", seeds=1000, variants=found)) == 4000
    rates = made(BALANCED, "learning_rate=" + ",".join(f"{n}e-5" for n in range(1, 7)))
    with pytest.raises(ConfigError, match="12,000 cells or more, 10,000 at most"):
        cells(BALANCED, ratios="5,10", seeds=1000, variants=rates)


def test_a_setting_of_a_strategy_that_does_not_run_is_refused():
    config = build({"strategies": "naive", "strategy_settings": "soft.loss=focal"})
    with pytest.raises(ConfigError, match="soft is not among the strategies"):
        made(config)


def test_cells_without_a_strategy_do_not_have_its_settings():
    config = build(
        {"strategies": "naive,soft", "strategy_settings": "soft.loss=focal,naive.patience=3"}
    )
    (naive, first, _) = made(config, "soft.student_epochs=2,3")
    assert naive.config.selection.strategy_settings == ("naive.patience=3",)
    assert first.config.selection.strategy_settings == ("soft.loss=focal", "soft.student_epochs=2")


def test_the_first_variant_of_all_seeds_comes_first_then_the_others_seed_by_seed():
    found = cells(
        BALANCED, ratios="5,10", seeds=2, variants=made(BALANCED, "particle_threshold=0.5,0.6,0.7")
    )
    order = [
        (one.config.selection.particle_threshold, one.config.split.seed, one.config.split.ratio)
        for one in found
    ]
    assert order[:4] == [(0.5, 0, 5), (0.5, 0, 10), (0.5, 1, 5), (0.5, 1, 10)]
    assert order[4:8] == [(0.6, 0, 5), (0.7, 0, 5), (0.6, 0, 10), (0.7, 0, 10)]
    assert len(set(order)) == len(order) == 12
    placed = found[4].within(BALANCED, device="cpu", threads=1)
    assert placed.config.run.name == "ratio_5_seed_0_particle_threshold_0.6"
    assert placed.config.run.keep_maps
    assert found[4].title == "5% seed 0, particle_threshold=0.6"
