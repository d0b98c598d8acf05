from __future__ import annotations

import pytest

from cryossl.errors import StorageError
from cryossl.sweep.state import SweepState


def test_what_was_recorded_is_known_to_the_next_start(tmp_path):
    state = SweepState(tmp_path / "sweep.json")
    assert (state.threads, state.fingerprint("k"), len(state)) == (None, None, 0)
    state.keep_threads(3)
    state.record("k", fingerprint="f", facts={"seed": 0})
    again = SweepState(tmp_path / "sweep.json")
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
    state = SweepState(tmp_path / "sweep.json")
    assert (state.threads, state.fingerprint("k"), len(state)) == (None, None, 0)
    state.record("k", fingerprint="f", facts={})
    assert SweepState(tmp_path / "sweep.json").fingerprint("k") == "f"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        SweepState(tmp_path / "absent" / "sweep.json").keep_threads(1)
