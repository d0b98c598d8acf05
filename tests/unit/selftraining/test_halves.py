"""Thresholds that are chosen on the labelled part: each half is predicted by networks that lack it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_stores import BOX, dataset, make_part, make_store  # noqa: F401 (a fixture)

from cryossl.config_file import build
from cryossl.data.halves import halves_of
from cryossl.data.splits import Split
from cryossl.data.tiling import micrograph_of
from cryossl.errors import ConfigError
from cryossl.evaluation.metrics import histogram
from cryossl.network.checkpoints import load_weights
from cryossl.progress.events import silent
from cryossl.pseudolabels.recipe import Learning
from cryossl.selftraining.models import Committee
from cryossl.selftraining.steps import Experiment
from cryossl.system.stages import Stages

CONFIG = build(
    {
        "decoder_width": 4,
        "batch_size": 2,
        "baseline_epochs": 1,
        "least_steps": 6,
        "validations": 1,
        "target_particle_ratio": 0.1,
        "validation_from": "labelled",
    }
)
LABELLED = "train/a_1.png"
SPLIT = Split((LABELLED,), ("train/a_2.png", "train/b_2.png"), (LABELLED,), ("test/b_3.png",))


def experiment_of(data, folder, report=silent, config=CONFIG) -> Experiment:
    return Experiment(
        config,
        make_store(data, folder / "stores"),
        SPLIT,
        Stages(folder / "stages"),
        device=torch.device("cpu"),
        precision="fp32",
        report=report,
    )


def moved(data, box):
    """The data with another first box on the labelled micrograph, and the second as it was."""
    boxes = {"a_1": [box, (50.0, 60.0, 8.0, 8.0)], "a_2": None, "b_1": [], "b_2": [BOX]}
    return replace(data, train=make_part(data.root, "train", boxes))


def weights(model) -> dict[str, torch.Tensor]:
    return load_weights(model.stage.folder / "last.safetensors")


def same(one, other) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def owned(store, items) -> dict[str, np.ndarray]:
    """How often each pixel of a micrograph belongs to the items."""
    counts: dict[str, np.ndarray] = {}
    for item in items:
        stored = store.micrographs[micrograph_of(item)]
        count = counts.setdefault(stored.id, np.zeros((stored.height_px, stored.width_px), int))
        for y0, y1, x0, x1 in (tile.own for tile in store.tiles(item)):
            count[y0:y1, x0:x1] += 1
    return counts


def test_one_micrograph_of_a_source_is_divided_in_the_middle_and_several_are_dealt_out(
    dataset,  # noqa: F811
    tmp_path,
):
    store = make_store(dataset, tmp_path / "stores")
    names = ["train/b_2.png", "train/a_1.png", "train/b_1.png"]
    first, second = halves_of(store, names)
    assert {micrograph_of(item) for item in first} == {"train/a_1.png", "train/b_1.png"}
    assert {micrograph_of(item) for item in second} == {"train/a_1.png", "train/b_2.png"}
    whole = owned(store, (*first, *second))
    assert sorted(whole) == sorted(names)
    assert all((count == 1).all() for count in whole.values())
    left = owned(store, first)["train/a_1.png"]
    width = left.shape[1]
    assert left[:, : width // 2].all()
    assert not left[:, width - width // 2 :].any()


def test_micrographs_of_one_tile_are_dealt_out_and_one_alone_cannot_be_divided(
    dataset,  # noqa: F811
    tmp_path,
):
    store = make_store(dataset, tmp_path / "stores", tile_px=64)
    assert halves_of(store, ["train/b_2.png", "train/a_1.png"]) == (
        ("train/a_1.png",),
        ("train/b_2.png",),
    )
    with pytest.raises(ConfigError, match=r"a_1\.png, which is all of it, is a single tile"):
        halves_of(store, ["train/a_1.png"])


@pytest.mark.parametrize("warm", [False, True])
def test_the_network_that_predicts_a_half_does_not_know_its_labels(
    dataset,  # noqa: F811
    tmp_path,
    warm,
):
    """The box in the left half moves: all change but the network that lacks that half."""
    found = []
    for number, box in enumerate((BOX, (20.0, 40.0, 8.0, 8.0))):
        experiment = experiment_of(moved(dataset, box), tmp_path / str(number))
        model = experiment.fit(SPLIT.labelled, None, iteration=0, on_epoch=lambda _: None)
        if warm:
            learning = Learning(warm_start=True)
            model = experiment.fit(
                SPLIT.labelled,
                None,
                iteration=1,
                on_epoch=lambda _: None,
                learning=learning,
                teacher=model,
            )
        found.append(model)
    before, after = found
    assert not same(before, after)
    assert same(before.halves[0], after.halves[0])
    assert not same(before.halves[1], after.halves[1])


@pytest.mark.parametrize("several", [False, True])
def test_validation_is_scored_by_the_networks_that_lack_it_and_test_by_the_model(
    dataset,  # noqa: F811
    tmp_path,
    several,
):
    experiment = experiment_of(dataset, tmp_path)
    fit = {"iteration": 0, "on_epoch": lambda _: None}
    one = experiment.fit(SPLIT.labelled, None, **fit)
    two = experiment.fit(SPLIT.labelled, None, **fit, member=1)
    model = Committee((one, two)) if several else one
    middle = experiment.store.micrographs[LABELLED].width_px // 2

    def predicted(by, name):
        return dict(experiment.probabilities(by, [name]))[name].copy()

    expected = predicted(model.without_half(0), LABELLED)
    expected[:, middle:] = predicted(model.without_half(1), LABELLED)[:, middle:]
    counts = histogram(expected, experiment.store.truth(LABELLED, border=True))
    assert np.array_equal(experiment.evaluate(model, "validation").pooled(), counts)
    assert not np.array_equal(
        counts,
        histogram(predicted(model, LABELLED), experiment.store.truth(LABELLED, border=True)),
    )
    truth = experiment.store.truth("test/b_3.png", border=True)
    assert np.array_equal(
        experiment.evaluate(model, "test").pooled(),
        histogram(predicted(model, "test/b_3.png"), truth),
    )


def test_the_temperature_is_fitted_on_what_the_networks_did_not_learn(dataset, tmp_path):  # noqa: F811
    """It is that of the halves: another one than of the same network on what it learned."""
    config = CONFIG.model_copy(
        update={
            "training": CONFIG.training.model_copy(
                update={"least_steps": 300, "learning_rate": 0.01}
            )
        }
    )
    experiment = experiment_of(dataset, tmp_path, config=config)
    model = experiment.fit(SPLIT.labelled, None, iteration=0, on_epoch=lambda _: None)
    learned = config.model_copy(
        update={"split": config.split.model_copy(update={"validation_from": "part"})}
    )
    on_learned = experiment_of(dataset, tmp_path, config=learned).calibration(model)
    assert experiment.calibration(model).temperature > on_learned.temperature


def test_progress_counts_the_steps_of_all_three_trainings_as_one(dataset, tmp_path):  # noqa: F811
    seen = []
    experiment = experiment_of(dataset, tmp_path, report=seen.append)
    epochs = []
    model = experiment.fit(SPLIT.labelled, None, iteration=0, on_epoch=epochs.append)
    steps = [one.steps for one in (model, *model.halves)]
    assert steps == [6, 3, 3]
    trained = [event for event in seen if event.phase == "train"]
    assert {event.total for event in trained} == {12}
    assert [event.done for event in trained] == sorted(event.done for event in trained)
    assert trained[-1].done == 12
    assert [one.step for one in epochs][-1] == 6
