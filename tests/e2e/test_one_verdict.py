"""The verdict on an arm is one: its tag, its result file and the tables count from the same baseline."""

from __future__ import annotations

import json

import pytest

OPTIONS = (
    "--strategies",
    "naive,supervised_long",
    "--accept",
    "always",
    "--baseline-epochs",
    "10",
    "--student-epochs",
    "40",
)
"""The baseline is trained so briefly that the control with a student's steps is the better one."""


@pytest.fixture(scope="module")
def done(lab):
    return lab.run(*OPTIONS)


def tag(lab, strategy: str, name: str) -> str:
    ((value,),) = lab.asked(
        "SELECT t.value FROM tags t JOIN tags s USING (run_uuid) JOIN tags k USING (run_uuid) WHERE "
        "k.key = 'cryossl.kind' AND k.value = 'arm' AND s.key = 'cryossl.strategy' "
        f"AND s.value = '{strategy}' AND t.key = '{name}'"
    )
    return value


def test_the_better_baseline_on_validation_is_the_reference_of_tag_file_and_table(lab, done):
    assert done.code == 0, done.err
    shown = json.loads(lab.call("compare", "--format", "json", *lab.places()[-2:]).out)
    (table,) = [one for one in shown["verdicts"] if one["strategy"] == "naive"]
    document = lab.file("naive_pseudolabel_ratio_30.json")
    (arm,) = document["seeds"].values()
    gain, in_table = (
        next(one["value"] for one in verdict["criteria"] if one["name"] == "F1 gain")
        for verdict in (arm["verdict"], table)
    )
    assert tag(lab, "naive", "cryossl.verdict_reference") == "supervised_long"
    assert arm["summary"]["verdict_reference"] == "supervised_long"
    assert gain == pytest.approx(in_table)
    assert tag(lab, "naive", "cryossl.verdict") == arm["summary"]["verdict"] == table["outcome"]
    # Over the supervised baseline the same student gains: both signs in one experiment.
    assert arm["summary"]["gain_f1"] > 0 > gain


def test_the_gain_of_a_baseline_is_counted_from_the_supervised_one(lab, done):
    assert tag(lab, "supervised_long", "cryossl.verdict_reference") == "supervised"
