"""The result files: named as in the note, one per strategy and ratio, seeds side by side."""

from __future__ import annotations

import json

import pytest

from cryossl.selftraining.records.result_files import (
    SCHEMA,
    file_prefix,
    forget_outcome,
    gather,
    is_finished,
    read_outcome,
    write_arm,
    write_outcome,
    write_summary,
)


def arm(f1: float, *, iterations: int = 1) -> dict:
    return {
        "summary": {"f1": f1, "gain_f1": f1 - 0.7, "verdict": "success"},
        "iterations": list(range(iterations)),
    }


@pytest.mark.parametrize(
    ("strategy", "prefix"),
    [
        ("class_balanced", "balanced"),
        ("naive", "naive"),
        ("naive+quota", "naive+quota"),
        ("class_balanced-quota", "balanced-quota"),
        ("supervised_long", "supervised_long"),
    ],
)
def test_the_notes_name_stands_for_class_balanced_and_every_other_strategy_has_its_own(
    strategy, prefix
):
    assert file_prefix(strategy) == prefix


@pytest.mark.parametrize(
    ("ratio", "name"),
    [
        (5.0, "balanced_pseudolabel_ratio_5.json"),
        (10, "balanced_pseudolabel_ratio_10.json"),
        (2.5, "balanced_pseudolabel_ratio_2.5.json"),
    ],
)
def test_a_ratio_file_is_named_as_in_the_note(tmp_path, ratio, name):
    path = write_arm(
        tmp_path, strategy="class_balanced", ratio_percent=ratio, seed=0, arm=arm(0.72)
    )
    assert path == tmp_path / name
    assert json.loads(path.read_text()) == {
        "schema": "cryossl-results/1",
        "strategy": "class_balanced",
        "ratio_percent": ratio,
        "seeds": {"0": arm(0.72)},
    }


def test_another_seed_is_added_in_order_and_the_same_seed_is_replaced(tmp_path):
    for seed, f1 in ((10, 0.5), (2, 0.6), (2, 0.65)):
        path = write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=seed, arm=arm(f1))
    seeds = json.loads(path.read_text())["seeds"]
    assert list(seeds) == ["2", "10"]
    assert seeds["2"]["summary"]["f1"] == 0.65


def test_the_summary_has_a_row_per_ratio_and_seed_of_its_own_strategy(tmp_path):
    for ratio, seed, f1 in ((10, 0, 0.8), (5, 1, 0.7), (5, 0, 0.6)):
        write_arm(tmp_path, strategy="class_balanced", ratio_percent=ratio, seed=seed, arm=arm(f1))
    write_arm(tmp_path, strategy="class_balanced-quota", ratio_percent=5, seed=0, arm=arm(0.1))
    write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=0, arm=arm(0.2))
    path = write_summary(tmp_path, strategy="class_balanced")
    assert path.name == "balanced_pseudolabel_summary.json"
    document = json.loads(path.read_text())
    assert (document["schema"], document["strategy"]) == ("cryossl-results/1", "class_balanced")
    assert [(row["ratio_percent"], row["seed"], row["f1"]) for row in document["rows"]] == [
        (5, 0, 0.6),
        (5, 1, 0.7),
        (10, 0, 0.8),
    ]
    assert document["rows"][0]["verdict"] == "success"


@pytest.mark.parametrize("old", ["", "{", "[]", '{"schema": "other/1", "seeds": {"7": {}}}'])
def test_a_file_that_is_not_ours_or_damaged_is_written_anew(tmp_path, old):
    (tmp_path / "naive_pseudolabel_ratio_5.json").write_text(old)
    path = write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=0, arm=arm(0.7))
    assert list(json.loads(path.read_text())["seeds"]) == ["0"]
    assert len(json.loads(write_summary(tmp_path, strategy="naive").read_text())["rows"]) == 1


def test_a_number_that_json_has_not_is_refused_and_the_old_file_stays(tmp_path):
    path = write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=0, arm=arm(0.7))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=0, arm=arm(float("nan")))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_cells_of_a_sweep_are_gathered_into_the_notes_files_with_all_seeds(tmp_path):
    for seed in (1, 0):
        cell = tmp_path / f"ratio_5_seed_{seed}"
        cell.mkdir()
        for strategy in ("class_balanced", "naive", "naive+quota"):
            write_arm(
                cell, strategy=strategy, ratio_percent=5, seed=seed, arm=arm([0.7, 0.8][seed])
            )
        gather(cell, tmp_path, strategies=["class_balanced", "naive"])
    seeds = json.loads((tmp_path / "balanced_pseudolabel_ratio_5.json").read_text())["seeds"]
    assert seeds == {"0": arm(0.7), "1": arm(0.8)}
    rows = json.loads((tmp_path / "naive_pseudolabel_summary.json").read_text())["rows"]
    assert [(row["seed"], row["f1"]) for row in rows] == [(0, 0.7), (1, 0.8)]
    assert not (
        tmp_path / "naive+quota_pseudolabel_ratio_5.json"
    ).exists()  # not asked for: an earlier run's


def test_a_run_that_came_to_its_end_leaves_its_fingerprint_until_the_next_begins(tmp_path):
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, fingerprint="f1", made_from="m1")
    assert read_outcome(tmp_path) == ("f1", "m1")
    forget_outcome(tmp_path)
    assert read_outcome(tmp_path) is None


@pytest.mark.parametrize("seeds", [[], {"0": 3}, {"0": {}}])
def test_a_damaged_file_counts_as_none_and_is_written_anew(tmp_path, seeds):
    path = tmp_path / "naive_pseudolabel_ratio_5.json"
    path.write_text(
        json.dumps({"schema": SCHEMA, "strategy": "naive", "ratio_percent": 5, "seeds": seeds})
    )
    assert not is_finished(
        tmp_path, strategy="naive", ratio_percent=5, seed=0, split_sha256="s", settings={}, code="c"
    )
    write_arm(tmp_path, strategy="naive", ratio_percent=5, seed=1, arm=arm(0.7))
    assert list(json.loads(path.read_text())["seeds"]) == ["1"]
