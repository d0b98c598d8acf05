"""What a run will count and cost: arithmetic that can be done by hand."""

from __future__ import annotations

import pytest

from cryossl.config import NetworkSettings
from cryossl.config_file import build
from cryossl.data.store.plan import StoredMicrograph, StorePlan
from cryossl.network.architecture import build as build_network
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.arms import plan
from cryossl.selftraining.estimates import (
    SECONDS_PER_MODEL,
    Estimate,
    bytes_to_write,
    estimate,
    phase_seconds,
)

SIDE = 512
SCORED_TILES = (
    (10 * 10 + 2 * 20 + 8 * 20) * 4
)  # of validation ten times while a network trains, then of both with last and best weights, then by eight views


def store_plan(train: int, *, tile_px: int = 256) -> StorePlan:
    """The note's kind of data, in any number: all annotated, each picture four tiles."""
    parts = {"train": train, "validation": 10, "test": 10}
    micrographs = tuple(
        StoredMicrograph(
            id=f"{part}/{number:05}.png",
            part=part,
            source="10017",
            height_px=SIDE,
            width_px=SIDE,
            scale=1.0,
            annotated=True,
            particle_count=9,
            original_height_px=SIDE,
            original_width_px=SIDE,
            pixel_size_angstrom=None,
            picture_offset=0,
            truth_offset=0,
        )
        for part, count in parts.items()
        for number in range(count)
    )
    size = SIDE * SIDE * len(micrographs)
    return StorePlan("", "", tile_px, micrographs, size, size, ())


def estimated(train: int, *, tile_px: int = 256, **settings: object) -> Estimate:
    config = build(settings)
    drawn = store_plan(train, tile_px=tile_px)
    split = preparation.draw(config, drawn.micrographs, tile_px=tile_px)
    return estimate(config, drawn, split, step_seconds=0.5, tile_seconds=0.125)


def test_the_counts_are_the_notes():
    found = estimated(5172)
    assert (found.labelled, found.unlabelled, found.quota) == (258, 4914, 516)
    assert estimated(5172, ratio=10).labelled == 517


def test_the_cost_is_steps_and_predictions_by_hand():
    found = estimated(
        40,
        ratio=10,
        batch_size=4,
        baseline_epochs=100,
        student_epochs=50,
        least_steps=0,
        max_iterations=3,
        strategies="naive,class_balanced",
    )
    labelled_tiles, pool_tiles = 4 * 4, 36 * 4
    baseline = 100 * labelled_tiles // 4
    naive = 3 * 50 * (labelled_tiles + pool_tiles) // 4
    balanced = 3 * 50 * (labelled_tiles + 2 * labelled_tiles) // 4
    assert found.training_steps == baseline + naive + balanced
    assert found.predicted_tiles == 2 * 3 * pool_tiles + (1 + 2 * 3) * SCORED_TILES
    models = 1 + 2 * 3
    assert found.seconds == pytest.approx(
        0.5 * found.training_steps + 0.125 * found.predicted_tiles + SECONDS_PER_MODEL * models
    )
    picture = SIDE * SIDE
    store, maps, labels = 2 * 60 * picture, 36 * picture * (1 + 2 * 2), 3 * (36 + 2 * 4) * picture
    network = build_network(NetworkSettings(), seed=0)
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()
    )
    assert found.disk_bytes == store + maps + labels + weights * (5 * (1 + 2 * 3) + 21)


def test_the_least_time_is_that_of_one_student_per_strategy_and_the_most_that_of_all():
    settings: dict[str, object] = {"ratio": 10, "strategies": "naive,class_balanced"}
    several, one = (estimated(40, max_iterations=number, **settings) for number in (3, 1))
    assert several.least_seconds == pytest.approx(one.seconds)
    assert one.least_seconds == pytest.approx(one.seconds)
    assert several.seconds > 1.5 * several.least_seconds


def test_the_times_of_the_phases_add_up_to_that_of_the_run_and_have_the_titles_of_the_plan():
    config = build(
        {
            "ratio": 10,
            "strategies": "naive,ema_consistency,ensemble,supervised_long",
            "ensemble_networks": 3,
        }
    )
    drawn = store_plan(40)
    split = preparation.draw(config, drawn.micrographs, tile_px=256)
    speed = {"step_seconds": 0.5, "tile_seconds": 0.125}
    phases = phase_seconds(config, drawn, split, **speed)
    assert sum(phases.values()) == pytest.approx(estimate(config, drawn, split, **speed).seconds)
    titles = [
        phase.title
        for phase in plan(
            config.selection.strategies,
            iterations=config.loop.max_iterations,
            ensemble_networks=config.loop.ensemble_networks,
        )
    ]
    assert sorted(phases) == sorted(titles[1:])


def to_write(*, store_is_there: bool, finished: tuple[str, ...] = (), **settings: object) -> int:
    config = build({"ratio": 10, "strategies": "naive,class_balanced", **settings})
    drawn = store_plan(40)
    split = preparation.draw(config, drawn.micrographs, tile_px=256)
    return bytes_to_write(config, drawn, split, store_is_there=store_is_there, finished=finished)


def test_what_is_there_already_is_not_written_again():
    store = 2 * 60 * SIDE * SIDE
    assert to_write(store_is_there=False) - to_write(store_is_there=True) == store
    assert 0 < to_write(store_is_there=True, finished=("naive",)) < to_write(store_is_there=True)
    assert to_write(store_is_there=True, finished=("naive", "class_balanced")) == 0


def test_a_baseline_alone_writes_no_map_of_the_pool():
    alone, once = (to_write(store_is_there=True, max_iterations=count) for count in (0, 1))
    assert 0 < alone < once - SIDE * SIDE * 36


def test_zero_iterations_cost_the_baseline_alone():
    found = estimated(40, ratio=10, max_iterations=0, least_steps=0)
    assert (found.training_steps, found.predicted_tiles) == (100 * 4, SCORED_TILES)


def test_every_view_of_a_scored_model_is_counted():
    one, eight = (
        estimated(40, max_iterations=0, views=views, eight_views=False).predicted_tiles
        for views in (1, 8)
    )
    assert eight - one == 7 * 2 * 20 * 4


def test_the_second_scoring_predicts_eight_views_once_and_is_free_where_they_are_the_first():
    one, both = (
        estimated(40, max_iterations=0, eight_views=eight).predicted_tiles
        for eight in (False, True)
    )
    assert both - one == 8 * 20 * 4
    assert estimated(40, max_iterations=0, views=8, eight_views=True) == estimated(
        40, max_iterations=0, views=8, eight_views=False
    )


def test_the_control_predicts_nothing_of_the_pool_and_trains_once():
    found = estimated(40, ratio=10, strategies="supervised_long", least_steps=0)
    assert found.predicted_tiles == 2 * SCORED_TILES
    assert found.training_steps == 100 * 4 + 50 * 40


def test_an_ensemble_trains_all_its_networks_but_the_baseline_and_scores_them_all_at_its_end():
    settings = {"ratio": 10, "strategies": "ensemble", "least_steps": 0, "ensemble_networks": 3}
    found = estimated(40, **settings)
    watched, scored = 10 * 10 * 4, (2 * 20 + 8 * 20) * 4
    assert found.predicted_tiles == SCORED_TILES + 2 * watched + 3 * scored
    assert found.training_steps == 100 * 4 + 2 * 50 * 40
    more, less = (
        to_write(store_is_there=True, strategies="ensemble", ensemble_networks=count)
        for count in (3, 2)
    )
    one = to_write(store_is_there=True, strategies="supervised_long")
    assert more - less == 5 * (less - one) > 0


def test_an_average_of_the_weights_is_in_the_checkpoints_whichever_arm_has_it():
    plain, all_arms, one = (
        to_write(store_is_there=True, **settings)
        for settings in (
            {},
            {"average_decay": 0.9},
            {"strategy_settings": ("naive.average_decay=0.9",)},
        )
    )
    assert plain < all_arms == one


def test_few_tiles_are_passed_over_until_the_least_steps_are_done():
    few = estimated(
        40,
        ratio=10,
        baseline_epochs=1,
        student_epochs=1,
        max_iterations=1,
        least_steps=70,
        strategies="naive",
    )
    assert few.training_steps == 2 * 70


def test_tiles_as_the_unit_count_four_times_as_many_items():
    found = estimated(40, ratio=10, label_unit="tile")
    assert (found.labelled, found.unlabelled, found.quota) == (16, 144, 32)


def test_more_of_anything_never_costs_less():
    base = estimated(40, ratio=10)
    for change in (
        {"max_iterations": 4},
        {"student_epochs": 60},
        {"strategies": "naive,class_balanced,naive+quota"},
    ):
        assert estimated(40, **{"ratio": 10, **change}).seconds > base.seconds
    assert estimated(80, ratio=10).disk_bytes > base.disk_bytes
