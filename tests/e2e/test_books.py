"""What is filed of a run besides its scores: the weights that are its model, the audit, an arm that selected nothing."""

from __future__ import annotations

import pytest
from watched_calls import watched_calls


@pytest.fixture(scope="module")
def audits(lab):
    """A run whose model is the best on validation, with the audit: an entry for each count against the hidden truth."""
    with watched_calls("pseudolabels.py", "audit", lambda: "an audit") as counted:
        done = lab.run("--model", "best", "--audit", "true", "--strategies", "naive", "--validations", "4")
    assert done.code == 0, done.err
    return counted


def test_the_hidden_truth_is_counted_once_for_each_selection(audits):
    assert len(audits) == 1


def test_the_audit_stands_in_the_numbers_of_the_student(lab, audits):
    assert lab.numbers()["naive 1"]["pseudo/audit_f1"] is not None


def test_the_weights_that_are_filed_are_those_of_the_model(lab, audits):
    stages = {path.read_bytes() for path in lab.work.glob("stages/train/*/best.safetensors")}
    filed = list((lab.folder / "mlruns").glob("**/model/*"))
    assert {path.name for path in filed} == {"best.safetensors"}
    assert {path.read_bytes() for path in filed} == stages


@pytest.fixture(scope="module")
def nothing_kept(lab, audits):
    """A run whose threshold no image reaches; the baseline is the one that is there."""
    done = lab.run("--strategies", "naive", "--validations", "4", "--naive-threshold", "1", "--name", "nothing")
    assert done.code == 0, done.err
    return done


def test_an_arm_that_selected_nothing_has_zero_pseudo_labels_in_store_table_and_verdict(lab, nothing_kept):
    tracked = lab.asked("SELECT m.key FROM metrics m JOIN tags t USING (run_uuid) WHERE t.key = 'cryossl.kind' AND t.value = 'arm' "
                        "AND m.key LIKE 'pseudo/%' AND m.step = 1 AND m.value = 0")
    assert {name for (name,) in tracked} >= {"pseudo/count", "pseudo/per_labelled"}
    verdict = lab.file("naive_pseudolabel_ratio_30.json", of="nothing")["seeds"]["0"]["verdict"]
    (count,) = [one for one in verdict["criteria"] if one["name"] == "pseudo-label count"]
    assert count["measured"] == "0.00 per labelled"
    assert "count 0.0:1" in nothing_kept.out
    assert "not measured" not in nothing_kept.out.replace("particles not measured", "")


def test_the_page_of_an_arm_says_by_which_rules_it_selected(lab, audits):
    pages = [text for (text,) in lab.asked("SELECT n.value FROM tags n JOIN tags k USING (run_uuid) WHERE k.value = 'arm' AND "
                                           "k.key = 'cryossl.kind' AND n.key = 'mlflow.note.content'")]
    assert any("kept: every image of quality 0.5 or more" in page for page in pages)
