"""Data sets that are refused: what is missing, broken or twice there, named in one line."""

from __future__ import annotations

import pytest
from coco_folders import entries, refusal, write_dataset, write_part, write_picture

from cryossl.data.coco.dataset import scan


def test_a_missing_folder_an_empty_one_and_one_without_json_are_told_apart(tmp_path):
    assert refusal(tmp_path / "missing").startswith(f"{tmp_path / 'missing'}: no such folder; ")
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
    assert refusal(tmp_path).startswith(
        f"{tmp_path}: val: no such folder for the pictures of validation; "
    )


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
    write_part(tmp_path, "train", [], document=entries(["x1.jpg", "../x", ""]))
    assert "1 more faults" in refusal(tmp_path)


def test_missing_pictures_are_one_fault_with_the_first_names(tmp_path):
    write_dataset(tmp_path)
    names = [f"x{number}.jpg" for number in range(9)]
    write_part(tmp_path, "train", [], document=entries(names))
    said = refusal(tmp_path)
    assert "'x0.jpg' is missing (and 8 more like it: 'x1.jpg', 'x2.jpg'," in said


def test_scan_lists_faults_of_both_parts(tmp_path):
    write_dataset(tmp_path)
    write_part(tmp_path, "train", [], document="[")
    write_part(tmp_path, "val", [], document="]")
    dataset, faults = scan(tmp_path, border=0, max_megapixels=1)
    assert dataset is None
    assert [fault.file for fault in faults] == [
        "annotations/instances_train.json",
        "annotations/instances_val.json",
    ]


def test_sources_that_are_no_names_are_one_fault(tmp_path):
    write_dataset(tmp_path)
    names = [f"a{number}.png" for number in range(5)]
    document = entries(names)
    for entry in document["images"]:
        entry["source"] = f"disk/{entry['file_name']}"
    write_part(tmp_path, "train", names, document=document)
    said = refusal(tmp_path)
    assert "is no plain name (and 4 more like it: train/a1.png, train/a2.png, " in said
    assert "more faults" not in said
