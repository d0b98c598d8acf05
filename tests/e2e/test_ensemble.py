"""The control `ensemble` through the real command: its cost, its scores, its model, and a start after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryossl.network.picking_model import MODEL_FILE, read

PROJECT = Path(__file__).resolve().parents[2]
OPTIONS = ("--strategies", "ensemble,naive", "--ensemble-networks", "3", "--headline-views", "8")


@pytest.fixture(scope="module")
def done(lab):
    """The first start."""
    return lab.run(*OPTIONS)


def finished_trainings(folder: Path) -> int:
    return len(list((folder / "stages" / "train").glob("*/stage.json")))


def test_it_is_a_control_that_is_scored_by_one_view_and_by_eight(lab, done):
    assert (done.code, done.err) == (0, "")
    found = lab.numbers()["ensemble 1"]
    for name in ("test/f1", "test/f1_views8", "test/particle_f1", "gain/f1", "gain/f1_views8"):
        assert found[name] is not None
    ((verdict,),) = lab.asked(
        "SELECT v.value FROM tags s JOIN tags k USING (run_uuid) JOIN tags v USING (run_uuid) "
        "WHERE s.key = 'cryossl.strategy' AND s.value = 'ensemble' AND k.key = 'cryossl.kind' AND "
        "k.value = 'arm' AND v.key = 'cryossl.verdict'"
    )
    assert verdict == "control"
    assert set(lab.statuses()) == {"FINISHED"}
    compared = lab.call("compare", "--tracking-uri", f"sqlite:///{lab.database}")
    assert (compared.code, "ensemble" in compared.out) == (0, True)


def test_each_further_network_takes_as_many_steps_as_the_longest_student(lab, done):
    found = lab.numbers()
    assert found["ensemble 1"]["train/steps"] == 2 * found["naive 1"]["train/steps"]
    assert finished_trainings(lab.work) == 1 + 1 + 2
    assert found["ensemble 1"]["best_step/step"] is None
    assert found["ensemble 1"]["best_step/test_f1"] is not None


def test_gains_of_strategies_are_not_counted_from_it(lab, done):
    (arm,) = lab.file("naive_pseudolabel_ratio_30.json")["seeds"].values()
    assert arm["summary"]["verdict_reference"] == "supervised"


def test_its_model_file_holds_all_its_networks_and_picks(lab, done, tmp_path):
    files = sorted(lab.folder.rglob(MODEL_FILE))
    path = next(one for one in files if read(one).description.origin.strategy == "ensemble")
    model = read(path)
    assert (model.description.networks, model.description.views) == (3, 8)
    assert len(list(model.network().network.networks)) == 3
    assert {read(one).description.networks for one in files} == {1, 3}
    picked = lab.call(
        "pick",
        str(lab.data / "test"),
        "--model",
        str(path),
        "--to",
        str(tmp_path / "picks"),
    )
    assert picked.code == 0


def test_a_run_that_was_killed_between_its_networks_ends_with_the_same_numbers(lab, done, new_lab):
    disturbed = new_lab()
    words = ["run", *disturbed.places(), *disturbed.tiny, *OPTIONS, "--checkpoint-seconds", "0"]
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "cli.py"), *words],
        cwd=disturbed.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        while run.poll() is None and finished_trainings(disturbed.work) < 3:
            time.sleep(0.01)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert finished_trainings(disturbed.work) == 3
    again = disturbed.run(*OPTIONS)
    assert again.code == 0
    assert disturbed.numbers() == lab.numbers()


def test_more_networks_are_another_experiment_and_one_is_refused(lab, done):
    refused = lab.run("--strategies", "ensemble", "--ensemble-networks", "1")
    assert refused.code == 2
    assert "ensemble_networks" in refused.err.replace("-", "_")
    two = lab.run("--strategies", "ensemble,naive", "--name", "two")
    assert two.code == 0
    numbers = lab.numbers(of="two")
    assert numbers["ensemble 1"]["test/f1"] != lab.numbers()["ensemble 1"]["test/f1"]
    assert numbers["naive 1"] == lab.numbers()["naive 1"]
