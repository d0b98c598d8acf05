"""What is filed of a run besides its scores: the weights that are its model, the audit, an arm that selected nothing."""

from __future__ import annotations

import pytest

from cryossl.pseudolabels import Pool


@pytest.fixture(scope="module")
def audits(lab):
    """A run whose model is the best on validation, with the audit: how often each selection was counted against the truth."""
    counted: list[str] = []
    real = Pool.audit

    def counting(pool, selected):
        counted.append(selected.stage.key)
        return real(pool, selected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "audit", counting)
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
