"""Nothing accepted is ignored: each mode word and file changes something that can be seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cryossl.data.labels import IGNORE
from cryossl.strategy_names import FACTORS

BALANCED = ("--strategies", "class_balanced")


@pytest.fixture(scope="module")
def usual(lab):
    """The run that every other one is compared with."""
    assert lab.run(*BALANCED).code == 0
    return lab.numbers()


def numbers(lab, name: str, *options: str):
    """The numbers of a run with these options, in a results folder of its own; what it shares is reused."""
    done = lab.run(*BALANCED, "--name", name, *options)
    assert (done.code, done.err) == (0, "")
    return lab.numbers(of=name)


def split_of(lab, name: str, *, ratio: str = "30") -> str:
    (arm,) = lab.file(f"balanced_pseudolabel_ratio_{ratio}.json", of=name)["seeds"].values()
    return str(arm["split_sha256"])


def pseudo_maps(lab) -> set[Path]:
    return set(lab.work.glob("stages/select/*/pseudo.u8"))


def test_the_same_settings_give_the_same_numbers(lab, usual):
    assert numbers(lab, "again") == usual


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("label-unit", "tile"),
        ("tile-px", "0"),
        ("border", "6"),
        ("particle-radius-fraction", "0.5"),
        ("seed", "1"),
        ("learning-rate", "0.002"),
    ],
)
def test_a_word_that_shapes_data_or_training_changes_the_baseline(lab, usual, option, value):
    options = [f"--{option}", value]
    if option in ("label-unit", "tile-px"):
        options += ["--tile-px", "32"] if option == "label-unit" else ["--image-px", "32"]
    found = numbers(lab, option, *options)
    assert found["class_balanced 0"] != usual["class_balanced 0"]


def test_the_model_is_the_last_one_or_the_best_on_validation(lab, usual):
    for seed in "123":  # for one of them the last step is not the best
        often = ("--validations", "12", "--baseline-epochs", "12", "--seed", seed)
        last = numbers(lab, f"last-{seed}", *often)["class_balanced 0"]
        if last["best_step/step"] < last["train/steps"]:
            break
    best = numbers(lab, "best", *often, "--model", "best")["class_balanced 0"]
    assert (
        best["test/f1"] == best["best_step/test_f1"] == last["best_step/test_f1"] != last["test/f1"]
    )


def test_tiles_are_counted_where_tiles_are_the_unit(lab, usual):
    done = lab.run(
        *BALANCED,
        "--name",
        "tiles",
        "--label-unit",
        "tile",
        "--tile-px",
        "32",
        "--max-iterations",
        "0",
    )
    labelled, unlabelled = map(
        int, re.search(r"(\d+) labelled and (\d+) unlabelled tiles", done.out).groups()
    )
    assert labelled + unlabelled > 4 * 11
    assert labelled == (labelled + unlabelled) * 30 // 100


def test_a_list_of_labelled_micrographs_replaces_the_draw(lab, usual, tmp_path):
    names = sorted(f"train/{path.name}" for path in (lab.data / "train").iterdir())
    file = tmp_path / "labelled.txt"
    file.write_text("# annotated last winter\n\n" + "\n".join(names[1:5]) + "\n")
    done = lab.run(*BALANCED, "--name", "listed", "--labelled", str(file))
    assert (done.code, done.err) == (0, "")
    assert split_of(lab, "listed", ratio="33.33") != split_of(lab, "pseudolabel_balanced")
    (arm,) = lab.file("balanced_pseudolabel_ratio_33.33.json", of="listed")["seeds"].values()
    assert (arm["summary"]["labelled"], arm["summary"]["unlabelled"]) == (4, 8)


def test_a_run_says_that_its_students_were_judged_on_the_labelled_micrographs(lab, usual, tmp_path):
    file = tmp_path / "labelled.txt"
    file.write_text("\n".join(sorted(path.name for path in (lab.data / "train").iterdir())[1:5]))
    done = lab.run(
        *BALANCED, "--name", "judged", "--labelled", str(file), "--validation-from", "labelled"
    )
    assert (done.code, done.err) == (0, "")
    notes = [
        note for (note,) in lab.asked("SELECT value FROM tags WHERE key = 'mlflow.note.content'")
    ]
    assert any("accepted on the labelled micrographs." in note for note in notes)


def test_a_config_file_is_read_and_options_win_over_it(lab, usual, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("seed: 1\nselection:\n  max_pseudo_per_labelled: 1\n")
    found = numbers(lab, "filed", "--config", str(file), "--seed", "0")
    assert found["class_balanced 0"] == usual["class_balanced 0"]
    assert (
        found["class_balanced 1"]["pseudo/count"]
        == 3
        == usual["class_balanced 1"]["pseudo/count"] / 2
    )


def test_doubtful_pixels_are_ignored_or_background_in_the_same_images(lab, usual):
    wide = ("--particle-threshold", "0.52", "--background-threshold", "0.52")
    before = pseudo_maps(lab)
    ignored = numbers(lab, "ignore", *wide)
    (with_ignore,) = pseudo_maps(lab) - before
    background = numbers(lab, "background", *wide, "--uncertain-pixels", "background")
    (without,) = pseudo_maps(lab) - before - {with_ignore}
    doubtful = np.fromfile(with_ignore, np.uint8) == IGNORE
    assert doubtful.any()
    assert not (np.fromfile(without, np.uint8) == IGNORE).any()
    assert (
        ignored["class_balanced 1"]["pseudo/count"]
        == background["class_balanced 1"]["pseudo/count"]
    )
    assert ignored["class_balanced 1"]["test/f1"] != background["class_balanced 1"]["test/f1"]


def test_the_confident_gate_asks_for_more(lab, usual):
    found = numbers(lab, "confident", "--accept", "confident")
    assert found == usual  # the same models; only the decision may differ
    arms = [
        next(iter(lab.file("balanced_pseudolabel_ratio_30.json", of=name)["seeds"].values()))
        for name in ("pseudolabel_balanced", "confident")
    ]
    improved, confident = (arm["iterations"][1]["accepted"] for arm in arms)
    assert improved or not confident
    assert arms[0]["fingerprint"] != arms[1]["fingerprint"]


def test_the_gate_that_accepts_always_keeps_a_student_that_is_worse(lab, usual):
    decisions = {}
    for gate in ("improved", "always"):
        numbers(
            lab,
            f"short-{gate}",
            "--accept",
            gate,
            "--student-epochs",
            "1",
            "--baseline-epochs",
            "20",
            "--validations",
            "1",
        )
        (arm,) = lab.file("balanced_pseudolabel_ratio_30.json", of=f"short-{gate}")[
            "seeds"
        ].values()
        decisions[gate] = arm["iterations"][1]["accepted"]
        assert (
            arm["iterations"][1]["numbers"]["validation/f1"]
            < arm["iterations"][0]["numbers"]["validation/f1"]
        )
    assert decisions == {"improved": False, "always": True}


def test_each_ablation_is_an_arm_of_its_own_and_shares_the_baseline(lab, usual):
    names = [
        "naive",
        "class_balanced",
        "supervised_long",
        *(f"naive+{factor}" for factor in FACTORS),
        *(f"class_balanced-{factor}" for factor in FACTORS),
    ]
    # Thresholds so that each rule cuts otherwise; no iteration is needed beyond the first.
    done = lab.run(
        "--name",
        "ablations",
        "--strategies",
        ",".join(names),
        "--naive-threshold",
        "0.55",
        "--particle-threshold",
        "0.5",
        "--background-threshold",
        "0.58",
    )
    assert (done.code, done.err) == (0, "")
    found = lab.numbers(of="ablations")
    assert {name.partition(" ")[0] for name in found} == set(names)
    assert {str(numbers) for name, numbers in found.items() if name.endswith(" 0")} == {
        str(usual["class_balanced 0"])
    }
    asked = {name: found.get(f"{name} 1", {}) for name in names if name != "supervised_long"}
    cuts = {
        name: (one.get("threshold/particle"), one.get("threshold/background"))
        for name, one in asked.items()
        if one
    }
    for name, cut in cuts.items():
        by_class = (
            "class_thresholds" in name
            if name.startswith("naive")
            else "class_thresholds" not in name
        )
        assert cut == ((0.5, 0.58) if by_class else (0.55, 0.55))
    longest = max(
        numbers["train/steps"]
        for name, numbers in found.items()
        if not name.startswith("supervised_long")
    )
    assert found["supervised_long 1"]["train/steps"] == longest
    assert "pseudo/count" not in found["supervised_long 1"]


def test_a_setting_of_one_strategy_does_as_the_same_one_for_all(lab, usual):
    for_all = numbers(lab, "for-all", "--max-pseudo-per-labelled", "1", "--student-epochs", "2")
    entries = "class_balanced.max_pseudo_per_labelled=1,class_balanced.student_epochs=2"
    own = numbers(lab, "own", "--strategy-settings", entries)
    assert own == for_all != usual
    (arm,) = lab.file("balanced_pseudolabel_ratio_30.json", of="own")["seeds"].values()
    logged = lab.asked(
        "SELECT kind.value, params.value FROM params "
        "JOIN tags kind ON kind.run_uuid = params.run_uuid AND kind.key = 'cryossl.kind' "
        "JOIN tags mark ON mark.run_uuid = params.run_uuid "
        "AND mark.key = 'cryossl.experiment_fingerprint' "
        "WHERE params.key = 'selection.max_pseudo_per_labelled' "
        f"AND mark.value = '{arm['fingerprint']}'"
    )
    assert {(kind, float(value)) for kind, value in logged} >= {("experiment", 2), ("arm", 1)}


def test_patience_ends_trainings_early_and_the_same_way_each_time(lab, usual):
    options = ("--validations", "12", "--baseline-epochs", "12", "--patience", "1")
    patient = numbers(lab, "patient", *options)
    whole = numbers(lab, "whole", *options[:-2])
    early = [key for key in whole if patient[key]["train/steps"] < whole[key]["train/steps"]]
    assert early
    assert numbers(lab, "patient-again", *options) == patient


@pytest.mark.parametrize(
    "option", [("--average-decay", "0.9"), ("--augment", "any")], ids=["average", "angle"]
)
def test_weight_averages_and_any_angle_reach_the_baseline_and_every_student(lab, usual, option):
    changed = numbers(lab, option[0].strip("-"), *option)
    assert changed.keys() == usual.keys()
    assert all(changed[arm]["test/f1"] != usual[arm]["test/f1"] for arm in usual)


def test_a_strategy_alone_may_average_its_weights(lab, usual):
    own = numbers(lab, "own-average", "--strategy-settings", "class_balanced.average_decay=0.9")
    assert {arm for arm in usual if own[arm] != usual[arm]} == {"class_balanced 1"}
