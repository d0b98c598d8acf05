"""Many runs in one process: memory, file handles and threads stay as they are."""

from __future__ import annotations

from faults.apart import apart

FEW_RUNS_GROWTH_PERCENT = 15.0
"""A few runs still fill caches; what leaks at each of them shows in handles and threads at once."""


def test_runs_in_one_process_hold_no_more_memory_and_no_more_handles_as_they_go_on(
    size, note, tmp_path
):
    runs, warm_up = size(bounded=4, long=500), size(bounded=2, long=50)
    found = apart("soak", runs, warm_up, folder=tmp_path)
    memory, handles, threads = found["growth_percent"]
    note(
        "tiny runs in one process",
        ran=f"{runs} runs; growth after the first {warm_up}",
        found=f"memory {memory:+.1f}% ({found['memory_mb'][0]} to {found['memory_mb'][1]} MB), "
        f"file handles {handles:+.1f}%, "
        f"threads {threads:+.1f}%",
        bar="under 5% after the first 50 of 500",
    )
    assert found["codes"] == [0]
    assert handles <= 0
    assert threads <= 0
    assert memory < size(bounded=FEW_RUNS_GROWTH_PERCENT, long=5.0)
