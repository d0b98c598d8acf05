"""The picture of one pseudo-labelled micrograph under each strategy: from a real teacher, and the one that is committed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from cryossl.config_file import build
from cryossl.data.labels import IGNORE, PARTICLE
from cryossl.pages.palette import BLUE, ORANGE
from cryossl.strategy_names import BASES, CONTROLS
from scripts import strategy_picture

LABELLING = sorted(name for name in BASES if name not in CONTROLS)
TINY = {
    "ratio": 30,
    "batch_size": 2,
    "learning_rate": 0.01,
    "decoder_width": 4,
    "least_steps": 0,
    "baseline_epochs": 8,
    "validations": 2,
    "naive_threshold": 0.5,
}
LARGEST_BYTES = 400_000


@pytest.fixture(scope="module")
def selected(tiny_data, tmp_path_factory):
    """A teacher of the tiny data, and what every strategy selects from its answers."""
    experiment = strategy_picture.open_experiment(
        build({**TINY, "data": str(tiny_data), "work": str(tmp_path_factory.mktemp("work"))})
    )
    teacher = experiment.fit(experiment.split.labelled, None, iteration=0, on_epoch=lambda _: None)
    return experiment, teacher, strategy_picture.select_all(experiment, teacher)


@pytest.fixture(scope="module")
def panels(selected):
    experiment, teacher, selections = selected
    return strategy_picture.panels(
        experiment, teacher, selections, strategy_picture.most_kept(experiment, selections)
    )


def annotated(experiment) -> list[str]:
    """The micrographs of the pool of which a truth is known, though not to any strategy."""
    return [
        name for name in experiment.split.unlabelled if experiment.store.micrographs[name].annotated
    ]


def test_every_strategy_that_labels_has_its_panel_behind_micrograph_truth_and_teacher(
    selected, panels
):
    assert [panel.title for panel in panels[:3]] == ["micrograph", "truth", "teacher's p"]
    shown = ", ".join(panel.title for panel in panels[3:])
    assert [name for name in LABELLING if name not in shown] == []
    assert sorted(strategy_picture.named(selected[2])) == LABELLING


def test_the_micrograph_is_of_the_pool_and_no_other_is_kept_by_more_strategies(selected):
    experiment, _, selections = selected
    kept = {
        name: sum(name in one.ids for one in selections.values()) for name in annotated(experiment)
    }
    assert kept[strategy_picture.most_kept(experiment, selections)] == max(kept.values())


def test_each_panel_of_labels_shows_the_shares_that_the_selection_counted(selected, panels):
    experiment, _, selections = selected
    micrograph = strategy_picture.most_kept(experiment, selections)
    titles = {
        title: panel
        for panel in panels
        for title in panel.title.split(", ")
        if panel.kind == "labels"
    }
    compared = 0
    for title, one in selections.items():
        if not one.soft and micrograph in one.ids:
            found, pixels = one.assessments[micrograph], titles[title].pixels
            assert (np.mean(pixels == PARTICLE), np.mean(pixels == IGNORE)) == (
                found.particle_ratio,
                found.ignored_fraction,
            )
            assert titles[title].note == (
                f"{100 * found.particle_ratio:.1f}% particle, "
                f"{100 * found.ignored_fraction:.1f}% ignored"
            )
            compared += 1
    assert compared >= 4


def test_a_student_hears_nothing_of_a_micrograph_that_its_strategy_leaves_out(selected):
    experiment, teacher, selections = selected
    left_out = next(
        name for name in annotated(experiment) if name not in selections["curriculum"].ids
    )
    shown = strategy_picture.panels(experiment, teacher, selections, left_out)
    (panel,) = [one for one in shown if "curriculum" in one.title]
    assert set(np.unique(panel.pixels)) == {IGNORE}


def test_particle_is_drawn_blue_the_ignored_orange_and_background_as_light_as_paper(
    selected, panels
):
    truth = panels[1].pixels
    figure = strategy_picture.drawn(panels, truth)
    drawn = {
        axes.get_title(loc="left").replace("\n", " "): axes.images[0]
        for axes in figure.axes
        if axes.images
    }
    assert set(drawn) == {panel.title for panel in panels}
    painted = drawn[panels[3].title]
    colours = painted.to_rgba(painted.get_array())[..., :3]
    for label, colour in ((PARTICLE, BLUE), (IGNORE, ORANGE), (0, strategy_picture.PAPER)):
        here = panels[3].pixels == label
        np.testing.assert_allclose(
            colours[here], np.broadcast_to(to_rgb(colour), (here.sum(), 3)), atol=1e-6
        )


def test_the_committed_picture_shows_every_strategy_there_is_and_stands_in_the_method():
    path = strategy_picture.PICTURE
    with Image.open(path) as picture:
        shown = picture.text[strategy_picture.SHOWN].split(",")
    assert sorted(shown) == LABELLING, "run `python -m scripts.strategy_picture`"
    assert path.stat().st_size < LARGEST_BYTES
    method = (Path(__file__).resolve().parents[2] / "docs" / "method.md").read_text(
        encoding="utf-8"
    )
    assert f"](images/{path.name})" in method
