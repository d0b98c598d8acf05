"""Names and links in a data set: none leads out of it."""

from __future__ import annotations

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
