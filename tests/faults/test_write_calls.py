"""Death, a full disk, a broken disk and a lost permission at every single call by which a file is written."""

from __future__ import annotations

from faults.apart import apart
from faults.write_faults import DEATHS, ERRORS


def test_a_fault_at_any_write_call_leaves_the_old_state_or_the_new_and_the_next_writing_mends_it(
    size, note, quick_folder
):
    acts = (*DEATHS[: size(bounded=1, long=3)], *ERRORS[: size(bounded=1, long=3)])
    found = apart("write_calls", ",".join(acts), folder=quick_folder)
    tried = ", ".join(f"{act} {count} times" for act, count in found["tried"].items())
    note(
        "death or error at the n-th open, write, fsync, rename of a writer",
        ran=f"{found['scenes']} kinds of files (checkpoint, stage, journal ...), n = 1, 2, 3 ... "
        f"until one passes: {tried}",
        found=f"{len(found['wrong'])} mixtures or states that the next writing did not mend",
        bar="all n, the old state or the new one",
    )
    assert found["wrong"] == []
    assert min(found["tried"].values()) > 100


def test_a_file_that_is_written_in_place_is_found_out(quick_folder):
    found = apart(
        "write_calls", ",".join(("die half way", "ENOSPC")), "careless", folder=quick_folder
    )
    assert [one.split(": ")[1] for one in found["wrong"]] == [
        "die half way call 2",
        "ENOSPC call 2",
    ]
