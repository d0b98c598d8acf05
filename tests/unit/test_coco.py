"""Data sets on disk: layouts, quirks, and what is refused."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from cryossl.annotations import Particles
from cryossl.coco import measured, read_dataset, scan
from cryossl.errors import DataError

SIDE = 64
BOXES = ([10, 12, 8, 8], [30, 40, 8, 8])


def write_picture(path, seed=0, *, height=SIDE, width=SIDE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, size=(height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def entries(names, boxes=BOXES, **extra):
    return {"info": [{"year": "2026"}], "categories": [{"id": 1, "name": "particle"}],
            "images": [{"id": number, "file_name": name, "height": SIDE, "width": SIDE} | extra
                       for number, name in enumerate(names)],
            "annotations": [{"id": 1 + number * len(boxes) + place, "image_id": number, "category_id": 1, "iscrowd": 1,
                             "area": box[2] * box[3], "bbox": list(box), "segmentation": []}
                            for number in range(len(names)) for place, box in enumerate(boxes)]}


def write_part(root, part, names, *, json_folder="annotations", picture_folder=None, document=None):
    folder = root / (picture_folder or part)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_picture(folder / name)
    (root / json_folder).mkdir(parents=True, exist_ok=True)
    content = entries(names) if document is None else document
    (root / json_folder / f"instances_{part}.json").write_text(
        content if isinstance(content, str) else json.dumps(content))


def write_dataset(root, *, year="", **places):
    write_part(root, f"train{year}", ["10017_a.jpg", "10017_b.png"], **places)
    write_part(root, f"val{year}", ["10017_c.jpg"], **places)
    return root


def read(root):
    return read_dataset(root, border="auto", max_megapixels=5)


def refusal(root):
    with pytest.raises(DataError) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("year", ["", "2017"])
@pytest.mark.parametrize("json_folder", ["annotations", "."])
def test_the_known_layouts_are_read(tmp_path, year, json_folder):
    dataset = read(write_dataset(tmp_path, year=year, json_folder=json_folder))
    assert [micrograph.id for micrograph in dataset.train.micrographs] == [
        f"train{year}/10017_a.jpg", f"train{year}/10017_b.png"]
    assert [micrograph.id for micrograph in dataset.validation.micrographs] == [f"val{year}/10017_c.jpg"]
    assert dataset.test is None
    particles = dataset.train.particles[f"train{year}/10017_a.jpg"]
    np.testing.assert_array_equal(particles.boxes, [[12, 10, 8, 8], [40, 30, 8, 8]])
    micrograph = dataset.train.micrographs[0]
    assert (micrograph.height_px, micrograph.width_px, micrograph.source) == (SIDE, SIDE, "10017")
    assert dataset.diameter_px == {"10017": 8.0}


def test_pictures_may_lie_under_images(tmp_path):
    write_part(tmp_path, "train", ["10017_a.jpg"], picture_folder="images/train")
    write_part(tmp_path, "val", ["10017_b.jpg"], picture_folder="images/val")
    assert read(tmp_path).train.micrographs[0].id == "images/train/10017_a.jpg"


def test_a_test_part_is_read_where_there_is_one(tmp_path):
    write_part(write_dataset(tmp_path), "test", ["10017_t.jpg"])
    assert set(read(tmp_path).parts) == {"train", "validation", "test"}


def test_a_test_part_without_labels_is_left_out_and_it_is_said(tmp_path):
    write_part(write_dataset(tmp_path), "test", ["10017_t.jpg"], document=entries(["10017_t.jpg"], boxes=()))
    dataset = read(tmp_path)
    assert dataset.test is None
    assert "test part" in dataset.notes[0]


def test_a_test_folder_without_annotations_is_left_out_and_it_is_said(tmp_path):
    write_picture(write_dataset(tmp_path) / "test" / "x.jpg")
    dataset = read(tmp_path)
    assert dataset.test is None
    assert "test/" in dataset.notes[0]


def test_a_dummy_box_and_a_picture_that_is_not_listed_mean_unlabelled(tmp_path):
    document = entries(["10017_a.jpg", "10017_d.jpg"])
    document["annotations"] = [*document["annotations"][:2], document["annotations"][2] | {
        "bbox": [0, 0, 0, 0], "iscrowd": 0, "area": 0}]
    write_dataset(tmp_path)
    write_part(tmp_path, "train", ["10017_a.jpg", "10017_d.jpg"], document=document)
    (tmp_path / "train" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "train" / "notes.txt").write_text("x")
    train = read(tmp_path).train
    assert [micrograph.id for micrograph in train.micrographs] == [
        "train/10017_a.jpg", "train/10017_b.png", "train/10017_d.jpg"]
    assert list(train.particles) == ["train/10017_a.jpg"]


def test_sizes_come_from_the_picture_where_the_entry_has_none(tmp_path):
    document = entries(["10017_a.jpg"])
    del document["images"][0]["height"], document["images"][0]["width"]
    write_dataset(tmp_path)
    write_part(tmp_path, "train", ["10017_a.jpg"], document=document)
    assert read(tmp_path).train.particles["train/10017_a.jpg"].count == 2


def test_sources_csv_names_the_source(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "sources.csv").write_text("file,source\n10017_a.jpg,apo\n*,beta\n")
    assert [micrograph.source for micrograph in read(tmp_path).train.micrographs] == ["apo", "beta"]


def test_a_source_that_could_not_stand_in_a_file_name_is_refused(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "sources.csv").write_text("file,source\n*,../x\n")
    assert "'../x' is no plain name" in refusal(tmp_path)


def test_a_pixel_size_is_kept(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "train", ["10017_a.jpg"], document=entries(["10017_a.jpg"], pixel_size_angstrom=1.77))
    assert read(tmp_path).train.micrographs[0].pixel_size_angstrom == 1.77


def test_a_given_border_replaces_the_estimate(tmp_path):
    assert read_dataset(write_dataset(tmp_path), border=7, max_megapixels=1).border_px == {"10017": 7}


def test_reading_does_not_depend_on_the_order_of_the_file(tmp_path):
    first = read(write_dataset(tmp_path))
    document = entries(["10017_a.jpg", "10017_b.png"])
    document["images"].reverse()
    document["annotations"].sort(key=lambda annotation: -annotation["id"])
    write_part(tmp_path, "train", ["10017_a.jpg", "10017_b.png"], document=document)
    second = read(tmp_path)
    assert first.train.micrographs == second.train.micrographs
    assert set(first.train.particles) == set(second.train.particles)


def test_measuring_on_visible_labels_ignores_the_hidden_ones(tmp_path):
    dataset = read(write_dataset(tmp_path))
    hidden = dict(dataset.train.particles) | {"train/10017_b.png": Particles(np.array([[1.0, 1.0, 30.0, 30.0]] * 99))}
    noisy = type(dataset)(**(vars(dataset) | {"train": type(dataset.train)(dataset.train.micrographs, hidden)}))
    visible = {"train/10017_a.jpg", "val/10017_c.jpg"}
    assert measured(noisy, border="auto", visible=None).diameter_px == {"10017": 30.0}
    assert measured(noisy, border="auto", visible=visible) == measured(noisy, border="auto", visible=sorted(visible))
    assert measured(noisy, border="auto", visible=visible).diameter_px == dataset.diameter_px
    assert measured(noisy, border="auto", visible=()).diameter_px == {}


def test_real_data_are_read_with_their_sources_diameters_and_borders(coco_public):
    dataset = read(coco_public)
    assert (len(dataset.train.micrographs), len(dataset.validation.micrographs), dataset.test) == (18, 5, None)
    assert sum(particles.count for particles in dataset.train.particles.values()) == 8522
    assert sum(particles.count for particles in dataset.validation.particles.values()) == 2197
    assert dataset.diameter_px == {"10017": 54.0, "10028": 56.0}
    # The published coordinates stop 131 px before the edge of a 4096 px picture, and 134 px for 10028.
    assert 64 <= dataset.border_px["10017"] <= 66
    assert 32 <= dataset.border_px["10028"] <= 35
    assert dataset.notes == ()


def test_half_of_the_real_labels_give_the_same_borders(coco_public):
    dataset = read(coco_public)
    few = [micrograph.id for micrograph in dataset.train.micrographs if micrograph.source == "10017"][:1]
    few += [micrograph.id for micrograph in dataset.train.micrographs if micrograph.source == "10028"][:1]
    borders = measured(dataset, border="auto", visible=few).border_px
    assert 64 <= borders["10017"] <= 70
    assert 32 <= borders["10028"] <= 37


def test_a_missing_folder_an_empty_one_and_one_without_json_are_told_apart(tmp_path):
    assert "no such folder" in refusal(tmp_path / "missing")
    assert "the folder is empty" in refusal(tmp_path)
    write_picture(tmp_path / "train" / "a.jpg")
    assert "no annotation file for train" in refusal(tmp_path)
    write_part(tmp_path, "train", ["a.jpg"])
    assert "no annotation file for validation" in refusal(tmp_path)


def test_a_missing_picture_folder_is_named(tmp_path):
    write_dataset(tmp_path)
    for path in (tmp_path / "val").iterdir():
        path.unlink()
    (tmp_path / "val").rmdir()
    assert "no such folder for the pictures of validation" in refusal(tmp_path)


def test_two_layouts_at_once_are_refused(tmp_path):
    write_dataset(tmp_path)
    write_dataset(tmp_path, year="2017")
    assert "both describe train" in refusal(tmp_path)


def test_broken_json_is_refused_with_line_and_column(tmp_path):
    write_part(write_dataset(tmp_path), "train", [], document='{"images": [],\n "annotations" [}')
    assert "instances_train.json: broken JSON at line 2, column 16" in refusal(tmp_path)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_without_a_labelled_particle_is_refused(tmp_path, part):
    name = "10017_a.jpg" if part == "train" else "10017_c.jpg"
    write_part(write_dataset(tmp_path), part, [name], document=entries([name], boxes=()))
    assert "has no labelled particle" in refusal(tmp_path)


def test_an_unreadable_picture_is_named(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "train" / "10017_a.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert refusal(tmp_path).startswith("train/10017_a.jpg: the picture cannot be read")


def test_a_missing_picture_is_named(tmp_path):
    (write_dataset(tmp_path) / "train" / "10017_a.jpg").unlink()
    assert "the picture '10017_a.jpg' is missing" in refusal(tmp_path)


def test_a_picture_of_another_size_than_its_entry_is_refused(tmp_path):
    write_picture(write_dataset(tmp_path) / "train" / "10017_a.jpg", height=32)
    assert "is 32 x 64 px (height x width), the entry says 64 x 64" in refusal(tmp_path)


def test_a_picture_in_two_parts_is_refused(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "val", [], document=entries(["train/10017_a.jpg"]))
    assert "both in train and in validation" in refusal(tmp_path)


def test_one_picture_under_two_spellings_is_refused(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "train", [], document=entries(["10017_a.jpg", "./10017_a.jpg"]))
    assert "is also another entry's" in refusal(tmp_path)


def test_the_first_fault_tells_how_many_more_there_are(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "train", [], document=entries(["x1.jpg", "x2.jpg", "x3.jpg"]))
    assert "2 more faults" in refusal(tmp_path)


OUTSIDE = [
    "../secret.jpg", "../../secret.jpg", "x/../../secret.jpg", "train/../../secret.jpg", "./..", "..", ".", "", "  ",
    "/etc/passwd", "..\\secret.jpg", "C:\\x.jpg", "C:x.jpg", "\\\\host\\x", "a\0b.jpg", "a\nb.jpg", "%2e%2e/secret.jpg",
    "\u2025/secret.jpg", "\ud800.jpg", "x" * 5000, "link.jpg", "folder/secret.jpg", "loop.jpg", "dead.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_data_set(tmp_path, name):
    root = write_dataset(tmp_path / "data")
    write_picture(tmp_path / "secret.jpg")
    if name == "link.jpg":
        (root / "train" / name).symlink_to(tmp_path / "secret.jpg")
    elif name == "folder/secret.jpg":
        (root / "train" / "folder").symlink_to(tmp_path)
    elif name == "loop.jpg":
        (root / "train" / name).symlink_to(root / "train" / name)
    elif name == "dead.jpg":
        (root / "train" / name).symlink_to(root / "nothing")
    write_part(root, "train", [], document=entries([name]))
    opened = []
    _watch(opened)
    try:
        assert len(refusal(root)) < 400
    finally:
        _WATCHERS.remove(opened)
    assert str(tmp_path / "secret.jpg") not in opened
    assert not [path for path in opened if path.startswith("/etc/passwd") or path.endswith("secret.jpg")]


_WATCHERS: list[list[str]] = []


def _watch(opened):
    if not hasattr(_watch, "installed"):
        # An audit hook cannot be taken out again.
        sys.addaudithook(lambda event, arguments: [watcher.append(str(arguments[0])) for watcher in _WATCHERS]
                         if event == "open" else None)
        _watch.installed = True
    _WATCHERS.append(opened)


def test_an_unlisted_link_out_of_the_data_set_is_refused(tmp_path):
    root = write_dataset(tmp_path / "data")
    write_picture(tmp_path / "secret.jpg")
    (root / "train" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert "link out of the data set" in refusal(root)


def test_a_picture_folder_that_is_a_link_out_is_refused(tmp_path):
    root = write_dataset(tmp_path / "data")
    (root / "train").rename(tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    assert "link out of the data set" in refusal(root)


def test_links_inside_the_data_set_are_followed(tmp_path):
    root = write_dataset(tmp_path)
    (root / "train" / "10017_a.jpg").rename(root / "store.jpg")
    (root / "train" / "10017_a.jpg").symlink_to(root / "store.jpg")
    assert len(read(root).train.micrographs) == 2


def test_a_data_folder_reached_through_a_link_is_read(tmp_path):
    write_dataset(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(read(tmp_path / "link").train.micrographs) == 2


def test_scan_lists_faults_of_both_parts(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "train", [], document="[")
    write_part(tmp_path, "val", [], document="]")
    dataset, faults = scan(tmp_path, border=0, max_megapixels=1)
    assert dataset is None
    assert [fault.file for fault in faults] == ["annotations/instances_train.json", "annotations/instances_val.json"]
