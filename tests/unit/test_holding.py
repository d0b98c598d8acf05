from __future__ import annotations

import os
import signal

import pytest

from cryossl.errors import BusyError, StorageError
from cryossl.holding import held_by, one_at_a_time
from cryossl.interruption import interrupted_at_once


def test_a_folder_is_held_by_one_and_free_afterwards(tmp_path):
    folder = tmp_path / "results"
    assert held_by(folder) is None
    with one_at_a_time(folder):
        assert f"process {os.getpid()} on" in str(held_by(folder))
        with pytest.raises(BusyError, match=f"in use by process {os.getpid()}"), one_at_a_time(folder):
            pytest.fail("held twice")
        assert f"process {os.getpid()} on" in str(held_by(folder))  # who was refused did not take the holder's name away
    assert held_by(folder) is None
    with one_at_a_time(folder):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the results folder"), one_at_a_time(tmp_path / "file" / "below"):
        pytest.fail("held nothing")


def test_sigterm_is_an_exception_inside_and_what_it_was_outside():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
