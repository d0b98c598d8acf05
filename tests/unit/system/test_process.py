from __future__ import annotations

import os
import platform
import subprocess
import sys

import psutil
import pytest

from cryossl.system.process import is_dead, lives, process_tags

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
        ({"cryossl.process_started": "1000"}, True),
        ({"cryossl.process_started": "no number"}, False),
        ({"cryossl.process_started": "nan"}, False),
        ({"cryossl.host": "elsewhere.invalid", "cryossl.process_started": "1000"}, False),
        ({"cryossl.pid": "no number"}, False),
        ({"cryossl.pid": str(2**30)}, True),
        ({"cryossl.pid": str(2**30), "cryossl.process_started": "no number"}, True),
    ],
)
def test_a_run_is_dead_if_its_tags_name_a_process_of_this_host_that_is_gone(changed, dead):
    assert is_dead({**process_tags(), **changed}) is dead
