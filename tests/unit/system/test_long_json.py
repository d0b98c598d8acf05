"""A JSON document with a long list: the same as the usual parser's, and the same refusals."""

from __future__ import annotations

import json
import sys

import pytest

from cryossl.errors import DataError
from cryossl.system.long_json import Elements
from cryossl.system.user_files import read_json

WHOLE = [
    '{"a": 1, "list": [{"b": [1, 2.5], "c": "x]\\u00e4"}, 3, "[", null], "d": {"list": [1]}}',
    '\n{ "list" :\t[ 1 , [2] ]\r\n}\n',
    '{"list": [ ]}',
    '{"list": 3}',
    '{"a": 1}',
    "{}",
    "[1, 2]",
    "3",
]
BROKEN = [
    '{"list": [1, 2}',
    '{"list": [1 2]}',
    '{"list": [1,]}',
    '{"list": [1], }',
    '{"list": [1]} x',
    '{"list": [1], "list": [2]}',
    '{"list": [{"a": 1, "a": 2}]}',
    '{"list": [Infinity]}',
    '{"list": [1',
    '{"list" [1]}',
    "{3: [1]}",
    '{"list": ' + "[" * 100_000,
    "",
]


def plain(value):
    return {name: list(one) if isinstance(one, Elements) else one for name, one in value.items()}


@pytest.mark.parametrize("text", WHOLE)
def test_a_long_list_has_the_elements_that_the_usual_parser_finds(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    usual, found = read_json(path), read_json(path, long="list")
    assert (plain(found) if isinstance(found, dict) else found) == usual
    if isinstance(usual, dict) and isinstance(usual.get("list"), list):
        assert isinstance(found["list"], Elements)
        assert list(found["list"][1:]) == usual["list"][1:]
        assert len(found["list"]) == len(usual["list"])


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_document_is_refused_with_the_usual_words(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    messages = []
    for long in ("", "list"):
        with pytest.raises(DataError) as caught:
            read_json(path, long=long)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_nan_of_an_element_is_null_where_that_is_asked(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"list": [NaN, {"a": NaN}]}')
    assert list(read_json(path, nan_is_null=True, long="list")["list"]) == [None, {"a": None}]
    with pytest.raises(DataError, match="NaN"):
        read_json(path, long="list")


def test_elements_are_new_objects_at_each_reading(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"list": [[1]]}))
    elements = read_json(path, long="list")["list"]
    elements[0].append(2)
    assert elements[0] == [1]
    with pytest.raises(IndexError):
        elements[1]


def test_an_element_that_only_the_first_parse_could_nest_is_refused_in_words(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"list": [' + "[" * 500 + "]" * 500 + "]}")
    elements = read_json(path, long="list")["list"]

    def read_below(calls: int):
        return elements[0] if calls == 0 else read_below(calls - 1)

    with pytest.raises(DataError, match="nested too deeply"):
        read_below(sys.getrecursionlimit() - 400)
