from __future__ import annotations

import pytest

from cryossl.errors import StorageError
from cryossl.sweep.state import Ledger


def test_what_was_recorded_is_known_to_the_next_start(tmp_path):
    ledger = Ledger(tmp_path / "sweep.json")
    assert (ledger.threads, ledger.fingerprint("k"), len(ledger)) == (None, None, 0)
    ledger.keep_threads(3)
    ledger.record("k", fingerprint="f", facts={"seed": 0})
    again = Ledger(tmp_path / "sweep.json")
    assert (again.threads, again.fingerprint("k"), again.fingerprint("other"), len(again)) == (
        3,
        "f",
        None,
        1,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": "x/1", "threads": 2}',
        "\x00",
        '{"schema": "cryossl-sweep/1", "threads": "2", "finished": []}',
        '{"schema": "cryossl-sweep/1", "threads": -1, "finished": {"k": {"fingerprint": 1}}}',
    ],
)
def test_a_damaged_one_counts_as_empty_and_can_be_written_again(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    ledger = Ledger(tmp_path / "sweep.json")
    assert (ledger.threads, ledger.fingerprint("k"), len(ledger)) == (None, None, 0)
    ledger.record("k", fingerprint="f", facts={})
    assert Ledger(tmp_path / "sweep.json").fingerprint("k") == "f"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        Ledger(tmp_path / "absent" / "sweep.json").keep_threads(1)
