"""A tuning whose trials are jobs of a real Slurm: each ends once, with the value that it has in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import Cluster, slurm

from cryossl.config_file import load
from cryossl.progress.events import silent
from cryossl.strategy_settings import with_own
from cryossl.tuning.plan import Request, plan_of
from cryossl.tuning.study import Studies
from cryossl.tuning.trial import Task, evaluated

pytestmark = pytest.mark.timeout(1800)

STRATEGIES = ("naive", "class_balanced")
TUNING = ("--strategies", ",".join(STRATEGIES), "--trials", "2", "--seeds", "1")
FAST = ("--validations", "1", "--baseline-epochs", "8", "--student-epochs", "4")
JOBS = ("--executor", "slurm", "--jobs", "2", "--slurm", "cpus-per-task=1,mem=1500")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with slurm() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def test_trials_that_are_jobs_have_the_values_that_they_have_here(cluster, new_lab, tmp_path):
    lab, space = new_lab(), tmp_path / "space.yaml"
    space.write_text("learning_rate: [0.01, 0.02]\n")
    done = lab.run(*TUNING, *FAST, "--space", str(space), *JOBS, command="tune")
    assert (done.code, done.err) == (0, "")
    submitted = [name for name in cluster.names() if name.startswith("cryossl-tune-")]
    assert len(submitted) == len(set(submitted)) == 5  # the baseline's and four trials
    assert set(cluster.jobs().values()) == {"COMPLETED"}

    folder = lab.results / "pseudolabel_balanced"
    config, _ = load(folder / "tuned.yaml", {"work": str(tmp_path / "work")}, yielding={})
    selection = config.selection.model_copy(update={"tuned_by": "", "strategy_settings": ()})
    config = config.model_copy(update={"selection": selection})
    plan = plan_of(config, Request(space, 2, 1, 1000, 1, "local", None, dry_run=False))
    studies = Studies(folder / "tuning.db", plan.space)
    for strategy in STRATEGIES:
        trials = studies.trials(strategy)
        assert [one.state for one in trials] == ["complete"] * 2
        for one in trials:
            place = tmp_path / f"{strategy}_{one.number}"
            place.mkdir()
            task = Task("key", with_own(config, strategy, one.values), strategy, (1000,))
            assert evaluated(task, place, silent).value == one.value
