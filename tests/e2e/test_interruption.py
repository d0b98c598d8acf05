"""SIGTERM to the real command in the middle of a training: no step is lost, and MLflow shows the runs as KILLED."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LONG = (
    "--baseline-epochs",
    "4000",
    "--validations",
    "1",
    "--checkpoint-seconds",
    "3600",
    "--strategies",
    "naive",
)


def stopped_when(lab, log: Path, wanted: str) -> tuple[int, str, float]:
    """Start the command, send SIGTERM once the log has a line that fits; exit code, standard error, seconds until it ended."""
    command = [sys.executable, str(PROJECT / "cli.py"), "run", *lab.places(), *lab.tiny, *LONG]
    with subprocess.Popen(
        command, cwd=lab.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        while not (log.exists() and re.search(wanted, log.read_text(encoding="utf-8"))):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        began = time.monotonic()
        said = run.communicate(timeout=60)[1]
    return run.returncode, said, time.monotonic() - began


@pytest.fixture(scope="module")
def stops(lab):
    """A start that is stopped in its training, and a second one that is stopped as soon as it goes on."""
    log = lab.results / "pseudolabel_balanced" / "pseudolabel_balanced_training.log"
    first = stopped_when(lab, log, r"epoch 3 ")
    statuses = sorted(lab.statuses())
    second = stopped_when(lab, log, "goes on behind step")
    return first, second, statuses, log.read_text(encoding="utf-8")


def test_a_stopped_run_ends_within_ten_seconds_with_exit_code_130(stops):
    for code, said, seconds in stops[:2]:
        assert code == 130
        assert seconds < 10
        assert (
            said.splitlines()[-1]
            == "cryossl: error: interrupted; the same command continues from the last checkpoint"
        )


def test_its_runs_are_killed_in_the_tracking_store(stops, lab):
    assert stops[2] == ["KILLED", "KILLED"]
    assert set(lab.statuses()) == {"KILLED"}


def test_the_next_start_goes_on_behind_the_very_step_at_which_it_was_stopped(stops, lab):
    before, _, after = stops[3].partition("⏹")
    (step,) = re.findall(r"train: goes on behind step (\d+) of 8000", after)
    epochs = len(re.findall(r"epoch \d+ ", before))
    # An epoch has two steps, and no checkpoint was due.
    assert int(step) in (2 * epochs, 2 * epochs + 1)
    assert epochs >= 3
