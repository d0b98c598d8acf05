"""kill -9 of `tune`, and Ctrl-C: the finished study has each trial once, and the numbers of a quiet one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from faults.apart import PROJECT, environment

SPACE = """
learning_rate: {low: 0.005, high: 0.03, log: true}
naive: {naive_threshold: {low: 0.5, high: 0.6}}
"""
OPTIONS = (
    *("--strategies", "naive,soft", "--trials", "3", "--seeds", "2", "--ratio", "30"),
    *("--batch-size", "2", "--learning-rate", "0.01", "--decoder-width", "4", "--threads", "1"),
    *("--least-steps", "0", "--baseline-epochs", "30", "--student-epochs", "24"),
    *("--max-iterations", "1", "--validations", "4", "--checkpoint-seconds", "0.2"),
    *("--naive-threshold", "0.5"),
)
pytestmark = pytest.mark.timeout(1800)
TITLES = r"(naive|soft) trial \d"


class Place:
    """A folder with a store, a work folder and results of its own."""

    def __init__(self, folder: Path, data: Path, store: Path) -> None:
        folder.mkdir()
        shutil.copyfile(store, folder / "mlflow.db")
        (folder / "space.yaml").write_text(SPACE)
        self.folder, self.data = folder, data
        self.results = folder / "results" / "pseudolabel_balanced"
        self.log = folder / "output.log"

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        words = [
            *("tune", "--space", str(self.folder / "space.yaml"), "--data", str(self.data)),
            *("--work", str(self.folder / "work"), "--results", str(self.results.parent)),
            *("--tracking-uri", f"sqlite:///{self.folder / 'mlflow.db'}", *OPTIONS, *options),
        ]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, str(PROJECT / "cli.py"), *words],
                cwd=self.folder,
                env=environment(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING="false"),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, *options: str) -> float:
        """Let it end by itself; returns the seconds that it took."""
        began = time.monotonic()
        process = self.start(*options)
        assert process.wait(1500) == 0, self.log.read_text()[-3000:]
        return time.monotonic() - began

    def study(self) -> dict[str, list]:
        """The trials of each study with values, states, scores and points; times left out."""
        with contextlib.closing(sqlite3.connect(self.results / "tuning.db")) as database:
            ask = lambda query: database.execute(query).fetchall()  # noqa: E731
            named = "studies s JOIN trials t USING (study_id)"
            order = "ORDER BY study_name, number, 3, 4"
            return {
                "trials": ask(f"SELECT study_name, number, state, 0 FROM {named} {order}"),
                "params": ask(
                    f"SELECT study_name, number, param_name, param_value FROM {named} "
                    f"JOIN trial_params USING (trial_id) {order}"
                ),
                "values": ask(
                    f"SELECT study_name, number, value, 0 FROM {named} "
                    f"JOIN trial_values USING (trial_id) {order}"
                ),
                "points": ask(
                    f"SELECT study_name, number, step, intermediate_value FROM {named} "
                    f"JOIN trial_intermediate_values USING (trial_id) {order}"
                ),
                "facts": ask(
                    f"SELECT study_name, number, key, value_json FROM {named} "
                    f"JOIN trial_user_attributes USING (trial_id) {order}"
                ),
            }

    def tracked(self) -> list[tuple]:
        """The tracked runs of trials, with their states and scores."""
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(
                "SELECT r.name, r.status, k.value, s.value, m.key, m.step, m.value FROM runs r "
                "JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = 'cryossl.kind' "
                "JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = 'cryossl.trial_state' "
                "LEFT JOIN metrics m ON m.run_uuid = r.run_uuid "
                "WHERE k.value = 'trial' ORDER BY 1, 5, 6"
            ).fetchall()

    def tuned(self) -> str:
        """The tuned config without the folder of this place."""
        return (self.results / "tuned.yaml").read_text().replace(str(self.folder), "")


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from cryossl.data.synthetic.dataset import synthesise
    from cryossl.progress.events import silent

    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesise(folder, seed=0, train=12, validation=4, test=4, size_px=64, report=silent)
    return folder


@pytest.fixture(scope="module")
def quiet(data, store_template, tmp_path_factory) -> tuple[Place, float]:
    """A tuning that nobody disturbed, and the seconds that it took."""
    place = Place(tmp_path_factory.mktemp("quiet") / "place", data, store_template)
    return place, place.end()


def killed(place: Place, *, kills: int, seconds: float, seed: int) -> int:
    """Kill it at random moments until it ends; returns how often it was killed."""
    rng, count = random.Random(seed), 0
    while count < kills:
        process = place.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(rng.uniform(0.05, 0.6) * seconds) == 0, place.log.read_text()
            return count
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        count += 1
    place.end()
    return count


def check(place: Place, quiet: Place) -> None:
    found, wanted = place.study(), quiet.study()
    assert [row[:2] for row in found["trials"]] == [
        (strategy, number) for strategy in ("naive", "soft") for number in range(3)
    ]
    assert found == wanted
    assert place.tracked() == quiet.tracked()
    assert place.tuned() == quiet.tuned()


def test_a_tuning_that_was_killed_twice_ends_as_a_quiet_one(
    quiet, data, store_template, tmp_path, note
):
    calm, seconds = quiet
    place = Place(tmp_path / "place", data, store_template)
    kills = killed(place, kills=2, seconds=seconds, seed=2)
    assert kills
    check(place, calm)
    note(
        "kill -9 of `tune` at random moments",
        ran=f"{kills} kills of a tuning of 6 trials",
        found="each trial is there once, with the numbers and the best of a quiet tuning",
        bar="10 kills, the same best",
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_tuning_that_was_killed_at_ten_moments_ends_as_a_quiet_one(
    quiet, data, store_template, tmp_path
):
    calm, seconds = quiet
    kills = 0
    for attempt in range(20):
        place = Place(tmp_path / f"place_{attempt}", data, store_template)
        kills += killed(place, kills=min(4, 10 - kills), seconds=seconds, seed=attempt)
        check(place, calm)
        if kills >= 10:
            return
    raise AssertionError(f"only {kills} kills hit")


def test_ctrl_c_ends_the_trials_too_and_the_same_command_goes_on(
    quiet, data, store_template, tmp_path
):
    calm, _ = quiet
    place = Place(tmp_path / "place", data, store_template)
    process = place.start("--jobs", "2")
    deadline = time.monotonic() + 900
    while not re.search(rf"✅ {TITLES}|✂ {TITLES}", place.log.read_text(encoding="utf-8")):
        assert process.poll() is None, place.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while not (going := children_of(process)):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "the same command continues" in place.log.read_text()
    _, alive = psutil.wait_procs(going, timeout=5)
    assert alive == []
    status = json.loads((place.results / "status.json").read_text())
    assert status["state"] == "stopped"
    place.end("--jobs", "2")
    check(place, calm)


def test_trials_end_when_the_tuning_is_killed(data, store_template, tmp_path):
    place = Place(tmp_path / "place", data, store_template)
    process = place.start()
    while not (going := children_of(process)):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(going, timeout=60)
    assert alive == []
