from __future__ import annotations

import json
import os

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
        (lambda path: path.symlink_to("gone"), "the list is no regular file; give"),
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


def test_text_that_is_not_utf_8_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "bom.json") == [1]
    (tmp_path / "wide.json").write_bytes("[1]".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        read_json(tmp_path / "wide.json")


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(list(range(100))))
    with pytest.raises(DataError, match="more than 50"):
        read_json(tmp_path / "x.json", max_bytes=50)
