"""Which code the stages of a work folder are keyed by, and which other code may be kept."""

from __future__ import annotations

import json

import pytest

from cryossl.errors import StorageError
from cryossl.selftraining.stage_code import MOST_REMEMBERED, SOURCES, StageCode, name_of, stage_code

OLD = dict.fromkeys(SOURCES, "0" * 16)
OLDER = dict.fromkeys(SOURCES, "1" * 16)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "work" / "code.json"


def test_each_kind_of_stage_has_the_digest_of_its_own_sources(file):
    code = stage_code(file, keep=True)
    assert code.present.keys() == SOURCES.keys()
    assert len(set(code.present.values())) == len(SOURCES)
    assert (code.kept, code.last) == ((), None)
    assert not file.parent.exists()


def test_other_code_is_kept_the_newest_first_and_only_if_asked_for(file):
    for code in (OLDER, OLD):
        StageCode(code).remember(file)
    stage_code(file, keep=False).remember(file)
    assert stage_code(file, keep=True).kept == (OLD, OLDER)
    assert stage_code(file, keep=False).kept == ()


def test_a_start_says_that_code_has_changed_that_stages_are_kept_or_that_there_are_none(file):
    assert stage_code(file, keep=False).said(keep=False) == ""
    assert "no stages of other code" in stage_code(file, keep=True).said(keep=True)
    StageCode(OLD).remember(file)
    assert name_of(OLD) in stage_code(file, keep=False).said(keep=False)
    assert name_of(OLD) in stage_code(file, keep=True).said(keep=True)
    stage_code(file, keep=False).remember(file)
    assert stage_code(file, keep=False).said(keep=False) == ""


def test_only_so_many_versions_are_remembered_and_a_repeated_one_is_the_newest(file):
    for number in range(MOST_REMEMBERED + 3):
        StageCode(dict.fromkeys(SOURCES, f"{number:016x}")).remember(file)
    StageCode(dict.fromkeys(SOURCES, f"{5:016x}")).remember(file)
    versions = json.loads(file.read_text())
    assert len(versions) == MOST_REMEMBERED
    assert versions[-1]["train"] == f"{5:016x}"


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "{}", "[1]", '[{"train": 5}]', '[{"train": {"a": [1]}}]', '[{"store": "x"}]'],
)
def test_a_damaged_file_keeps_nothing(file, text):
    file.parent.mkdir()
    file.write_text(text)
    assert stage_code(file, keep=True).kept == ()


def test_a_file_that_cannot_be_written_is_named(file):
    file.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"code\.json"):
        stage_code(file, keep=False).remember(file)
