"""kill -9 of the whole experiment at random moments changes no number, no byte and no record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryossl.tracking import Tracker

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_the_undisturbed_one(store_template, tmp_path, kills):
    program = Path(__file__).with_name("kill_run.py")
    done = subprocess.run([sys.executable, str(program), "--kills", str(kills), "--seed", str(kills), "--folder", str(tmp_path),
                           "--empty-store", str(store_template)],
                          env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["differences"] == []
    assert report["kills"] == kills
    assert done.returncode == 0


@pytest.mark.slow
def test_a_kill_while_a_fresh_tracking_store_is_made_leaves_none_and_the_next_start_makes_it(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = ("import sys; from pathlib import Path; from cryossl.tracking import Tracker\n"
            "Tracker(sys.argv[1], 'x', Path(sys.argv[2]))")
    with subprocess.Popen([sys.executable, "-c", code, uri, str(tmp_path / "j")], cwd=PROJECT) as victim:
        while not (tmp_path / ".mlflow.db.half").exists() and victim.poll() is None:
            time.sleep(0.01)
        time.sleep(0.5)
        victim.kill()
    assert not (tmp_path / "mlflow.db").exists()
    with Tracker(uri, "x", tmp_path / "j").run("fp", name="n", parent=None, tags={}) as run:
        run.metrics({"test/f1": 0.5}, step=0)
    assert run.run_id is not None
    assert not list(tmp_path.glob(".mlflow.db.half*"))
