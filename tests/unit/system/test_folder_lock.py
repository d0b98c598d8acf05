from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys

import pytest

from cryossl.errors import BusyError, StorageError
from cryossl.progress.interruption import interrupted_at_once
from cryossl.system.folder_lock import held_by, one_at_a_time


def test_a_folder_is_held_by_one_and_free_afterwards(tmp_path):
    folder = tmp_path / "results"
    assert held_by(folder) is None
    with one_at_a_time(folder):
        assert f"process {os.getpid()} on" in str(held_by(folder))
        with (
            pytest.raises(BusyError, match=f"in use by process {os.getpid()}"),
            one_at_a_time(folder),
        ):
            pytest.fail("held twice")
        assert f"process {os.getpid()} on" in str(
            held_by(folder)
        )  # who was refused did not take the holder's name away
    assert held_by(folder) is None
    with one_at_a_time(folder):
        pass


def test_a_killed_holder_is_not_taken_for_the_one_that_has_just_begun(tmp_path):
    """Between taking the lock and signing, the name that stands there is the killed one's."""
    folder = tmp_path / "held"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (folder / "running").write_text(f"process {gone.pid} on {platform.node()}")
    code = (
        "import os, platform, sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1] + '/.lock'):\n"
        "    print('held', flush=True); time.sleep(0.3)\n"
        "    open(sys.argv[1] + '/running', 'w').write(f'process {os.getpid()} on "
        "{platform.node()}'); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        assert held_by(folder) == f"process {holder.pid} on {platform.node()}"
        holder.stdin.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot write the results folder"),
        one_at_a_time(tmp_path / "file" / "below"),
    ):
        pytest.fail("held nothing")


def test_sigterm_is_an_exception_inside_and_what_it_was_outside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
