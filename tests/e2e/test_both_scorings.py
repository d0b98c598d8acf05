"""A run scores each model by one view and by eight: both are tracked, compared and reported, and one view's numbers stay."""

from __future__ import annotations

import json
import shutil

import pytest

OPTIONS = (
    "--strategies",
    "naive,class_balanced,supervised_long",
    "--accept",
    "always",
    "--audit",
    "true",
)


@pytest.fixture(scope="module")
def done(lab):
    return lab.run(*OPTIONS)


def stages(lab, kind: str) -> set[str]:
    return {path.parent.name for path in (lab.work / "stages" / kind).glob("*/stage.json")}


def tags(lab, strategy: str) -> dict[str, str]:
    return dict(
        lab.asked(
            "SELECT t.key, t.value FROM tags t JOIN tags s USING (run_uuid) JOIN tags k USING (run_uuid) "
            "WHERE k.key = 'cryossl.kind' AND k.value = 'arm' AND s.key = 'cryossl.strategy' "
            f"AND s.value = '{strategy}'"
        )
    )


def compared(lab, *options: str) -> dict:
    done = lab.call("compare", "--format", "json", *lab.places()[-2:], *options)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_both_scorings_are_tracked_with_sources_particles_and_gains(lab, done):
    assert done.code == 0, done.err
    numbers = lab.numbers()["naive 1"]
    for name in ("f1", "precision", "recall", "particle_f1", "particle_ap"):
        assert numbers[f"test/{name}_views8"] is not None, name
    assert [name for name in numbers if name.startswith("test/f1_views8/")]
    base = lab.numbers()["supervised_long 0"]
    assert numbers["gain/f1_views8"] == pytest.approx(
        numbers["test/f1_views8"] - base["test/f1_views8"]
    )
    (row,) = lab.file("naive_pseudolabel_summary.json")["rows"]
    assert row["headline_views"] == 1
    assert row["baseline_f1_views8"] == base["test/f1_views8"]
    assert row["f1_views8"] == numbers["test/f1_views8"]
    assert row["gain_f1_views8"] == numbers["gain/f1_views8"]
    logged = {key for (key,) in lab.asked("SELECT DISTINCT key FROM metrics")}
    assert {"test/f1_views8", "accepted/test_f1_views8", "validation/particle_f1_views8"} <= logged


def test_the_tags_hold_both_verdicts_each_with_its_own_reference(lab, done):
    assert done.code == 0
    found = tags(lab, "naive")
    assert found["cryossl.headline_views"] == "1"
    numbers = lab.numbers()
    for suffix in ("", "_views8"):
        base = {
            name: numbers[run][f"validation/f1{suffix}"]
            for name, run in (
                ("supervised", "supervised_long 0"),
                ("supervised_long", "supervised_long 1"),
            )
        }
        reference = found[f"cryossl.verdict_reference{suffix}"]
        assert base[reference] == max(base.values())
        shown = compared(lab, *(["--views", "8"] if suffix else []))
        (judged,) = [one for one in shown["verdicts"] if one["strategy"] == "naive"]
        assert judged["outcome"] == found[f"cryossl.verdict{suffix}"]
        run = {"supervised": "supervised_long 0", "supervised_long": "supervised_long 1"}[reference]
        gain = numbers["naive 1"][f"test/f1{suffix}"] - numbers[run][f"test/f1{suffix}"]
        assert judged["criteria"][0]["value"] == pytest.approx(gain)


def test_the_tables_of_a_run_and_of_compare_show_both(lab, done):
    assert done.code == 0
    shown = compared(lab)
    numbers = lab.numbers()
    first, second = shown["tables"]["note"]["rows"]
    for row, views, metric in ((first, 1, "test/f1"), (second, 8, "test/f1_views8")):
        assert row["views"]["value"] == views
        assert row["naive"]["value"] == pytest.approx(100 * numbers["naive 1"][metric])
        assert row["class_balanced"]["value"] == pytest.approx(
            100 * numbers["class_balanced 1"][metric]
        )
    rows = shown["tables"]["by_ratio"]["rows"]
    (naive,) = [row for row in rows if row["strategy"]["value"] == "naive"]
    assert naive["score"]["value"] == pytest.approx(100 * numbers["naive 1"]["test/f1"])
    assert naive["score_views8"]["value"] == pytest.approx(
        100 * numbers["naive 1"]["test/f1_views8"]
    )
    assert {"evidence", "evidence_views8"} <= shown["tables"].keys()
    assert "F1, 8 views" in done.out
    assert "by eight views" in done.out

    turned = compared(lab, "--views", "8")
    assert turned["metric"] == "test/f1_views8"
    (row,) = [
        row for row in turned["tables"]["by_ratio"]["rows"] if row["strategy"]["value"] == "naive"
    ]
    assert row["score"]["value"] == naive["score_views8"]["value"]
    assert row["gain"]["value"] == naive["gain_views8"]["value"]
    assert row["score_views1"]["value"] == naive["score"]["value"]
    assert row["gain_views1"]["value"] == naive["gain"]["value"]


def test_a_number_by_eight_views_is_explained_from_its_counts(lab, done):
    assert done.code == 0
    shown = lab.call(
        "compare", "--views", "8", "--explain", "F1", "--arm", "naive", *lab.places()[-2:]
    )
    assert (shown.code, shown.err) == (0, "")
    value = lab.numbers()["naive 1"]["test/f1_views8"]
    assert f"{value:.6f}; tp " in shown.out
    assert f"= {value:.6f}" in shown.out


def test_the_report_has_both(lab, done, tmp_path):
    assert done.code == 0
    path = tmp_path / "report.md"
    made = lab.call("report", "--format", "markdown", "--output", str(path), *lab.places()[-2:])
    assert (made.code, made.err) == (0, "")
    text = path.read_text()
    assert "Evidence over seeds, by eight views" in text
    assert "By eight views: " in text


def test_another_start_with_eight_as_headline_computes_nothing_and_turns_tables_and_tags(lab, done):
    assert done.code == 0
    before = {kind: stages(lab, kind) for kind in ("train", "evaluate", "select")}
    old = tags(lab, "naive")
    again = lab.run(*OPTIONS, "--headline-views", "8")
    assert again.code == 0, again.err
    assert {kind: stages(lab, kind) for kind in before} == before
    assert "Verdict by eight views" in again.out
    pages = lab.asked(
        "SELECT t.value FROM tags t JOIN tags k USING (run_uuid) WHERE k.key = 'cryossl.kind' "
        "AND k.value = 'experiment' AND t.key = 'mlflow.note.content'"
    )
    assert sorted("Test F1 by eight views: supervised" in text for (text,) in pages) == [
        False,
        True,
    ]
    new = tags(lab, "naive")
    assert new["cryossl.verdict"] == old["cryossl.verdict_views8"]
    assert new["cryossl.verdict_views1"] == old["cryossl.verdict"]
    assert compared(lab)["metric"] == "test/f1_views8"
    assert compared(lab, "--views", "1")["metric"] == "test/f1"


def test_without_eight_views_all_numbers_are_the_same_and_no_training_is_computed(
    new_lab, lab, done
):
    assert done.code == 0
    trained = stages(lab, "train")
    alone = new_lab()
    shutil.copytree(lab.work / "stages", alone.work / "stages")
    shutil.copytree(lab.work / "stores", alone.work / "stores")
    plain = alone.run(*OPTIONS, "--eight-views", "false")
    assert plain.code == 0, plain.err
    assert stages(alone, "train") == trained
    assert "8 views" not in plain.out
    for run, numbers in alone.numbers().items():
        both = lab.numbers()[run]
        assert numbers == {name: both[name] for name in numbers}
        assert not [name for name in numbers if "views8" in name]


def test_a_headline_that_is_not_scored_is_refused_in_one_line(lab):
    refused = lab.run("--eight-views", "false", "--headline-views", "8", "--name", "refused")
    assert refused.code == 2
    assert "headline_views=8 needs scores by eight views" in refused.err
    assert "Traceback" not in refused.err
