from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cryossl.errors import ConfigError, DataError
from cryossl.system.user_files import read_json, read_text


def test_a_text_is_read_without_byte_order_mark_and_with_any_line_ends(tmp_path):
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert read_text(tmp_path / "f") == "a\nb\nc"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _path: None, "cannot read the list: No such file or directory; check the path"),
        (os.mkdir, "the list is no regular file; give"),
        (os.mkfifo, "the list is no regular file; give"),
        (lambda path: path.symlink_to("gone"), "cannot read the list: No such file or directory;"),
        (lambda path: path.write_bytes(b"a\xff"), r"the list is not UTF-8 text \(byte 1\); save"),
        (lambda path: path.write_bytes(b"a" * 51), "the list has 51 bytes, more than 50; cut it"),
    ],
)
@pytest.mark.parametrize("fault", [ConfigError, DataError])
def test_what_cannot_be_read_is_one_line_with_a_cure(make, said, fault, tmp_path):
    make(tmp_path / "f")
    with pytest.raises(fault, match=f"^{said}") as caught:
        read_text(tmp_path / "f", name="the list", fault=fault, max_bytes=50, smaller="cut it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  "images": [1,\n  2,,]}', "line 3, column 5"),
        ("", "line 1, column 1"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5001, "thousands of digits"),
    ],
)
def test_broken_json_is_refused_with_its_place(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json") as caught:
        read_json(tmp_path / "x.json")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_text_in_the_encodings_of_windows_is_read(tmp_path, encoding):
    (tmp_path / "x.json").write_bytes('["\u00e4"]'.encode(encoding))
    assert read_json(tmp_path / "x.json") == ["\u00e4"]


def test_text_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "x.json").write_bytes('["\u00e4"]'.encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_json(tmp_path / "x.json")


def test_nan_is_a_missing_value_on_request_and_infinity_never(tmp_path):
    (tmp_path / "x.json").write_text("[NaN]")
    assert read_json(tmp_path / "x.json", nan_is_null=True) == [None]
    (tmp_path / "x.json").write_text("[-Infinity]")
    with pytest.raises(DataError, match="-Infinity"):
        read_json(tmp_path / "x.json", nan_is_null=True)


def test_a_file_must_lie_in_its_folder_also_behind_links(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside.csv").write_text("x")
    (folder / "inside.csv").write_text("x")
    for target in ("../outside.csv", "inside.csv", "loop.csv"):
        link = folder / "loop.csv"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        if target == "inside.csv":
            assert read_text(link, inside=folder) == "x"
            continue
        with pytest.raises(DataError, match="link" if target[0] == "." else "link|cannot read"):
            read_text(link, inside=folder)


def test_no_more_is_read_than_allowed_whatever_the_size_says(tmp_path):
    """Files of the kernel say that they are empty."""
    with pytest.raises(DataError, match="more than 10"):
        read_text(Path("/proc/self/status"), max_bytes=10)


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(list(range(100))))
    with pytest.raises(DataError, match="more than 50"):
        read_json(tmp_path / "x.json", max_bytes=50)
