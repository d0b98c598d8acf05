"""From settings to a data set and a split: where the data lie, what may be measured, which items are labelled."""

from __future__ import annotations

import os

import numpy as np
import pytest
from coco_folders import BOXES, entries, write_part

from cryossl.config import Config
from cryossl.config_file import build
from cryossl.data.splits import Split
from cryossl.errors import ConfigError, DataError
from cryossl.progress.events import silent
from cryossl.selftraining import prepare as preparation
from cryossl.sweep.grid import cells
from cryossl.sweep.planning import prepare_cells

NAMES = [f"{source}_{number}.png" for source in ("10017", "10028") for number in range(6)]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    write_part(
        root, "train", NAMES, document=entries(NAMES[:-1])
    )  # the last is in the folder alone: unlabelled
    write_part(root, "val", ["10017_v.png", "10028_v.png", "10017_w.png", "10028_w.png"])
    return root


def prepared(folder, **settings: object) -> tuple[Config, Split]:
    config = build({"data": str(folder), "image_px": 64, "tile_px": 32, "ratio": 25, **settings})
    store_plan = preparation.sketch(config, preparation.load(config, silent))
    return config, preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px)


def test_the_ratio_counts_micrographs_and_unlabelled_ones_are_never_labelled(folder):
    _, split = prepared(folder)
    assert len(split.labelled) == 3  # a quarter of 12, and both sources
    assert {name.split("/")[1][:5] for name in split.labelled} == {"10017", "10028"}
    assert f"train/{NAMES[-1]}" in split.unlabelled
    assert sorted(split.labelled + split.unlabelled) == sorted(f"train/{name}" for name in NAMES)


def test_tiles_are_the_items_where_tiles_are_the_unit(folder):
    _, split = prepared(folder, label_unit="tile")
    assert len(split.labelled) + len(split.unlabelled) == 4 * len(NAMES)
    assert len(split.labelled) == 12
    assert all("@" in item for item in split.labelled + split.unlabelled)
    assert not any("@" in item for item in split.validation + split.test)


def test_without_a_test_part_half_of_the_validation_micrographs_become_test(folder):
    _, split = prepared(folder)
    assert (len(split.validation), len(split.test)) == (2, 2)
    write_part(folder, "test", ["10017_t.png"])
    _, split = prepared(folder)
    assert (len(split.validation), split.test) == (4, ("test/10017_t.png",))


def test_a_fixed_half_of_validation_is_the_test_of_every_seed(folder):
    by_seed = [prepared(folder, seed=seed)[1].test for seed in range(6)]
    assert len(set(by_seed)) > 1
    fixed = {prepared(folder, seed=seed, test_half="fixed")[1].test for seed in range(6)}
    assert fixed == {by_seed[0]}
    labelled = [
        prepared(folder, seed=1, test_half=half)[1].labelled for half in ("by_seed", "fixed")
    ]
    assert labelled[0] == labelled[1]


def test_a_fixed_half_is_refused_where_no_half_is_test(folder, tmp_path):
    file = tmp_path / "labelled.txt"
    file.write_text(f"{NAMES[2]}\n{NAMES[7]}\n", encoding="utf-8")
    one_micrograph = {"validation_from": "labelled", "labelled": str(file)}
    with pytest.raises(ConfigError, match="the whole validation part is test; leave it out"):
        prepared(folder, test_half="fixed", **one_micrograph)
    write_part(folder, "test", ["10017_t.png"])
    with pytest.raises(ConfigError, match="the data set has a test part; leave it out"):
        prepared(folder, test_half="fixed")


def test_tuned_settings_are_not_scored_on_another_half_for_each_seed(folder):
    tuned = {"tuned_by": "lab 0123456789ab seeds 1000-1001"}
    with pytest.raises(ConfigError, match="give --test-half fixed"):
        prepared(folder, **tuned)
    _, split = prepared(folder, test_half="fixed", **tuned)
    assert len(split.test) == 2


def test_border_and_diameter_are_not_measured_on_a_fixed_test_half(folder):
    _, split = prepared(folder, test_half="fixed")
    names = [name.partition("/")[2] for name in (*split.validation, *split.test)]
    content = entries(names)
    ids = {one["id"] for one in content["images"] if f"val/{one['file_name']}" in split.test}
    for record in content["annotations"]:
        if record["image_id"] in ids:
            record["bbox"][2:] = [30, 30]
    before = preparation.load(build({"data": str(folder), "test_half": "fixed"}), silent)
    write_part(folder, "val", names, document=content)
    after = preparation.load(build({"data": str(folder), "test_half": "fixed"}), silent)
    assert (after.border_px, after.diameter_px) == (before.border_px, before.diameter_px)
    by_seed = preparation.load(build({"data": str(folder)}), silent)
    assert by_seed.diameter_px != after.diameter_px


def test_a_micrograph_that_nobody_annotated_is_no_validation_item(folder):
    write_part(
        folder,
        "val",
        ["10017_v.png", "10028_v.png", "10017_x.png"],
        document=entries(["10017_v.png", "10028_v.png"]),
    )
    _, split = prepared(folder)
    assert not any("_x" in name for name in split.validation + split.test)


def test_the_split_does_not_depend_on_the_order_of_micrographs(folder):
    config, split = prepared(folder)
    store_plan = preparation.sketch(config, preparation.load(config, silent))
    assert (
        preparation.draw(config, store_plan.micrographs[::-1], tile_px=store_plan.tile_px) == split
    )


def test_a_labs_list_says_what_is_labelled(folder, tmp_path):
    file = tmp_path / "labelled.txt"
    file.write_text(f"# by Ann\n\n  train/{NAMES[2]}  \n{NAMES[7]}\n", encoding="utf-8")
    _, split = prepared(folder, labelled=str(file))
    assert split.labelled == (f"train/{NAMES[2]}", f"train/{NAMES[7]}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no_such.png\n", "no_such"),
        (b"\n# nothing\n", "label"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (f"{NAMES[-1]}\n".encode(), NAMES[-1]),
    ],
)
def test_a_list_that_cannot_be_followed_is_refused(folder, tmp_path, content, said):
    file = tmp_path / "labelled.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=said):
        prepared(folder, labelled=str(file))


def test_a_missing_list_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match="cannot read the labelled list"):
        prepared(folder, labelled=str(tmp_path / "absent.txt"))


def test_a_pipe_for_a_list_is_refused_and_not_waited_for(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        prepared(folder, labelled=tmp_path / "pipe")


def test_border_and_diameter_are_measured_on_validation_alone(folder):
    """Labels of the training part, most of which the experiment hides, must not shape the store."""
    before = preparation.load(build({"data": str(folder)}), silent)
    wide = [[x, y, 30, 30] for x, y, _, _ in BOXES]
    write_part(folder, "train", NAMES, document=entries(NAMES[:-1], boxes=wide))
    after = preparation.load(build({"data": str(folder)}), silent)
    assert (after.border_px, after.diameter_px) == (before.border_px, before.diameter_px)
    assert after.diameter_px == {"10017": 8.0, "10028": 8.0}
    boxes_before, boxes_after = (
        one.train.particles[f"train/{NAMES[0]}"].boxes for one in (before, after)
    )
    assert boxes_after.tolist() != boxes_before.tolist()


def test_the_embedded_data_set_is_written_once_below_the_work_folder(tmp_path):
    config = build({"work": str(tmp_path)})
    events = []
    dataset = preparation.load(config, events.append)
    assert dataset.root.is_relative_to(tmp_path)
    assert len(dataset.train.micrographs) == 100
    assert events
    events.clear()
    assert preparation.load(config, events.append).train.micrographs == dataset.train.micrographs
    assert events == []


def test_the_sketch_of_a_store_is_its_blueprint_but_for_the_key(folder):
    config, _ = prepared(folder)
    sketch = preparation.sketch(config, preparation.load(config, silent))
    assert sketch.tile_px == 32
    assert sketch.picture_bytes == 64 * 64 * 16
    assert sketch.truth_bytes == 64 * 64 * 15
    assert np.unique([one.height_px for one in sketch.micrographs]).tolist() == [64]


def test_what_would_fail_after_hours_is_refused_at_the_door(folder):
    config, split = prepared(folder)
    preparation.check(config, split, tile_px=64)
    overlapping = build({"particle_threshold": 0.1, "background_threshold": 0.2})
    with pytest.raises(ConfigError):
        preparation.check(overlapping, split, tile_px=64)
    alone = Split(split.labelled, split.unlabelled, split.validation[:1], split.test)
    with pytest.raises(ConfigError, match="accept=confident"):
        preparation.check(build({"accept": "confident"}), alone, tile_px=64)
    preparation.check(config, alone, tile_px=64)


def test_only_the_named_sources_are_kept(folder):
    _, split = prepared(folder, sources="10028", ratio=50)
    everything = (*split.labelled, *split.unlabelled, *split.validation, *split.test)
    assert everything
    assert all("10028_" in name for name in everything)
    assert len(split.labelled) + len(split.unlabelled) == 6


def test_a_source_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(
        DataError, match=r"no source '10093'; did you mean .* there are 10017 .*, 10028 "
    ):
        prepared(folder, sources="10017,10093")


def test_an_unknown_encoder_is_refused_before_the_data_are_read(tmp_path):
    config = build({"data": str(tmp_path / "absent"), "encoder": "resnet99"})
    with pytest.raises(ConfigError, match=r"no encoder 'resnet99'; did you mean resnet"):
        prepare_cells(cells(config, ratios=None, seeds=1), silent, on_note=print)


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "labelled.txt"
    path.write_text("# mine\n10017_0.png\n")
    return path


def test_where_the_labelled_micrographs_decide_the_whole_validation_part_is_test(folder, listed):
    write_part(folder, "test", ["10017_t.png"])
    _, split = prepared(folder, labelled=str(listed), validation_from="labelled", sources="10017")
    assert split.labelled == split.validation == ("train/10017_0.png",)
    assert len(split.unlabelled) == 5
    assert split.test == ("test/10017_t.png", "val/10017_v.png", "val/10017_w.png")


def test_then_border_and_diameter_are_measured_on_the_listed_micrographs_alone(folder, listed):
    settings = {
        "data": str(folder),
        "labelled": str(listed),
        "validation_from": "labelled",
        "sources": "10017",
    }
    before = preparation.load(build(settings), silent)
    narrow = [[20, 20, 3, 3], [30, 30, 3, 3]]
    write_part(
        folder,
        "val",
        ["10017_v.png", "10017_w.png"],
        document=entries(["10017_v.png", "10017_w.png"], boxes=narrow),
    )
    train = entries(NAMES[:-1], boxes=narrow)
    for annotation, box in zip(
        train["annotations"], BOXES, strict=False
    ):  # those of the listed micrograph
        annotation["bbox"] = box
    write_part(folder, "train", NAMES, document=train)
    after = preparation.load(build(settings), silent)
    assert (after.diameter_px, after.border_px) == (before.diameter_px, before.border_px)
    assert (
        preparation.load(build({**settings, "validation_from": "part"}), silent).diameter_px
        != before.diameter_px
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patience": 2}, "patience"),
        ({"model": "best"}, "model=best"),
        ({"strategies": "naive", "strategy_settings": "naive.patience=2"}, "patience"),
    ],
)
def test_no_step_is_chosen_on_what_the_network_learns_from(folder, listed, settings, said):
    settings = {"data": str(folder), "labelled": str(listed), "sources": "10017"} | settings
    _, split = prepared(folder, **settings, validation_from="labelled")
    preparation.check(build(settings), split, tile_px=32)
    with pytest.raises(ConfigError, match=f"{said} chooses a step on validation"):
        preparation.check(build({**settings, "validation_from": "labelled"}), split, tile_px=32)


@pytest.mark.parametrize("change", [{"labelled": ""}, {"label_unit": "tile"}])
def test_it_needs_whole_micrographs_that_a_list_names(folder, listed, change):
    with pytest.raises(ConfigError, match="validation_from=labelled needs whole micrographs"):
        prepared(folder, **{"labelled": str(listed), "validation_from": "labelled", **change})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("10017_7.png", "'10017_7.png' of the labelled list is not a training micrograph"),
        ("# none", "the labelled list is empty"),
        ("10017_v.png", "'10017_v.png' of the labelled list is not a training micrograph"),
        (NAMES[-1], f"'{NAMES[-1]}' of the labelled list has no annotations"),
    ],
)
def test_a_list_that_names_nothing_to_measure_on_is_blamed_before_the_diameter(
    folder, listed, names, said
):
    listed.write_text(names)
    with pytest.raises(DataError, match=said):
        prepared(folder, labelled=str(listed), validation_from="labelled", particle_diameter_px=8)


def test_the_listed_micrographs_are_found_without_their_suffix(folder, listed):
    settings = {"labelled": str(listed), "validation_from": "labelled", "particle_diameter_px": 8}
    whole = prepared(folder, **settings)
    listed.write_text("10017_0\n")
    assert prepared(folder, **settings) == whole


def test_a_strategys_own_batch_of_one_value_is_refused_as_that_of_the_run(folder):
    entries = "naive.batch_size=1"
    config, split = prepared(
        folder, strategies="naive", strategy_settings=entries, encoder_depth=5, decoder_width=4
    )
    with pytest.raises(ConfigError, match="a single value to normalise by"):
        preparation.check(config, split, tile_px=32)
