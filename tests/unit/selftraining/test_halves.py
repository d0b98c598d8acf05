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
from cryossl.errors import DataError
from cryossl.evaluation.metrics import histogram
from cryossl.network.checkpoints import load_weights
from cryossl.progress.events import silent
from cryossl.pseudolabels.recipe import Learning
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining.models import Committee, Inference
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
        "naive_threshold": 0.5,
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


def test_one_micrograph_is_divided_between_its_tiles_and_several_are_dealt_out(dataset, tmp_path):  # noqa: F811
    store = make_store(dataset, tmp_path / "stores")
    names = ["train/b_2.png", "train/a_1.png", "train/b_1.png"]
    first, second = halves_of(store, names)
    assert {micrograph_of(item) for item in first} == {"train/a_1.png", "train/b_2.png"}
    assert {micrograph_of(item) for item in second} == {"train/a_1.png", "train/b_1.png"}
    whole = owned(store, (*first, *second))
    assert sorted(whole) == sorted(names)
    assert all((count == 1).all() for count in whole.values())
    left, right = (owned(store, half)["train/a_1.png"] for half in (first, second))
    width = left.shape[1]
    assert left[0, 0] == right[-1, -1] == 1
    assert left[:, : width // 2].sum() > left[:, width // 2 :].sum()


def test_the_cut_leaves_particles_on_both_sides(dataset, tmp_path):  # noqa: F811
    """Both are in the left half, one above the other: the cut is between the tiles of a column."""
    boxes = {"a_1": [BOX, (20.0, 50.0, 8.0, 8.0)], "a_2": None, "b_1": [], "b_2": [BOX]}
    data = replace(dataset, train=make_part(dataset.root, "train", boxes))
    store = make_store(data, tmp_path / "stores")
    for half in halves_of(store, [LABELLED]):
        assert store.particle_ratio(half) > 0


def test_a_half_without_a_particle_is_refused(dataset, tmp_path):  # noqa: F811
    store = make_store(dataset, tmp_path / "stores", tile_px=64)
    names = ["train/b_1.png", "train/b_2.png"]
    with pytest.raises(DataError, match="one half of the 2 labelled has no particle; label more"):
        halves_of(store, names)
    assert halves_of(store, [*names, LABELLED]) == ((LABELLED, "train/b_1.png"), ("train/b_2.png",))


@pytest.mark.parametrize("student", ["none", "warm", "taught"])
def test_the_network_that_predicts_a_half_does_not_know_its_labels(dataset, tmp_path, student):  # noqa: F811
    """The box in the left half moves: all change but the network that lacks that half.

    So it is with a student that begins with the teacher's weights or learns from its pseudo-labels.
    """
    found = []
    for number, box in enumerate((BOX, (20.0, 40.0, 8.0, 8.0))):
        experiment = experiment_of(moved(dataset, box), tmp_path / str(number))
        settings = {"on_epoch": lambda _: None}
        model = experiment.fit(SPLIT.labelled, None, iteration=0, **settings)
        if student != "none":
            recipe = recipe_for("naive", CONFIG.selection)
            taught = student == "taught"
            model = experiment.fit(
                SPLIT.labelled,
                experiment.pseudo_label(model, SPLIT.unlabelled, recipe) if taught else None,
                iteration=1,
                learning=Learning(warm_start=not taught),
                teacher=model,
                **settings,
            )
        found.append(model)
    before, after = found
    assert not same(before, after)
    assert same(before.lacking[0], after.lacking[0])
    assert not same(before.lacking[1], after.lacking[1])


def test_pseudo_labels_of_each_teacher_are_its_own(dataset, tmp_path):  # noqa: F811
    experiment = experiment_of(dataset, tmp_path)
    model = experiment.fit(SPLIT.labelled, None, iteration=0, on_epoch=lambda _: None)
    recipe = recipe_for("naive", CONFIG.selection)
    selected = experiment.pseudo_label(model, SPLIT.unlabelled, recipe)
    assert selected.ids
    assert len({one.stage.key for one in (selected, *selected.lacking)}) == 3


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
    in_second = owned(experiment.store, halves_of(experiment.store, SPLIT.labelled)[1])[LABELLED]

    def predicted(by, name):
        inference = Inference(
            CONFIG, experiment.store, Stages(tmp_path), device=torch.device("cpu"), precision="fp32"
        )
        return dict(inference.predict(inference.load(by, "last"), [name]))[name].copy()

    lacking = [predicted(model.without_half(number), LABELLED) for number in (0, 1)]
    expected = np.where(in_second, lacking[1], lacking[0])
    shown = dict(experiment.probabilities(model, [LABELLED]))
    assert np.array_equal(shown[LABELLED], expected)
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
    steps = [one.steps for one in (model, *model.lacking)]
    halves = halves_of(experiment.store, SPLIT.labelled)
    assert steps == [6, *(round(6 * len(half) / 4) for half in reversed(halves))]
    trained = [event for event in seen if event.phase == "train"]
    assert {event.total for event in trained} == {12}
    assert [event.done for event in trained] == sorted(event.done for event in trained)
    assert trained[-1].done == 12
    assert [one.step for one in epochs][-1] == 6
    assert {one.validation_f1 for one in epochs} == {None}  # there is nothing that it did not learn
    assert model.best_step == 6
