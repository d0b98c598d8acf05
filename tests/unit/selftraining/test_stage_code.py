"""Which code the stages of a work folder are keyed by."""

from __future__ import annotations

import json

import pytest

from cryossl.selftraining.stage_code import SOURCES, StageCode, stage_code


def test_each_kind_of_stage_has_the_digest_of_its_own_sources(tmp_path):
    code = stage_code(tmp_path / "code.json", keep=False)
    assert code.digests.keys() == SOURCES.keys()
    assert len(set(code.digests.values())) == len(SOURCES)
    assert not code.keeps_other_code
    assert code.name == code.present_name
    assert list(tmp_path.iterdir()) == []


def test_kept_code_is_the_remembered_one_and_is_not_remembered_anew(tmp_path):
    file = tmp_path / "code.json"
    old = dict.fromkeys(SOURCES, "old")
    StageCode(old, old).remember(file)
    kept = stage_code(file, keep=True)
    assert kept.digests == old
    assert kept.keeps_other_code
    assert kept.name != kept.present_name
    kept.remember(file)
    assert json.loads(file.read_text()) == old
    present = stage_code(file, keep=False)
    present.remember(file)
    assert not stage_code(file, keep=True).keeps_other_code


@pytest.mark.parametrize("text", ["", "[]", '{"train": "x"}', "{", "null"])
def test_a_file_that_cannot_be_used_keeps_nothing(tmp_path, text):
    file = tmp_path / "code.json"
    file.write_text(text)
    assert not stage_code(file, keep=True).keeps_other_code
