"""`tune` on real trainings: equal tries, one record of each trial, a config of the tuned arms, and tables that count tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coco_folders import without_test_part

from cryossl.config_file import load
from cryossl.tuning.plan import Request, plan_of
from cryossl.tuning.study import Studies, Trial

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1800)

STRATEGIES = ("naive", "class_balanced", "soft")
SPACE = """
learning_rate: {low: 0.005, high: 0.02, log: true}
naive: {naive_threshold: {low: 0.5, high: 0.6}}
class_balanced: {max_pseudo_per_labelled: [1, 2]}
"""
FAST = ("--validations", "1", "--baseline-epochs", "20", "--student-epochs", "8")
"""One validation a training: no collapse alarm can end it."""
TUNING = ("--strategies", ",".join(STRATEGIES), "--trials", "3", "--seeds", "1", *FAST)


def space_file(lab, text: str = SPACE) -> str:
    file = lab.folder / "space.yaml"
    file.write_text(text)
    return str(file)


def tune(lab, *options: str):
    return lab.run(*TUNING, "--space", space_file(lab), *options, command="tune")


def trials_of(lab, *, name: str = "pseudolabel_balanced") -> dict[str, list[Trial]]:
    """What the study of a results folder has of each strategy."""
    config, _ = load(lab.results / name / "tuned.yaml", {}, yielding={})
    selection = config.selection.model_copy(update={"tuned_by": ""})
    training = config.training.model_copy(update={"learning_rate": 0.01})
    config = config.model_copy(update={"selection": selection, "training": training})
    request = Request(lab.folder / "space.yaml", 3, 1, 1000, 1, "local", None, dry_run=False)
    space = plan_of(config, request).space
    studies = Studies(lab.results / name / "tuning.db", space)
    return {strategy: studies.trials(strategy) for strategy in space}


def runs_of_kind(lab, kind: str) -> list[tuple[str, str]]:
    """Name and status of the tracked runs of a kind."""
    return sorted(
        lab.asked(
            "SELECT r.name, r.status FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = "
            f"'cryossl.kind' AND t.value = '{kind}'"
        )
    )


@pytest.fixture(scope="module")
def tuned(new_lab):
    lab = new_lab()
    done = tune(lab)
    assert done.err == ""
    assert done.code == 0
    return lab, done


def test_each_strategy_has_equally_many_trials_and_begins_with_what_it_is(tuned):
    lab, _ = tuned
    found = trials_of(lab)
    assert set(found) == set(STRATEGIES)
    for strategy, trials in found.items():
        assert [one.number for one in trials] == [0, 1, 2]
        assert {one.state for one in trials} == {"complete"}
        assert trials[0].values["learning_rate"] == "0.01"
        assert len({json.dumps(one.values) for one in trials}) == 3, strategy
    assert found["naive"][0].values["naive_threshold"] == "0.5"


def test_the_table_names_tries_states_and_the_next_command(tuned):
    _, done = tuned
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.split()}
    for strategy in STRATEGIES:
        assert rows[strategy][:4] == ["3", "3", "0", "0"]
        untuned, best = map(float, rows[strategy][4:6])
        assert 0 < untuned <= best <= 100
    assert "only seeds that tuning never saw test it" in done.out
    assert "tuned.yaml --seeds 6" in done.out


def test_the_tuned_config_has_the_best_values_and_where_they_come_from(tuned):
    lab, _ = tuned
    file = lab.results / "pseudolabel_balanced" / "tuned.yaml"
    config, _ = load(file, {}, yielding={})
    entries = set(config.selection.strategy_settings)
    for strategy, trials in trials_of(lab).items():
        best = max(trials, key=lambda one: (one.value, -one.number))
        assert {f"{strategy}.{name}={text}" for name, text in best.values.items()} <= entries
    assert config.selection.tries == tuple(f"{one}=3" for one in STRATEGIES)
    assert config.selection.tuned_by.endswith(" seeds 1000-1000")
    assert config.training.student_epochs == 8
    assert config.input.data == str(lab.data)
    assert config.run.name == "pseudolabel_balanced-tuned"


def test_every_trial_is_one_tracked_run_below_that_of_the_tuning(tuned):
    lab, _ = tuned
    assert runs_of_kind(lab, "tuning") == [("tune pseudolabel_balanced", "FINISHED")]
    assert runs_of_kind(lab, "trial") == sorted(
        (f"{strategy} trial {number}", "FINISHED") for strategy in STRATEGIES for number in range(3)
    )
    parents = lab.asked("SELECT DISTINCT value FROM tags WHERE key = 'mlflow.parentRunId'")
    assert len(parents) == 1
    tracked = lab.asked(
        "SELECT p.value, q.value, m.value FROM params p JOIN params q USING (run_uuid) JOIN "
        "metrics m USING (run_uuid) WHERE p.key = 'strategy' AND q.key = 'trial' AND m.key = "
        "'validation/f1'"
    )
    values = {(strategy, int(number)): value for strategy, number, value in tracked}
    for strategy, trials in trials_of(lab).items():
        for one in trials:
            assert values[strategy, one.number] == pytest.approx(one.value)


def test_tables_of_arms_know_nothing_of_trials(tuned):
    lab, _ = tuned
    done = lab.call("runs", "--tracking-uri", f"sqlite:///{lab.database}")
    assert "trial" not in done.out
    done = lab.call("compare", "--tracking-uri", f"sqlite:///{lab.database}")
    assert done.code == 2
    assert "Traceback" not in done.err


def test_a_start_over_a_finished_tuning_does_nothing_and_prints_the_result(tuned):
    lab, first = tuned
    before = {path: path.stat().st_mtime_ns for path in lab.results.rglob("task.json")}
    again = tune(lab)
    assert (again.code, again.err) == (0, "")
    assert again.out.partition("strategy ")[2] == first.out.partition("strategy ")[2]
    assert {path: path.stat().st_mtime_ns for path in lab.results.rglob("task.json")} == before
    assert len(runs_of_kind(lab, "trial")) == 9
    assert len(runs_of_kind(lab, "tuning")) == 1


def test_status_says_that_it_is_finished(tuned):
    lab, _ = tuned
    done = lab.call("status", "--results", str(lab.results))
    assert "Finished" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--trials", "2"), "has 3 trials of naive, and --trials is 2"),
        (("--seeds", "2"), "holds a tuning of other seeds;"),
        (("--student-epochs", "9"), "holds a tuning of other settings;"),
        (("--strategies", "naive,soft"), "holds a tuning of another space or other strategies;"),
        (("--tuning-seed", "0"), "the first seed of the tables, is a seed of the tuning"),
        (("--max-iterations", "0"), "there is no student to tune"),
        (("--strategies", "naive,full"), "full has no pseudo-labels"),
        (("--slurm", "time=5"), "add --executor slurm"),
        (("--space", "absent.yaml"), "space absent.yaml"),
        (("--space", "{tmp}/overlap.yaml"), "overlap"),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_line(tuned, tmp_path, options, said):
    lab, _ = tuned
    (tmp_path / "overlap.yaml").write_text(
        "learning_rate: {low: 0.005, high: 0.02}\n"
        "class_balanced: {particle_threshold: {low: 0.1, high: 0.9}}\n"
    )
    done = tune(lab, *(one.replace("{tmp}", str(tmp_path)) for one in options))
    assert done.code == 2
    (line,) = done.err.strip().splitlines()
    assert said in line


def test_the_seeds_of_the_tuning_are_refused_to_the_tuned_arms(tuned):
    lab, _ = tuned
    file = str(lab.results / "pseudolabel_balanced" / "tuned.yaml")
    done = lab.call("run", "--config", file, "--seed", "1000")
    assert done.code == 2
    assert "seed 1000 was used to tune these settings" in done.err
    done = lab.call("sweep", "--config", file, "--seed", "998", "--seeds", "6", "--dry-run")
    assert done.code == 2
    assert "seed 1000 was used to tune these settings" in done.err
    done = lab.call("tune", "--config", file)
    assert done.code == 2
    assert "these settings were tuned before" in done.err


def test_the_tuned_arms_run_and_the_tables_count_their_tries(tuned):
    lab, _ = tuned
    file = str(lab.results / "pseudolabel_balanced" / "tuned.yaml")
    controlled = (*STRATEGIES, "supervised_long")
    done = lab.call("run", "--config", file, "--strategies", ",".join(controlled))
    assert done.code == 0, done.err
    store = ("--tracking-uri", f"sqlite:///{lab.database}")
    document = json.loads(lab.call("compare", *store, "--format", "json").out)
    rows = document["tables"]["by_ratio"]["rows"]
    tries = {row["strategy"]["text"]: row["tries"]["text"] for row in rows}
    assert tries == {"supervised": "1", "supervised_long": "1"} | dict.fromkeys(STRATEGIES, "3")
    assert "tries: trials of a tuning" in lab.call("compare", *store).out
    params = lab.asked("SELECT DISTINCT value FROM params WHERE key = 'selection.tries'")
    assert ("naive=3,class_balanced=3,soft=3",) in params


def test_more_trials_go_on_and_what_was_there_stays(tuned):
    lab, _ = tuned
    before = trials_of(lab)
    done = tune(lab, "--trials", "4", "--jobs", "3")
    assert (done.code, done.err) == (0, "")
    after = trials_of(lab)
    for strategy, trials in after.items():
        assert trials[:3] == before[strategy]
        assert [one.number for one in trials] == [0, 1, 2, 3]
    assert len(runs_of_kind(lab, "trial")) == 12
    assert len(runs_of_kind(lab, "tuning")) == 1


def test_the_number_of_jobs_up_to_that_of_strategies_changes_no_trial(tuned, new_lab):
    lab, _ = tuned
    other = new_lab()
    done = tune(other, "--jobs", "2", "--trials", "2")
    assert (done.code, done.err) == (0, "")
    for strategy, trials in trials_of(other).items():
        assert trials == trials_of(lab)[strategy][:2]


def test_dry_run_lists_the_space_and_trains_nothing(new_lab):
    lab = new_lab()
    done = tune(lab, "--dry-run")
    assert done.code == 0
    assert (
        "naive: 3 trials\n  learning_rate: 0.005 to 0.02, log\n  naive_threshold: 0.5 to 0.6"
        in (done.out)
    )
    assert "9 trials, each on seeds 1000 to 1000: at most about" in done.out
    assert not lab.results.exists()
    assert not (lab.work / "stages").exists()


def test_without_a_test_part_tuning_would_see_the_test_of_other_seeds(new_lab, tiny_data, tmp_path):
    lab = new_lab(without_test_part(tiny_data, tmp_path / "data"))
    for options in ([], ["--dry-run"]):
        done = tune(lab, *options)
        assert done.code == 2
        assert "each seed sets another half of validation aside as test" in done.err
        assert "give --test-half fixed" in done.err
    assert not (lab.work / "stages").exists()


def test_with_one_test_half_for_all_seeds_data_without_a_test_part_are_tuned_and_then_run(
    new_lab, tiny_data, tmp_path
):
    lab = new_lab(without_test_part(tiny_data, tmp_path / "data"))
    fixed = ("--test-half", "fixed", "--strategies", "naive", "--trials", "1")
    done = tune(lab, *fixed, "--space", space_file(lab, "learning_rate: [0.01, 0.02]"), "--dry-run")
    assert (done.code, done.err) == (0, "")
    done = tune(lab, *fixed, "--space", space_file(lab, "learning_rate: [0.01, 0.02]"))
    assert (done.code, done.err) == (0, "")
    file = str(lab.results / "pseudolabel_balanced" / "tuned.yaml")
    assert "test_half: fixed" in Path(file).read_text()
    done = lab.call("sweep", "--config", file, "--seeds", "2", "--dry-run")
    assert done.code == 0, done.err
    done = lab.call("sweep", "--config", file, "--test-half", "by_seed", "--dry-run")
    assert done.code == 2
    (line,) = [one for one in done.err.splitlines() if "error" in one]
    assert "tuning may have chosen on it; give --test-half fixed" in line


def test_without_optuna_one_line_says_what_to_install(tmp_path):
    (tmp_path / "optuna.py").write_text("raise ImportError('No module named optuna')\n")
    done = subprocess.run(
        [sys.executable, str(PROJECT / "cli.py"), "tune"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("cryossl: error: tune needs Optuna")
    assert line.endswith("pip install -e .[tune]")
    helped = subprocess.run(
        [sys.executable, str(PROJECT / "cli.py"), "tune", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert helped.returncode == 0
