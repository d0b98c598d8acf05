"""Starts at the same moment: a fresh tracking store survives them, and a results folder has one holder, who is named."""

from __future__ import annotations

from faults.apart import apart


def test_processes_that_open_a_fresh_store_at_once_make_one_run_between_them(size, note, tmp_path):
    found = apart("racers", "store", size(bounded=1, long=20), folder=tmp_path)
    note(
        "processes starting on a fresh tracking store",
        ran=f"{found['racers']} at once, {found['rounds']} times",
        found=f"{len(found['wrong'])} rounds with a failure, a second run or a lost point",
        bar="8 at once, 20 times, 0 failures",
    )
    assert found["wrong"] == []


def test_of_two_starts_one_works_and_the_other_names_it_and_a_kill_frees_the_lock(
    size, note, bench_folder, tmp_path
):
    rounds = size(bounded=3, long=20)
    found = apart("racers", bench_folder, rounds, folder=tmp_path)
    note(
        "two starts of the same command at once",
        ran=f"{rounds} pairs; then kill -9 of the one that works",
        found=f"{rounds - len(found['wrong'])} times one worked and the other named its process "
        "and host; the lock was free "
        f"after {found['slowest_ms']:g} ms at most",
        bar="20 of 20; lock free within 1 s",
    )
    assert found["wrong"] == []
    assert found["slowest_ms"] < 10_000
