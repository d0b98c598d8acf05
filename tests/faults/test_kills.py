"""kill -9 of the whole experiment at random moments changes no number, no byte and no record."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from cryossl.tracking.tracker import Tracker
from faults.apart import PROJECT, environment


def test_a_run_that_is_killed_again_and_again_ends_as_the_undisturbed_one(
    size, note, store_template, bench_folder, tmp_path
):
    kills = size(bounded=3, long=200)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "faults.kill_run",
            "--kills",
            str(kills),
            "--seed",
            str(kills),
            "--folder",
            str(tmp_path),
            "--shared",
            str(bench_folder),
            "--empty-store",
            str(store_template),
        ],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    hit = ", ".join(
        f"{count} in {phase or 'start'}" for phase, count in sorted(report["interrupted"].items())
    )
    note(
        "kill -9 at random moments of the whole experiment",
        ran=f"{report['kills']} kills of {report['runs']} runs of naive and class_balanced ({hit})",
        found=f"{len(report['differences'])} numbers, weights, pseudo-labels or tracked points "
        "differ from the calm run",
        bar="200 kills or more, all bit-identical",
    )
    assert report["differences"] == []
    assert report["kills"] == kills
    assert done.returncode == 0


@pytest.mark.slow
def test_a_kill_while_a_fresh_tracking_store_is_made_leaves_none_and_the_next_start_makes_it(
    tmp_path,
):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = (
        "import sys; from pathlib import Path; from cryossl.tracking.tracker import Tracker\n"
        "Tracker(sys.argv[1], 'x', Path(sys.argv[2]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, uri, str(tmp_path / "j")], cwd=PROJECT
    ) as victim:
        while not (tmp_path / ".mlflow.db.half").exists() and victim.poll() is None:
            time.sleep(0.01)
        time.sleep(0.5)
        victim.kill()
    assert not (tmp_path / "mlflow.db").exists()
    with Tracker(uri, "x", tmp_path / "j").run("fp", name="n", parent=None, tags={}) as run:
        run.metrics({"test/f1": 0.5}, step=0)
    assert run.run_id is not None
    assert not list(tmp_path.glob(".mlflow.db.half*"))
