from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cryossl.system.process import is_at_work, is_dead, lives, process_tags

HERE = platform.node()


def test_a_process_lives_until_it_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert lives(process.pid, host=HERE) is True
        process.communicate(b"\n")
    assert lives(process.pid, host=HERE) is False


def test_a_zombie_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert lives(process.pid, host=HERE) is False
    finally:
        process.wait()


def test_an_id_that_was_given_out_again_is_another_process():
    started = psutil.Process().create_time()
    assert lives(os.getpid(), host=HERE, started=started + 1) is True  # the clock was set
    assert lives(os.getpid(), host=HERE, started=started - 3600) is False


def test_what_this_host_cannot_know_is_none():
    assert lives(os.getpid(), host="elsewhere.invalid") is None
    assert lives(-1, host=HERE) is None


@pytest.mark.parametrize(
    ("changed", "dead"),
    [
        ({}, False),
        ({"process.started": "1000"}, True),
        ({"process.started": "no number"}, False),
        ({"process.started": "nan"}, False),
        ({"process.host": "elsewhere.invalid", "process.started": "1000"}, False),
        ({"process.pid": "no number"}, False),
        ({"process.pid": str(2**30)}, True),
        ({"process.pid": str(2**30), "process.started": "no number"}, True),
    ],
)
def test_a_run_is_dead_if_its_tags_name_a_process_of_this_host_that_is_gone(changed, dead):
    assert is_dead({**process_tags(), **changed}) is dead


def test_the_tags_of_older_versions_name_a_process_too():
    old = {
        "cryossl.host": HERE,
        "cryossl.pid": str(os.getpid()),
        "cryossl.process_started": process_tags()["process.started"],
    }
    assert is_dead(old) is False
    assert is_dead(old | {"cryossl.process_started": "1000"}) is True
    assert is_dead(old | {"cryossl.host": "elsewhere.invalid"}) is False


def test_a_program_at_work_is_known_by_its_name_and_its_command():
    words = [sys.executable, "-c", "input()", "some-command"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        name = Path(sys.executable).name
        assert is_at_work(name, "some-command")
        assert not is_at_work(name, "no-such-command")
        assert not is_at_work("no-such-program", "some-command")
        process.communicate(b"\n")
    assert not is_at_work(name, "some-command")
