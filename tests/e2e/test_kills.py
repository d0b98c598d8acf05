"""kill -9 of the whole experiment at random moments changes no number, no byte and no record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


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
