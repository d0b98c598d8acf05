"""Data sets on disk: layouts, quirks, and what is measured on them."""

from __future__ import annotations

import os

import mrcfile
import numpy as np
import pytest
from coco_folders import SIDE, entries, read, refusal, write_dataset, write_part, write_picture
from PIL import Image

from cryossl.data.coco.dataset import measured, read_dataset
from cryossl.data.coco.records import Particles


@pytest.mark.parametrize("year", ["", "2017"])
@pytest.mark.parametrize("json_folder", ["annotations", "."])
def test_the_known_layouts_are_read(tmp_path, year, json_folder):
    dataset = read(write_dataset(tmp_path, year=year, json_folder=json_folder))
    assert [micrograph.id for micrograph in dataset.train.micrographs] == [
        f"train{year}/10017_a.jpg",
        f"train{year}/10017_b.png",
    ]
    assert [micrograph.id for micrograph in dataset.validation.micrographs] == [
        f"val{year}/10017_c.jpg"
    ]
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
    write_part(
        write_dataset(tmp_path),
        "test",
        ["10017_t.jpg"],
        document=entries(["10017_t.jpg"], boxes=()),
    )
    dataset = read(tmp_path)
    assert dataset.test is None
    assert "test part" in dataset.notes[-1]


def test_a_test_folder_without_annotations_is_left_out_and_it_is_said(tmp_path):
    write_picture(write_dataset(tmp_path) / "test" / "x.jpg")
    dataset = read(tmp_path)
    assert dataset.test is None
    assert "test/" in dataset.notes[0]


@pytest.mark.parametrize("suffix", [".mrcs", ".map", ".rec", ".st", ".dat", "", ".txt", ".PNG.bak"])
def test_the_pool_is_told_by_content_whatever_the_name(tmp_path, suffix):
    write_dataset(tmp_path)
    with mrcfile.new(tmp_path / "train" / f"10017_e{suffix}") as file:
        file.set_data(np.zeros((SIDE, SIDE), dtype=np.float32))
    picture = tmp_path / "train" / f"10017_f{suffix}"
    Image.fromarray(np.eye(SIDE, dtype=np.uint8)).save(picture, format="JPEG")
    ids = {micrograph.id for micrograph in read(tmp_path).train.micrographs}
    assert {f"train/10017_e{suffix}", f"train/10017_f{suffix}"} <= ids


def test_files_that_are_no_pictures_are_counted_and_named(tmp_path):
    write_dataset(tmp_path)
    for name in ("a.eer", "b.EER", "picks.star", "x"):
        (tmp_path / "train" / name).write_bytes(b"EER" * 500)
    (tmp_path / "train" / "gone").symlink_to("nothing")
    os.mkfifo(tmp_path / "train" / "pipe")
    (note,) = (note for note in read(tmp_path).notes if "left out" in note)
    assert note == (
        "6 files are no JPEG, PNG, TIFF or MRC and are left out (3 without suffix, 2 .eer, "
        "1 .star), the first is train/a.eer"
    )


def test_a_file_that_is_called_a_picture_and_is_none_is_a_fault(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "train" / "10017_e.mrc").write_text("x" * 5000)
    assert "train/10017_e.mrc" in refusal(tmp_path)


def test_a_dummy_box_and_a_picture_that_is_not_listed_mean_unlabelled(tmp_path):
    document = entries(["10017_a.jpg", "10017_d.jpg"])
    document["annotations"] = [
        *document["annotations"][:2],
        document["annotations"][2] | {"bbox": [0, 0, 0, 0], "iscrowd": 0, "area": 0},
    ]
    write_dataset(tmp_path)
    write_part(tmp_path, "train", ["10017_a.jpg", "10017_d.jpg"], document=document)
    (tmp_path / "train" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "train" / "notes.txt").write_text("x")
    found = read(tmp_path)
    train = found.train
    assert [micrograph.id for micrograph in train.micrographs] == [
        "train/10017_a.jpg",
        "train/10017_b.png",
        "train/10017_d.jpg",
    ]
    assert any("1 files are no JPEG" in note and "train/notes.txt" in note for note in found.notes)
    assert list(train.particles) == ["train/10017_a.jpg"]


def test_sizes_come_from_the_picture_where_the_entry_has_none(tmp_path):
    document = entries(["10017_a.jpg"])
    del document["images"][0]["height"], document["images"][0]["width"]
    write_dataset(tmp_path)
    write_part(tmp_path, "train", ["10017_a.jpg"], document=document)
    assert read(tmp_path).train.particles["train/10017_a.jpg"].count == 2


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("gone.csv")])
def test_sources_csv_that_is_no_file_is_a_fault(make, tmp_path):
    write_dataset(tmp_path)
    make(tmp_path / "sources.csv")
    said = refusal(tmp_path)
    assert "sources.csv is no regular file" in said or "cannot read sources.csv: No such" in said


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
    write_part(
        tmp_path,
        "train",
        ["10017_a.jpg"],
        document=entries(["10017_a.jpg"], pixel_size_angstrom=1.77),
    )
    assert read(tmp_path).train.micrographs[0].pixel_size_angstrom == 1.77


def test_a_given_border_replaces_the_estimate(tmp_path):
    assert read_dataset(write_dataset(tmp_path), border=7, max_megapixels=1).border_px == {
        "10017": 7
    }


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
    hidden = dict(dataset.train.particles) | {
        "train/10017_b.png": Particles(np.array([[1.0, 1.0, 30.0, 30.0]] * 99))
    }
    noisy = type(dataset)(
        **(vars(dataset) | {"train": type(dataset.train)(dataset.train.micrographs, hidden)})
    )
    visible = {"train/10017_a.jpg", "val/10017_c.jpg"}
    assert measured(noisy, border="auto", visible=None).diameter_px == {"10017": 30.0}
    assert measured(noisy, border="auto", visible=visible) == measured(
        noisy, border="auto", visible=sorted(visible)
    )
    assert measured(noisy, border="auto", visible=visible).diameter_px == dataset.diameter_px
    assert measured(noisy, border="auto", visible=()).diameter_px == {}


def test_real_data_are_read_with_their_sources_diameters_and_borders(coco_public):
    dataset = read(coco_public)
    assert (len(dataset.train.micrographs), len(dataset.validation.micrographs), dataset.test) == (
        18,
        5,
        None,
    )
    assert sum(particles.count for particles in dataset.train.particles.values()) == 8522
    assert sum(particles.count for particles in dataset.validation.particles.values()) == 2197
    assert dataset.diameter_px == {"10017": 54.0, "10028": 56.0}
    # The published coordinates stop 131 px before the edge of a 4096 px picture, and 134 px for
    # 10028.
    assert 64 <= dataset.border_px["10017"] <= 66
    assert 32 <= dataset.border_px["10028"] <= 35
    assert len(dataset.notes) == 1
    assert "10017 (15), 10028 (8)" in dataset.notes[0]


def test_half_of_the_real_labels_give_the_same_borders(coco_public):
    dataset = read(coco_public)
    few = [
        micrograph.id for micrograph in dataset.train.micrographs if micrograph.source == "10017"
    ][:1]
    few += [
        micrograph.id for micrograph in dataset.train.micrographs if micrograph.source == "10028"
    ][:1]
    borders = measured(dataset, border="auto", visible=few).border_px
    assert 64 <= borders["10017"] <= 70
    assert 32 <= borders["10028"] <= 37
