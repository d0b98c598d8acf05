"""Every strategy at once through the real command: each an arm with its models, its metrics and its place in the tables."""

from __future__ import annotations

import json

import pytest

from cryossl.pseudolabels.strategies import rounds_of

STRATEGIES = (
    "naive",
    "class_balanced",
    "weighted_loss",
    "curriculum",
    "quantile",
    "stability",
    "soft",
    "noisy_student",
    "ema_consistency+labelled_paste+prior_match",
    "supervised_long",
    "supervised_noise",
    "ensemble",
    "full",
)
CONTROLS = ("supervised_long", "supervised_noise", "ensemble", "full")
CALIBRATED = ("quantile", "stability", "soft", "noisy_student")
OPTIONS = (
    "--strategies",
    ",".join(STRATEGIES),
    "--max-iterations",
    "2",
    "--least-steps",
    "0",
    "--baseline-epochs",
    "20",
    "--batch-size",
    "4",
    "--particle-diameter-px",
    "12",
    "--target-scope",
    "per_source",
)
CALIBRATION = {"calibration/temperature", "calibration/error_before", "calibration/error_after"}


@pytest.fixture(scope="module")
def done(lab):
    """The first start."""
    return lab.run(*OPTIONS)


def models(lab) -> dict[tuple[str, int], dict[str, float]]:
    """(strategy, iteration) -> its tracked metrics without curves; finished runs of trained models alone."""
    rows = lab.asked(
        "SELECT s.value, i.value, m.key, m.value FROM runs r JOIN tags k USING (run_uuid) JOIN "
        "tags s USING (run_uuid) "
        "JOIN tags i USING (run_uuid) JOIN latest_metrics m USING (run_uuid) WHERE k.key = "
        "'cryossl.kind' "
        "AND k.value = 'iteration' AND s.key = 'cryossl.strategy' AND i.key = 'cryossl.iteration' "
        "AND r.status = 'FINISHED'"
    )
    found: dict[tuple[str, int], dict[str, float]] = {}
    for strategy, iteration, metric, value in rows:
        found.setdefault((strategy, int(iteration)), {})[metric] = value
    return found


def arm_tags(lab, tag: str) -> dict[str, str]:
    return dict(
        lab.asked(
            "SELECT s.value, t.value FROM tags k JOIN tags s USING (run_uuid) JOIN tags t USING "
            "(run_uuid) WHERE "
            "k.key = 'cryossl.kind' AND k.value = 'arm' AND s.key = 'cryossl.strategy' AND t.key "
            f"= '{tag}'"
        )
    )


def test_the_command_ends_well_and_every_strategy_has_its_arm_and_its_models(lab, done):
    assert (done.code, done.err) == (0, "")
    assert set(lab.statuses()) == {"FINISHED"}
    assert set(arm_tags(lab, "cryossl.verdict")) == set(STRATEGIES)
    found = models(lab)
    assert {strategy for strategy, _ in found} == {"supervised", *STRATEGIES}
    for strategy in STRATEGIES:
        rounds = [iteration for name, iteration in found if name == strategy]
        assert sorted(rounds) == list(range(1, len(rounds) + 1))
        assert 1 <= len(rounds) <= rounds_of(strategy, 2)
    assert all({"test/f1_at_half", "train/steps"} <= metrics.keys() for metrics in found.values())


def test_calibration_is_tracked_where_the_teacher_was_calibrated_and_nowhere_else(lab, done):
    for (strategy, _), metrics in models(lab).items():
        assert set(metrics) & CALIBRATION == (CALIBRATION if strategy in CALIBRATED else set())
        if strategy in CALIBRATED:
            assert metrics["calibration/temperature"] > 0
            assert 0 <= metrics["calibration/error_after"] <= 1


def test_students_have_pseudo_labels_and_controls_have_none(lab, done):
    for (strategy, _), metrics in models(lab).items():
        selected = strategy not in ("supervised", *CONTROLS)
        assert ("pseudo/count" in metrics) == selected
    found = models(lab)
    longest = max(metrics["train/steps"] for metrics in found.values() if "pseudo/count" in metrics)
    assert (
        found["supervised_long", 1]["train/steps"]
        == found["supervised_noise", 1]["train/steps"]
        == found["ensemble", 1]["train/steps"]
        == longest
    )
    assert (
        found["supervised_long", 1]["validation/f1"]
        != found["supervised_noise", 1]["validation/f1"]
    )
    assert found["full", 1]["train/steps"] >= longest


def test_the_quota_of_the_curriculum_and_the_share_of_stability_are_those_of_the_first_iteration(
    lab, done
):
    found = models(lab)
    assert found["curriculum", 1]["pseudo/per_labelled"] <= 1
    assert (
        found["class_balanced", 1]["pseudo/per_labelled"]
        > found["curriculum", 1]["pseudo/per_labelled"]
    )
    pool = found["stability", 1]["pseudo/pool"]
    assert pool / 2 <= found["stability", 1]["pseudo/count"] < pool
    assert found["quantile", 1]["pseudo/count"] == found["soft", 1]["pseudo/count"] == pool


def test_the_embedded_teachers_portions_have_the_ratio_of_the_labelled_part(lab, done):
    first = models(lab)["quantile", 1]
    assert first["pseudo/particle_ratio"] == pytest.approx(first["pseudo/target_ratio"], rel=0.5)


def test_the_comparison_shows_each_strategy_and_how_much_of_the_gap_it_closed(lab, done):
    compared = lab.call(
        "compare", "--tracking-uri", f"sqlite:///{lab.database}", "--format", "json"
    )
    assert (compared.code, compared.err) == (0, "")
    rows = {
        row["strategy"]["value"]: row
        for row in json.loads(compared.out)["tables"]["by_ratio"]["rows"]
    }
    assert set(rows) == {"supervised", *STRATEGIES}
    assert all(rows[control]["gap_closed"]["value"] is None for control in CONTROLS)
    assert "Gap closed" in lab.call("compare", "--tracking-uri", f"sqlite:///{lab.database}").out


def test_a_second_start_does_nothing_again_and_leaves_every_number(lab, done):
    before = lab.numbers()
    trained = {path: path.stat().st_mtime_ns for path in lab.work.glob("stages/*/*/*")}
    query = (
        "SELECT count(*) FROM metrics WHERE run_uuid NOT IN (SELECT run_uuid FROM tags WHERE "
        "key = 'cryossl.kind' AND value = 'experiment')"
    )
    points = lab.asked(query)
    again = lab.run(*OPTIONS)
    assert (again.code, again.err) == (0, "")
    assert lab.numbers() == before
    assert {path: path.stat().st_mtime_ns for path in lab.work.glob("stages/*/*/*")} == trained
    assert lab.asked(query) == points


def test_a_planted_collapse_is_caught_told_counted_and_leaves_the_last_accepted_model(lab, done):
    # Hardly a pixel is particle, but the labelled part is said to be nearly all of it: no student
    # can seem sound.
    collapsed = (
        "SELECT count(*) FROM tags WHERE key = 'cryossl.stop_reason' AND value = 'collapsed'"
    )
    ((before,),) = lab.asked(
        collapsed
    )  # eight steps are few: some students above may have been no better
    planted = lab.run(
        "--name",
        "planted",
        "--strategies",
        "naive,quantile",
        "--particle-radius-fraction",
        "0.4",
        "--target-particle-ratio",
        "0.99",
        "--validations",
        "4",
    )
    assert planted.code == 0
    for strategy, file in (
        ("naive", "naive_pseudolabel_ratio_30.json"),
        ("quantile", "quantile_pseudolabel_ratio_30.json"),
    ):
        (arm,) = lab.file(file, of="planted")["seeds"].values()
        baseline, student = arm["iterations"]
        assert arm["summary"]["stop_reason"] == "collapsed"
        assert (arm["summary"]["best_iteration"], student["accepted"]) == (0, False)
        assert arm["summary"]["f1"] == baseline["numbers"]["test/f1"]
        run = student["mlflow_run_id"]
        assert lab.asked(
            f"SELECT value FROM tags WHERE key = 'cryossl.collapsed' AND run_uuid = '{run}'"
        ) == [("true",)]
        assert f"{strategy} iteration 1 collapsed" in planted.out
    assert lab.asked(collapsed) == [(before + 2,)]
