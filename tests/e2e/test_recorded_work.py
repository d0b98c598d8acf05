"""A start over the work folder of an earlier version: nothing is computed or logged again, and the table is the same."""

from __future__ import annotations

import shutil

import pytest
import recorded_work
from recorded_work import kinds, points, stages, start, tables


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded").resolve() / "place"
    recorded_work.unpack(folder)
    return folder


def test_a_start_over_an_older_work_folder_computes_no_stage_logs_no_point_and_prints_the_same_table(
    recorded,
):
    stages_before, points_before = stages(recorded), points(recorded)
    invocations = set(kinds(recorded))
    printed = start(recorded)
    assert {stage.split("/")[0] for stage in stages_before} >= {
        "train",
        "evaluate",
        "select",
        "calibrate",
    }
    assert stages(recorded) == stages_before
    answers = set(kinds(recorded)) - invocations
    assert [kinds(recorded)[run] for run in answers] == ["experiment"]
    new = points(recorded) - points_before
    assert points_before <= points(recorded)
    assert {run for run, *_ in new} == answers  # the new invocation shows what its arms found
    assert {str(key).split("/")[0] for _, key, *_ in new} == {"f1", "gain"}
    assert len(points_before) > 100
    assert tables(printed) == tables((recorded / "table.txt").read_text())


def test_a_stage_whose_key_has_changed_is_computed_anew_so_the_check_above_can_fail(
    recorded, tmp_path
):
    folder = tmp_path / "place"
    shutil.copytree(recorded, folder)
    before = stages(folder)
    start(folder, "--weight-decay", "0.02", "--max-iterations", "0")
    assert {stage.split("/")[0] for stage in stages(folder) - before} >= {"train", "evaluate"}
