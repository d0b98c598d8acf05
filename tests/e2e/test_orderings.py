"""Orderings on the embedded data that must hold by construction: one real teacher, cut short so that all takes a few minutes.

Each test says what guarantees it; how far `prior_match` holds is bounded as measured. What nothing
guarantees is not asserted, and docs/log.md has what was measured of it: a student that ignores
doubtful pixels need not score higher than one that learns them as background.
"""

from __future__ import annotations

import copy

import pytest

from cryossl.config import SelectionSettings
from cryossl.config_file import build
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.strategies import recipe_for
from cryossl.selftraining.models import Model
from cryossl.selftraining.records.result_files import file_prefix
from cryossl.selftraining.steps import Experiment
from scripts.strategy_picture import open_experiment

SETTINGS = {
    "threads": "1",
    "seed": "1",
    "least_steps": "0",
    "baseline_epochs": "60",
    "student_epochs": "2",
    "validations": "4",
    "max_iterations": "1",
}
COLLAPSING = "class_balanced+calibrated"  # calibrated: then no pixel is as good as certain
TOLERATED = 1.5  # of the prior, by prior_match


@pytest.fixture(scope="module")
def lab(new_lab):
    """The data are those that come with the program."""
    return new_lab("synthetic")


@pytest.fixture(scope="module")
def experiment(lab) -> Experiment:
    return open_experiment(build({**SETTINGS, "work": str(lab.work)}))


@pytest.fixture(scope="module")
def teacher(experiment) -> Model:
    """120 steps on five micrographs: it finds too much particle in two of the three sources."""
    return experiment.fit(experiment.split.labelled, None, iteration=0, on_epoch=lambda _: None)


def selected(experiment: Experiment, teacher: Model, strategy: str, **settings: str) -> Selected:
    recipe = recipe_for(strategy, SelectionSettings(**settings))
    return experiment.pseudo_label(teacher, experiment.split.unlabelled, recipe)


def test_a_label_that_ignores_doubtful_pixels_misses_less_than_one_that_calls_them_background(
    experiment, teacher
):
    """Both keep the same images and call the same pixels particle, so what they find is equally right.

    What is doubtful is silent in the one and background in the other: every particle pixel among it
    is a miss of the other.
    """
    one, other = (
        selected(experiment, teacher, "naive", uncertain_pixels=choice)
        for choice in ("ignore", "background")
    )
    assert one.summary.ignored_fraction > other.summary.ignored_fraction == 0
    assert one.ids == other.ids
    assert one.summary.particle_ratio == other.summary.particle_ratio > 0
    assert one.summary.particle_ratio_valid > other.summary.particle_ratio_valid
    ignoring, learning = (experiment.pool.audit(each) for each in (one, other))
    assert (ignoring.tp, ignoring.fp) == (learning.tp, learning.fp)
    assert 0 < ignoring.fn < learning.fn


def test_the_labelled_part_sets_how_much_particle_the_labels_of_quantile_hold_in_each_source(
    experiment, teacher
):
    """BACKGROUND takes its portion or more, for the bulk of a sure teacher has one stored value;

    PARTICLE follows it.

    So the ratio of the two is the prior's wherever the teacher finds as many particles above 1/2.
    The ring that is left out of the background is what it may exceed it by.
    """
    found = selected(experiment, teacher, "quantile")
    portion = recipe_for("quantile", SelectionSettings()).selection.portion
    ratios = found.summary.particle_ratio_by_source
    assert set(ratios) == set(experiment.priors.by_source) == {"barrel", "dumbbell", "tetramer"}
    for source, prior in experiment.priors.by_source.items():
        items = [
            one for name, one in found.assessments.items() if experiment.pool.source(name) == source
        ]
        share = sum(one.particle_pixels for one in items) / sum(one.pixels for one in items)
        assert 0.95 * portion * prior < share < 1.05 * prior
        assert ratios[source] == pytest.approx(prior, rel=0.2)


def test_prior_match_keeps_the_running_ratio_of_each_source_inside_its_band(experiment, teacher):
    """The multiplier grows while a source is beyond a factor of 1.25, so no pull of the labels outweighs it for good.

    The teacher starts outside, and without the plug-in its student is still there after 80 steps.
    Two tiles a step decide a mean of about twenty: it may be outside on the way in, and now and
    then.
    """
    settings = {"iteration": 1, "on_epoch": lambda _: None, "teacher": teacher}
    plain, matched = (
        recipe_for(f"ema_consistency{plug_in}", SelectionSettings()).learning
        for plug_in in ("", "+prior_match")
    )
    found = selected(experiment, teacher, "ema_consistency")
    free = of_the_prior(
        experiment,
        experiment.fit(experiment.split.labelled, found, learning=plain, steps=80, **settings),
    )
    assert sum(ratio > TOLERATED for ratio in free.values()) >= 2
    watched, objective = (
        copy.copy(experiment),
        Running(
            seed=1,
            iteration=1,
            loss=matched.loss,
            settings=matched.consistency,
            priors=experiment.priors.by_source,
            prior=experiment.priors.ratio,
        ),
    )
    watched._objective = lambda *_: objective
    watched.fit(experiment.split.labelled, found, learning=matched, steps=240, **settings)
    assert set(objective.ratios) == set(experiment.priors.by_source)
    for ratios in objective.ratios.values():
        settled = ratios[len(ratios) // 3 :]
        outside = sum(not 1 / TOLERATED <= ratio <= TOLERATED for ratio in settled)
        assert outside < 0.3 * len(settled)


class Running(OnlineTeacher):
    """Keeps each source's running mean prediction after every step, as a multiple of its prior, and changes nothing."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.ratios: dict[str, list[float]] = {}

    def after_step(self, network, step):
        super().after_step(network, step)
        for source, mean in self.state_dict()["means"].items():
            self.ratios.setdefault(source, []).append(mean / self._priors[source])


def of_the_prior(experiment: Experiment, model: Model) -> dict[str, float]:
    """Source -> mean prediction of a model over the pool, as a multiple of the source's prior."""
    found, expected = (
        dict.fromkeys(experiment.priors.by_source, 0.0),
        dict.fromkeys(experiment.priors.by_source, 0.0),
    )
    for name, p8 in experiment.probabilities(model, experiment.split.unlabelled):
        source = experiment.pool.source(name)
        found[source] += float(p8.sum()) / 255
        expected[source] += p8.size * experiment.priors.of(source)
    return {source: found[source] / expected[source] for source in found}


def test_labels_without_a_particle_collapse_the_student_and_every_table_counts_it(lab, teacher):
    """What the teacher is not wholly sure of becomes background:

    19 empty pictures for each labelled one.
    """
    planted = {
        **SETTINGS,
        "name": "planted",
        "strategies": COLLAPSING,
        "particle_threshold": "1",
        "background_threshold": "0",
        "max_pseudo_per_labelled": "19",
    }
    trained = len(list(lab.work.glob("stages/train/*/stage.json")))
    done = lab.call(
        "run",
        *lab.places(),
        *(
            word
            for name, value in planted.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ),
    )
    assert (done.code, done.err) == (0, "")
    assert (
        len(list(lab.work.glob("stages/train/*/stage.json"))) == trained + 1
    )  # the teacher is the one of the other tests
    numbers = lab.numbers(of="planted")
    baseline, collapsed = numbers[f"{COLLAPSING} 0"], numbers[f"{COLLAPSING} 1"]
    assert collapsed["pseudo/particle_ratio"] < 0.1 * collapsed["pseudo/target_ratio"]
    assert collapsed["test/f1"] < 0.5 * baseline["test/f1"]
    assert f"{COLLAPSING} iteration 1 collapsed" in done.out
    (arm,) = lab.file(f"{file_prefix(COLLAPSING)}_pseudolabel_ratio_5.json", of="planted")[
        "seeds"
    ].values()
    assert (arm["summary"]["stop_reason"], arm["summary"]["best_iteration"]) == ("collapsed", 0)
    run_id = arm["iterations"][1]["mlflow_run_id"]
    assert lab.asked(
        f"SELECT value FROM tags WHERE key = 'cryossl.collapsed' AND run_uuid = '{run_id}'"
    ) == [("true",)]
    (told,) = [line for line in done.out.splitlines() if line.endswith("1 (1 collapsed)")]
    assert told.split()[:2] == [COLLAPSING, f"{100 * baseline['test/f1']:.2f}"]
