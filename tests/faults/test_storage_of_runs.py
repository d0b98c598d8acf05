"""The whole command on a disk that is full or fails: exit code 6 and one line, nothing torn, and it goes on with space."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from cryossl.errors import StorageError
from cryossl.tracking.tracker import Tracker
from faults.apart import apart
from faults.disk_full import fill, small_disk


@pytest.fixture
def mountable(tmp_path) -> None:
    """Skips where a small disk of its own cannot be mounted."""
    place = tmp_path / "probe"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "cryossl-fault-test", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.usefixtures("mountable")
def test_a_disk_that_becomes_full_ends_a_run_with_code_6_and_the_next_start_goes_on(
    size, note, bench_folder, tmp_path
):
    points = size(bounded=2, long=32)
    found = apart("disk_full", bench_folder, points, folder=tmp_path)
    note(
        "disk full at any moment",
        ran=f"a tmpfs of {found['disk_mb']} MB filled {found['full']} times in {found['runs']} "
        "runs, at moments evenly spaced "
        f"over the {found['taken_mb']} MB that a run writes",
        found=f"{found['full'] - found['passed']} ended with code 6 and one line, "
        f"{found['passed']} had nothing left to "
        f"write; {len(found['wrong'])} torn, lost or other than undisturbed",
        bar="exit 6, nothing torn, resumes after space is freed",
    )
    assert found["wrong"] == []
    assert found["full"] == points


@pytest.mark.usefixtures("mountable")
def test_a_tracking_store_on_a_full_disk_is_a_fault_of_storage(store_template, tmp_path):
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        shutil.copyfile(store_template, disk / "mlflow.db")
        fill(disk / "ballast")
        with pytest.raises(StorageError, match="disk is full"):
            Tracker(f"sqlite:///{disk / 'mlflow.db'}", "cryossl", tmp_path / "journals")
        (disk / "ballast").unlink()
        assert (
            Tracker(f"sqlite:///{disk / 'mlflow.db'}", "cryossl", tmp_path / "journals").away == ""
        )


@pytest.mark.parametrize("act", ["die half way", "EIO"])
def test_a_fault_at_a_write_call_of_a_run_costs_no_number_and_no_point(
    act, size, note, bench_folder, tmp_path
):
    stride = size(bounded=800, long=20)
    found = apart("run_write_calls", bench_folder, act, stride, folder=tmp_path)
    note(
        f"whole command: {act} at a write call",
        ran=f"{found['calls']} calls, one in {stride} of those that differ by file and count, in "
        f"{found['starts']} starts",
        found=f"{found['refused']} starts ended with code 6 and one line; {len(found['wrong'])} "
        "differences from the "
        "undisturbed run",
        bar="old or new state, never a mixture",
    )
    assert found["wrong"] == []
    assert found["calls"] > 0
