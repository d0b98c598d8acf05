"""Names and links in a data set: none leads out of it."""

from __future__ import annotations

import json
import os
import sys

import pytest
from coco_folders import entries, read, refusal, write_dataset, write_part, write_picture

from cryossl.data.coco.dataset import read_dataset
from cryossl.errors import DataError

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


def elsewhere(tmp_path):
    """A data set whose training pictures lie on another disk, half of them in a linked folder."""
    root = write_dataset(tmp_path / "data")
    disk = tmp_path / "disk"
    write_picture(disk / "folder" / "10017_x.png")
    (root / "train" / "10017_b.png").rename(disk / "10017_b.png")
    (root / "train" / "10017_b.png").symlink_to(disk / "10017_b.png")
    write_picture(disk / "10017_u.dat.png")
    (disk / "10017_u.dat.png").rename(disk / "u")
    (root / "train" / "10017_u").symlink_to(disk / "u")
    (root / "train" / "folder").symlink_to(disk / "folder")
    (root / "train" / "loop").symlink_to(root / "train")
    (disk / "folder" / "up").symlink_to(disk)
    return root


def test_links_lead_out_of_the_data_set_on_request_alone(tmp_path):
    root = elsewhere(tmp_path)
    assert "or give --follow-links; " in refusal(root)
    found = read_dataset(root, border=0, max_megapixels=1, follow_links=True)
    ids = [micrograph.id for micrograph in found.train.micrographs]
    assert {"train/10017_a.jpg", "train/10017_b.png", "train/10017_u"} < set(ids)
    assert "train/folder/10017_x.png" in ids
    # A link to where the walk has been is not walked again.
    assert len(ids) == len(set(ids)) < 8
    assert list(found.train.particles) == ["train/10017_a.jpg", "train/10017_b.png"]


def test_folders_behind_links_are_left_out_and_named(tmp_path):
    root = write_dataset(tmp_path / "data")
    write_picture(tmp_path / "disk" / "x.png")
    (root / "train" / "more").symlink_to(tmp_path / "disk")
    (note,) = (note for note in read(root).notes if "behind links" in note)
    assert note.startswith("1 folders behind links are left out, the first is train/more")


@pytest.mark.parametrize("name", ["../secret.jpg", "train/../../secret.jpg", "loop.jpg"])
def test_followed_links_open_no_other_way_out(tmp_path, name):
    root = write_dataset(tmp_path / "data")
    write_picture(tmp_path / "secret.jpg")
    (root / "train" / "loop.jpg").symlink_to(root / "train" / "loop.jpg")
    write_part(root, "train", [], document=entries([name]))
    with pytest.raises(DataError):
        read_dataset(root, border=0, max_megapixels=1, follow_links=True)


@pytest.mark.parametrize("linked", ["train", "annotations", "sources.csv"])
def test_parts_and_side_files_may_lie_elsewhere_too(tmp_path, linked):
    root = write_dataset(tmp_path / "data")
    (root / "sources.csv").write_text("file,source\n*,x\n")
    (root / linked).rename(tmp_path / linked)
    (root / linked).symlink_to(tmp_path / linked)
    assert "link out of the data set" in refusal(root)
    found = read_dataset(root, border=0, max_megapixels=1, follow_links=True)
    assert {micrograph.source for micrograph in found.train.micrographs} == {"x"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path):
    root = write_dataset(tmp_path)
    (root / "train" / "locked").mkdir(mode=0)
    assert "cannot be listed (Permission denied)" in refusal(root)
