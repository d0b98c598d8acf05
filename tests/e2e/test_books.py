"""What is filed of a run besides its scores: the weights that are its model, the audit, an arm that selected nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from watched_calls import watched_calls

from cryossl.config_file import build
from cryossl.progress.events import silent
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.preflight import still_to_write
from cryossl.selftraining.stage_code import stage_code
from cryossl.strategy_names import FACTORS


@pytest.fixture(scope="module")
def audits(lab):
    """A run whose model is the best on validation, with the audit: an entry for each count against the hidden truth."""
    with watched_calls("pseudolabels/pool.py", "audit", lambda: "an audit") as counted:
        done = lab.run(
            "--model", "best", "--audit", "true", "--strategies", "naive", "--validations", "4"
        )
    assert done.code == 0, done.err
    return counted


def test_the_hidden_truth_is_counted_once_for_each_selection(audits):
    assert len(audits) == 1


def test_the_audit_stands_in_the_numbers_of_the_student(lab, audits):
    assert lab.numbers()["naive 1"]["pseudo/audit_f1"] is not None


def test_the_models_that_are_filed_have_the_weights_that_the_setting_names(lab, audits):
    stages = [load_file(path) for path in lab.work.glob("stages/train/*/best.safetensors")]
    filed = list((lab.folder / "mlruns").glob("**/model/*"))
    assert {path.name for path in filed} == {"model.safetensors"}
    for path in filed:
        weights = load_file(path)
        assert any(
            weights.keys() == stage.keys()
            and all(weights[name].equal(stage[name]) for name in stage)
            for stage in stages
        )
    assert len(filed) == len(stages)


@pytest.fixture(scope="module")
def nothing_kept(lab, audits):
    """A run whose threshold no image reaches; the baseline is the one that is there."""
    done = lab.run(
        "--strategies", "naive", "--validations", "4", "--naive-threshold", "1", "--name", "nothing"
    )
    assert done.code == 0, done.err
    return done


def test_an_arm_that_selected_nothing_has_zero_pseudo_labels_in_store_table_and_verdict(
    lab, nothing_kept
):
    tracked = lab.asked(
        "SELECT m.key FROM metrics m JOIN tags t USING (run_uuid) WHERE t.key = 'cryossl.kind' AND "
        "t.value = 'arm' AND m.key LIKE 'pseudo/%' AND m.step = 1 AND m.value = 0"
    )
    assert {name for (name,) in tracked} >= {"pseudo/count", "pseudo/per_labelled"}
    verdict = lab.file("naive_pseudolabel_ratio_30.json", of="nothing")["seeds"]["0"]["verdict"]
    (count,) = [one for one in verdict["criteria"] if one["name"] == "pseudo-label count"]
    assert count["measured"] == "0.00 per labelled"
    assert "count 0.0:1" in nothing_kept.out
    assert "not measured" not in nothing_kept.out.replace("particles not measured", "")


def test_the_page_of_an_arm_says_by_which_rules_it_selected(lab, audits):
    pages = [
        text
        for (text,) in lab.asked(
            "SELECT n.value FROM tags n JOIN tags k USING (run_uuid) WHERE k.value = 'arm' AND "
            "k.key = 'cryossl.kind' AND n.key = 'mlflow.note.content'"
        )
    ]
    assert any("kept: every image of quality 0.5 or more" in page for page in pages)


def test_a_disk_that_is_too_small_for_maps_and_labels_is_refused_though_the_store_is_there(
    lab, audits
):
    """Nobody has the disk for a thousand students of this size; a start that has everything already needs no room at all."""
    again = ("--model", "best", "--audit", "true", "--strategies", "naive", "--validations", "4")
    strategies = ",".join(
        ["naive", "class_balanced"]
        + [f"{base}{factor}" for base in ("naive+", "class_balanced-") for factor in FACTORS]
        + ["naive+quota+class_thresholds"]
    )
    done = lab.run(
        "--strategies",
        strategies,
        "--max-iterations",
        "100",
        "--encoder-depth",
        "5",
        "--decoder-width",
        "256",
        "--name",
        "large",
    )
    assert done.code == 6
    assert done.err.startswith("cryossl: error: disk: ")
    assert "needed" in done.err
    config = build(
        {
            "data": str(lab.data),
            "work": str(lab.work),
            "results": str(lab.results),
            **settings_of(lab.tiny + again),
        }
    )
    dataset = preparation.load(config, silent)
    store_plan = preparation.sketch(config, dataset)
    split = preparation.draw(config, store_plan.micrographs, tile_px=store_plan.tile_px)
    code = stage_code(config.run.code_file, keep=False)
    assert still_to_write(config, dataset, store_plan, split, code=code) == 0
    both = config.selection.model_copy(update={"strategies": ("naive", "class_balanced")})
    other = config.model_copy(update={"selection": both})
    assert still_to_write(other, dataset, store_plan, split, code=code) > 0
    changed = replace(code, present={**code.present, "train": "other"})
    assert still_to_write(config, dataset, store_plan, split, code=changed) > 0


def settings_of(options):
    return {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }


def test_a_run_judged_on_the_labelled_micrographs_never_says_that_it_is_on_validation(
    new_lab, tiny_data
):
    lab = new_lab()
    listed = lab.folder / "labelled.txt"
    listed.write_text(
        "\n".join(sorted(path.stem for path in (tiny_data / "train").iterdir())[1:9])
    )  # the first is bare
    at = lab.tiny.index("--ratio")
    done = lab.call(
        "run",
        *lab.places(),
        *lab.tiny[:at],
        *lab.tiny[at + 2 :],
        "--labelled",
        str(listed),
        "--validation-from",
        "labelled",
        "--strategies",
        "naive",
        "--baseline-epochs",
        "16",
    )
    assert done.code == 0, done.err
    log = (lab.results / "pseudolabel_balanced" / "pseudolabel_balanced_training.log").read_text(
        encoding="utf-8"
    )
    assert re.search(r"epoch \d+  loss \d\S+  F1 on the labelled micrographs \d", log)
    assert re.search(r"naive iteration 1: F1 on the labelled micrographs \d\S+ → \d", log)
    assert "validation F1" not in log
    assert "on validation" not in log
