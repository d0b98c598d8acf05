"""Names and links in a data set: none leads out of it."""

from __future__ import annotations

import json
import sys

import pytest
from coco_folders import entries, read, refusal, write_dataset, write_part, write_picture

OUTSIDE = [
    "../secret.jpg",
    "../../secret.jpg",
    "x/../../secret.jpg",
    "train/../../secret.jpg",
    "./..",
    "..",
    ".",
    "",
    "  ",
    "/etc/passwd",
    "..\\secret.jpg",
    "C:\\x.jpg",
    "C:x.jpg",
    "\\\\host\\x",
    "a\0b.jpg",
    "a\nb.jpg",
    "%2e%2e/secret.jpg",
    "\u2025/secret.jpg",
    "\ud800.jpg",
    "x" * 5000,
    "link.jpg",
    "folder/secret.jpg",
    "loop.jpg",
    "dead.jpg",
]


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
    assert not [
        path for path in opened if path.startswith("/etc/passwd") or path.endswith("secret.jpg")
    ]


_WATCHERS: list[list[str]] = []


def _watch(opened):
    if not hasattr(_watch, "installed"):
        # An audit hook cannot be taken out again.
        sys.addaudithook(
            lambda event, arguments: (
                [watcher.append(str(arguments[0])) for watcher in _WATCHERS]
                if event == "open"
                else None
            )
        )
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


NAMES = {
    "images\\a.png": "images/a.png",
    ".\\images\\a.png": "images/a.png",
    "D:\\me\\data\\train\\images\\a.png": "images/a.png",
    "\\\\host\\share\\a.png": "a.png",
    "/mnt/me/data/train/images/a.png": "images/a.png",
    "/data/upload/1/a.png": "a.png",
    "http://localhost:8080/data/upload/1/a.png": "a.png",
    "/data/local-files/?d=images/a.png": "a.png",
    "file:///D:/data/images/a.png": "images/a.png",
}


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_windows_and_of_other_machines_are_found_by_their_end(tmp_path, name):
    root = write_dataset(tmp_path)
    write_picture(root / "train" / NAMES[name])
    write_part(root, "train", [], document=entries([name]))
    found = read(root)
    assert f"train/{NAMES[name]}" in found.train.particles
    assert any("another machine" in note for note in found.notes) is (name[0] not in "i.")


def test_the_longest_end_of_a_path_counts(tmp_path):
    root = write_dataset(tmp_path)
    for name in ("s1/a.png", "s2/a.png", "a.png"):
        write_picture(root / "train" / name)
    write_part(root, "train", [], document=entries(["/x/s1/a.png", "/x/s2/a.png"]))
    assert set(read(root).train.particles) == {"train/s1/a.png", "train/s2/a.png"}


def test_two_paths_with_one_end_are_refused(tmp_path):
    root = write_dataset(tmp_path)
    write_picture(root / "train" / "a.png")
    write_part(root, "train", [], document=entries(["/x/s1/a.png", "/x/s2/a.png"]))
    assert "also another entry" in refusal(root)


def export(root, part, file, pictures=""):
    """One part as an annotation program exports it, on its own."""
    names = [f"10017_{part}_{number}.png" for number in range(3)]
    for name in names:
        write_picture(root / part / pictures / name)
    target = root / part / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(entries(names)))


EXPORTS = {
    "Roboflow": ("_annotations.coco.json", ""),
    "CVAT": ("annotations/instances_default.json", "images"),
    "CVAT with a subset": ("annotations/instances_default.json", "images/default"),
    "Label Studio": ("result.json", "images"),
    "X-AnyLabeling": ("annotations.json", ""),
}


@pytest.mark.parametrize("program", EXPORTS)
@pytest.mark.parametrize("validation", ["valid", "val", "Validation"])
def test_the_export_of_each_part_is_read(tmp_path, program, validation):
    for part in ("train", validation, "test"):
        export(tmp_path, part, *EXPORTS[program])
    found = read(tmp_path)
    assert [len(part.particles) for part in found.parts.values()] == [3, 3, 3]


def test_names_without_instances_are_read_where_there_are_no_others(tmp_path):
    write_dataset(tmp_path)
    for part in ("train", "val"):
        file = tmp_path / "annotations" / f"instances_{part}.json"
        file.rename(tmp_path / "annotations" / f"{part}.json")
    assert len(read(tmp_path).train.particles) == 2
    write_dataset(tmp_path)
    assert len(read(tmp_path).train.particles) == 2


def test_an_export_beside_another_layout_is_refused(tmp_path):
    write_dataset(tmp_path)
    export(tmp_path, "train", "_annotations.coco.json")
    assert "both describe train" in refusal(tmp_path)


def test_one_export_for_all_pictures_is_refused_with_what_to_do(tmp_path):
    export(tmp_path, "", "annotations/instances_default.json", "images")
    said = refusal(tmp_path)
    assert "describes all pictures as one part" in said
    assert "train/annotations/instances_default.json" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_annotations_in_the_encodings_of_windows_are_read(tmp_path, encoding):
    write_dataset(tmp_path)
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_bytes(file.read_text().encode(encoding))
    assert len(read(tmp_path).train.particles) == 2


def test_nan_stands_for_a_missing_value(tmp_path):
    write_dataset(tmp_path)
    file = tmp_path / "annotations" / "instances_train.json"
    whole = file.read_text()
    file.write_text(whole.replace('"area": 64', '"area": NaN').replace("[]", "NaN"))
    assert len(read(tmp_path).train.particles) == 2
    file.write_text(whole.replace("10, 12", "NaN, 12"))
    assert "not four finite numbers" in refusal(tmp_path)
    file.write_text(whole.replace('"area": 64', '"area": Infinity'))
    assert "Infinity" in refusal(tmp_path)
