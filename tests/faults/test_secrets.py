"""Secrets in an address or in the environment are written nowhere."""

from __future__ import annotations

from faults.apart import apart
from faults.secrets_planted import ADDRESS, hits


def test_a_planted_secret_is_found_in_nothing_that_a_run_or_a_command_leaves(
    note, bench_folder, tmp_path
):
    found = apart("secrets_planted", bench_folder, folder=tmp_path)
    note(
        "planted secrets",
        ran=f"{found['secrets']} in address and environment, a whole run, "
        f"{len(found['codes']) - 1} other "
        f"commands with the server there and away, {found['files']} files searched",
        found=f"{len(found['hits'])} hits",
        bar="0 hits in logs, store, artifacts, report",
    )
    assert found["hits"] == []
    assert (
        found["codes"]["the run"],
        found["codes"]["report"],
        found["codes"]["sync, store away"],
    ) == (0, 0, 3), found["said"]


def test_the_search_finds_a_secret_that_is_there(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"\0" + f"http://x:{ADDRESS}@host".encode())
    assert list(hits(tmp_path)) == [f"deep/log: {ADDRESS}"]
