"""Tuning never reads the test part: replaced labels move no trial, poisoned ones are never met; and how single trials end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_folders import without_test_part

from cryossl.config_file import build
from cryossl.data.store.store import PixelFile, Store
from cryossl.network.checkpoints import Checkpoint
from cryossl.progress.events import silent
from cryossl.tuning.trial import (
    Ground,
    Result,
    SeedPlace,
    Task,
    best_student,
    evaluated,
    points_done,
    run_trial,
)

pytestmark = pytest.mark.timeout(1800)

SETTINGS = {
    "ratio": 30,
    "batch_size": 2,
    "learning_rate": 0.01,
    "decoder_width": 4,
    "threads": 1,
    "least_steps": 0,
    "baseline_epochs": 20,
    "student_epochs": 8,
    "max_iterations": 1,
    "validations": 1,
    "naive_threshold": 0.5,
    "strategies": "naive,soft",
}


def config_of(data: Path, work: Path, **changes: object):
    return build({**SETTINGS, "data": str(data), "work": str(work), **changes})


def with_other_test_labels(
    data: Path, to: Path, *, part: str = "test", names: frozenset[str] | None = None
) -> Path:
    """A copy in which the particles of the test part lie anywhere and have any size.

    `part` and `names`: where the test micrographs lie, all of the part unless they are named.
    """
    shutil.copytree(data, to)
    sources = json.loads((data / "simulation.json").read_text())["micrographs"]
    (to / "sources.csv").write_text(
        "file,source\n" + "".join(f"{name},{one['source']}\n" for name, one in sources.items())
    )
    file = to / "annotations" / f"instances_{part}.json"
    content = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    meant = {one["id"] for one in content["images"] if names is None or one["file_name"] in names}
    records = [one for one in content["annotations"] if one["image_id"] in meant]
    assert records
    for record in records:
        x, y = (float(place) for place in rng.uniform(0, 48, 2))
        width, height = (float(side) for side in rng.uniform(2, 40, 2))
        record.update(bbox=[x, y, width, height], area=width * height, segmentation=[])
    file.write_text(json.dumps(content))
    return to


class Poisoned(PixelFile):
    """A file of the store that must not be read at some places."""

    def __init__(self, file: PixelFile, forbidden: set[int]) -> None:
        self.file, self.forbidden = file, forbidden

    def view(self, offset: int, height_px: int, width_px: int):
        assert offset not in self.forbidden, "a label of the test part was read"
        return self.file.view(offset, height_px, width_px)


def poisoned(store: Store) -> Store:
    """The store without the labels of its test part, and without their centres."""
    tested = [one for one in store.micrographs.values() if one.part == "test"]
    maps = {one.truth_offset for one in tested if one.truth_offset is not None}
    centres = {16 * store._first_centre[one.id] for one in tested if one.particle_count}
    assert maps
    assert centres
    return replace(
        store, _truth=Poisoned(store._truth, maps), _centres=Poisoned(store._centres, centres)
    )


def test_replaced_labels_of_the_test_part_move_no_number_of_a_trial(tiny_data, tmp_path):
    results = []
    other = with_other_test_labels(tiny_data, tmp_path / "other")
    for name, data in (("true", tiny_data), ("other", other)):
        config = config_of(data, tmp_path / name)
        for strategy in ("naive", "soft"):
            folder = tmp_path / f"{name}_{strategy}"
            folder.mkdir()
            results.append(evaluated(Task("k", config, strategy, (1000,)), folder, silent))
        ids = {
            micrograph
            for file in (tmp_path / name / "stages" / "evaluate").glob("*/stage.json")
            for micrograph in json.loads(file.read_text())["inputs"]["micrographs"]
        }
        assert {one.partition("/")[0] for one in ids} == {"val"}
    true, noise = results[:2], results[2:]
    assert [one.values for one in true] == [one.values for one in noise]
    assert [one.points for one in true] == [one.points for one in noise]
    assert all(0 < one.value < 1 for one in true)


def test_replaced_labels_of_the_half_that_is_test_for_all_seeds_move_no_number(tiny_data, tmp_path):
    data = without_test_part(tiny_data, tmp_path / "data")
    aside = {
        SeedPlace(
            Ground(config_of(data, tmp_path / "work", test_half="fixed"), silent), seed
        ).experiment.split.test
        for seed in (0, 1000, 1001)
    }
    (names,) = aside
    other = with_other_test_labels(
        data,
        tmp_path / "other",
        part="val",
        names=frozenset(name.partition("/")[2] for name in names),
    )
    results = []
    for place in (data, other):
        config = config_of(place, tmp_path / f"work {place.name}", test_half="fixed")
        folder = tmp_path / f"trial {place.name}"
        folder.mkdir()
        results.append(evaluated(Task("k", config, "naive", (1000,)), folder, silent))
    assert results[0].values == results[1].values
    assert results[0].points == results[1].points
    assert 0 < results[0].value < 1


@pytest.mark.parametrize("headline", [1, 8])
def test_a_poisoned_label_of_the_test_part_is_never_met(tiny_data, tmp_path, headline):
    config = config_of(tiny_data, tmp_path / "work", headline_views=headline)
    ground = Ground(config, silent)
    ground.store = poisoned(ground.store)
    place = SeedPlace(ground, 1000)
    baseline = place.baseline()
    value = best_student("soft", place, baseline, lambda _record, _steps: None)
    assert 0 < value < 1
    with pytest.raises(AssertionError, match="a label of the test part was read"):
        place.experiment.evaluate(baseline, "test")


def test_a_trial_is_given_up_below_the_bar_and_leaves_no_training(tiny_data, tmp_path):
    config = config_of(tiny_data, tmp_path / "work", validations=4)
    task = Task("k", config, "soft", (1000, 1001), {0: 1.0, 1: 1.0})
    result = evaluated(task, tmp_path, silent)
    assert result.state == "pruned"
    assert result.reason.startswith("point 1: validation F1 ")
    assert "the median of earlier trials is 100.00" in result.reason
    assert (list(result.points), result.values) == ([0], {})
    assert not list((tmp_path / "work" / "stages" / "train").glob("*.partial"))
    # A start after a kill has the curve, and comes to the same end.
    assert evaluated(task, tmp_path, silent) == result


def test_a_trial_that_another_run_has_trained_already_is_given_up_at_the_same_point(
    tiny_data, tmp_path
):
    config = config_of(tiny_data, tmp_path / "work", validations=4)
    folders = [tmp_path / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
    whole = evaluated(Task("k", config, "soft", (1000,)), folders[0], silent)
    assert {0, 1} <= set(whole.points)
    cut = evaluated(Task("k", config, "soft", (1000,), {1: 1.0}), folders[1], silent)
    assert cut.state == "pruned"
    assert cut.reason.startswith("point 2: validation F1 ")
    assert cut.points == {point: whole.points[point] for point in (0, 1)}


def test_a_trial_that_keeps_no_pseudo_label_is_pruned_with_the_reason(tiny_data, tmp_path):
    config = config_of(tiny_data, tmp_path / "work", strategy_settings="naive.naive_threshold=1")
    result = evaluated(Task("k", config, "naive", (1000,)), tmp_path, silent)
    assert (result.state, result.values) == ("pruned", {})
    assert result.reason == "seed 1000: no pseudo-label was kept"


def interrupted(*, share: float):
    """A report that interrupts a training when this share of its steps is done."""

    def report(event) -> None:
        if event.phase == "train" and event.done == int(event.total * share):
            raise KeyboardInterrupt

    return report


def test_a_trial_whose_loss_is_not_finite_is_failed_with_the_reason(tiny_data, tmp_path):
    """Its student goes on from a checkpoint in which every weight is NaN."""
    config = config_of(tiny_data, tmp_path / "work")
    task = Task("k", config, "naive", (1000,))
    SeedPlace(Ground(config, silent), 1000).baseline()
    with pytest.raises(KeyboardInterrupt):
        evaluated(task, tmp_path, interrupted(share=0.8))
    (partial,) = (tmp_path / "work" / "stages" / "train").glob("*.partial")
    checkpoint = Checkpoint(partial / "checkpoint")
    saved = checkpoint.load()
    for tensor in saved["network"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    checkpoint.save(saved)
    result = evaluated(task, tmp_path, silent)
    assert (result.state, result.values) == ("failed", {})
    assert result.reason.startswith("loss nan")


def test_a_trial_that_is_interrupted_and_goes_on_ends_with_the_same_curve(tiny_data, tmp_path):
    results = []
    for name in ("calm", "stopped"):
        config = config_of(tiny_data, tmp_path / name, validations=4)
        SeedPlace(Ground(config, silent), 1000).baseline()
        folder = tmp_path / f"{name}_trial"
        folder.mkdir()
        task = Task("k", config, "soft", (1000,))
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                evaluated(task, folder, interrupted(share=0.7))
            assert points_done(folder, "k") == 1
        results.append((evaluated(task, folder, silent), (folder / "curves.json").read_bytes()))
    assert results[0] == results[1]


def test_a_task_is_done_once_and_its_result_is_of_its_key(tiny_data, tmp_path):
    config = config_of(tiny_data, tmp_path / "work")
    task = Task("k", config, "naive", (1000,), {1: 0.25})
    file = task.write(tmp_path / "trial")
    assert Task.read(file) == task
    run_trial(file)
    result = Result.read(tmp_path / "trial", "k")
    assert result is not None
    assert result.state in ("complete", "pruned")
    assert Result.read(tmp_path / "trial", "other") is None
    before = (tmp_path / "trial" / "result.json").stat().st_mtime_ns
    run_trial(file)
    assert (tmp_path / "trial" / "result.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "k"}', '{"key": "k", "state": 1}'])
def test_a_damaged_result_counts_as_none(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    assert Result.read(tmp_path, "k") is None
