"""What a teacher is to the runs below one work folder: its maps are shared, and a warm start takes its weights."""

from __future__ import annotations

import threading

import pytest
import torch
from small_stores import dataset, make_store  # noqa: F401 (a fixture)

from cryossl.config_file import build
from cryossl.data.splits import Split
from cryossl.network.architecture import build as build_network
from cryossl.network.checkpoints import load_weights
from cryossl.progress.events import silent
from cryossl.pseudolabels.recipe import Learning
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining.steps import Experiment
from cryossl.system.stages import Stages

CONFIG = build(
    {
        "decoder_width": 4,
        "batch_size": 2,
        "baseline_epochs": 1,
        "least_steps": 0,
        "validations": 1,
        "naive_threshold": 0.5,
        "target_particle_ratio": 0.1,
    }
)


@pytest.fixture
def new_experiment(dataset, tmp_path):  # noqa: F811
    store = make_store(dataset, tmp_path / "stores")
    split = Split(
        labelled=("train/a_1.png",),
        unlabelled=("train/a_2.png", "train/b_1.png", "train/b_2.png"),
        validation=("val/a_3.png",),
        test=("test/b_3.png",),
    )
    return lambda report: Experiment(
        CONFIG,
        store,
        split,
        Stages(tmp_path / "stages"),
        device=torch.device("cpu"),
        precision="fp32",
        report=report,
    )


def maps(tmp_path) -> list[str]:
    return [path.name for path in tmp_path.rglob("probabilities-*")]


def test_a_run_that_ends_leaves_the_maps_that_another_selects_from(new_experiment, tmp_path):
    ends = new_experiment(silent)
    teacher = ends.fit(ends.split.labelled, None, iteration=0, on_epoch=lambda _: None)
    ends.pseudo_label(teacher, ends.split.unlabelled, recipe_for("naive", CONFIG.selection))
    assert len(maps(tmp_path)) == 1
    left = []

    def end_the_other(event):
        if event.phase == "assess" and event.done == 1:
            other = threading.Thread(target=ends.finish)
            other.start()
            other.join(timeout=60)
            left.extend([other.is_alive(), maps(tmp_path)])

    selects = new_experiment(end_the_other)
    found = selects.pseudo_label(
        teacher, selects.split.unlabelled, recipe_for("class_balanced", CONFIG.selection)
    )
    assert len(found) == 2
    assert left == [False, ["probabilities-00000.u8"]]
    selects.finish()
    assert maps(tmp_path) == []


def test_maps_that_another_run_has_removed_are_made_again(new_experiment, tmp_path):
    ends, selects = new_experiment(silent), new_experiment(silent)
    teacher = ends.fit(ends.split.labelled, None, iteration=0, on_epoch=lambda _: None)
    first = ends.pseudo_label(teacher, ends.split.unlabelled, recipe_for("naive", CONFIG.selection))
    ends.finish()
    assert maps(tmp_path) == []
    again = selects.pseudo_label(
        teacher, selects.split.unlabelled, recipe_for("naive+quota", CONFIG.selection)
    )
    assert set(again.assessments) == set(first.assessments)
    assert again.assessments == first.assessments


def test_only_the_maps_of_the_teacher_that_others_need_stay(new_experiment, tmp_path):
    experiment = new_experiment(silent)
    fit = {"iteration": 0, "on_epoch": lambda _: None}
    first = experiment.fit(experiment.split.labelled, None, **fit)
    second = experiment.fit(experiment.split.labelled, None, **fit, steps=9)
    for teacher in (first, second):
        recipe = recipe_for("naive", CONFIG.selection)
        experiment.pseudo_label(teacher, experiment.split.unlabelled, recipe)
    both = set(tmp_path.glob("stages/predict/*/probabilities-*"))
    assert len(both) == 2
    experiment.finish(but_of=first)
    kept = set(tmp_path.glob("stages/predict/*/probabilities-*"))
    assert len(kept) == 1
    assert kept < both
    experiment.pseudo_label(
        first, experiment.split.unlabelled, recipe_for("soft", CONFIG.selection)
    )
    experiment.finish()
    assert maps(tmp_path) == []


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Euclidean, over all trained weights."""
    return sum(float((ours[name] - theirs[name]).square().sum()) for name in ours) ** 0.5


def test_a_warm_start_begins_with_the_teachers_weights_and_any_other_student_with_fresh_ones(
    new_experiment,
):
    """One step moves a weight by about the learning rate; the teacher went ten times as far."""
    experiment = new_experiment(silent)
    settings = {"on_epoch": lambda _: None}
    initial = build_network(CONFIG.network, seed=CONFIG.split.seed)
    fresh = {name: one.detach() for name, one in initial.named_parameters()}

    def weights(model) -> dict[str, torch.Tensor]:
        saved = load_weights(model.stage.folder / "last.safetensors")
        return {name: saved[name] for name in fresh}

    labelled = experiment.split.labelled
    teacher = experiment.fit(labelled, None, iteration=0, steps=10, **settings)
    cold, warm = (
        experiment.fit(
            labelled,
            None,
            iteration=1,
            steps=1,
            learning=Learning(warm_start=warm_start),
            teacher=teacher,
            **settings,
        )
        for warm_start in (False, True)
    )
    moved = distance(weights(teacher), fresh)
    assert distance(weights(warm), weights(teacher)) < 0.5 * moved
    assert distance(weights(cold), fresh) < 0.5 * moved
