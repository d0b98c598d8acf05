"""cryossl.progress.status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cryossl.errors import StorageError
from cryossl.progress.events import Progress
from cryossl.progress.status import (
    MESSAGES_KEPT,
    SECONDS_BETWEEN_WRITES,
    PlannedPhase,
    StatusFile,
    TrainingLog,
    read_status,
    render_status,
    status_as_dict,
)

PROJECT = Path(__file__).resolve().parents[3]
PLAN = (
    PlannedPhase("Loading data"),
    PlannedPhase("Calculate ground truth particle ratio"),
    PlannedPhase("Supervised baseline training", 20.0),
)

RUN_THAT_WAITS = """
import sys, time
from pathlib import Path
from cryossl.progress.status import StatusFile
StatusFile(Path(sys.argv[1]), run="waits").begin("training")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "status.json"


def test_what_a_run_writes_another_reads(path: Path) -> None:
    live = StatusFile(path, run="pseudolabel_balanced", plan=PLAN)
    live.begin("Loading data")
    live.update(Progress("decode", 8, 52, "batch"))
    live.message("✅ Generated 516 class-balanced pseudo-labels")
    status = read_status(path)
    assert (status.run, status.pid, status.alive) == ("pseudolabel_balanced", os.getpid(), True)
    assert (status.state, status.title, status.phase) == ("running", "Loading data", "decode")
    assert (status.done, status.total, status.unit) == (8, 52, "batch")
    assert status.upcoming == (
        "Calculate ground truth particle ratio",
        "Supervised baseline training",
    )
    assert status.messages == ("✅ Generated 516 class-balanced pseudo-labels",)


def test_the_block_says_what_runs_what_comes_next_and_what_then(path: Path) -> None:
    live = StatusFile(path, run="r", plan=PLAN)
    live.begin("Loading data")
    live.update(Progress("Loading data", 8, 52, "batch"))
    live.message("Average particle ratio: 3.9% (target: 4.0%)")
    lines = render_status(read_status(path)).splitlines()
    assert lines[0].startswith(f"✅ Running (process {os.getpid()} on ")
    assert lines[1:4] == [
        "⏳ Loading data (batch 8/52)",
        "⏳ Next: Calculate ground truth particle ratio",
        "⏳ Then: Supervised baseline training",
    ]
    assert lines[-1] == "Average particle ratio: 3.9% (target: 4.0%)"


def test_remaining_times_are_shown_when_they_are_known(path: Path) -> None:
    StatusFile(path, run="r").begin("training")
    status = replace(
        read_status(path),
        phase="epoch",
        done=3,
        total=100,
        unit="epoch",
        phase_seconds_left=61.0,
        whole_seconds_left=3660.0,
    )
    text = render_status(status)
    assert "⏳ training: epoch (epoch 3/100), about 1 min 01 s left" in text
    assert "⏱ Whole run: about 1 h 01 min left" in text


def test_remaining_times_come_from_the_work_done(path: Path) -> None:
    live = StatusFile(path, run="r", plan=(PlannedPhase("a", 1.0), PlannedPhase("b", 1.0)))
    live.begin("a")
    live.update(Progress("a", 0, 4, "batch"))
    time.sleep(0.2)
    live.update(Progress("a", 1, 4, "batch"))
    live.message("written now")
    status = read_status(path)
    assert status.phase_seconds_left is not None
    assert status.whole_seconds_left is not None
    assert 0.6 <= status.phase_seconds_left < 6.0
    assert status.whole_seconds_left == pytest.approx(status.phase_seconds_left * 7 / 3)


def test_the_end_of_a_short_count_does_not_make_the_whole_look_nearly_done(path: Path) -> None:
    plan = tuple(
        PlannedPhase(title, measured_by="train")
        for title in ("baseline", "naive", "class_balanced")
    )
    live = StatusFile(path, run="r", plan=plan)
    live.begin("baseline")
    live.update(Progress("train", 0, 500, "step"))
    time.sleep(0.2)
    live.update(Progress("train", 500, 500, "step"))
    live.begin("naive")
    for done in (0, 95):
        live.update(Progress("predict", done, 95, "micrograph"))
    assert (read_status(path).whole_seconds_left or 0) >= 2 * 0.2


def test_within_a_phase_the_file_is_written_at_most_twice_a_second_and_always_at_its_end(
    path: Path,
) -> None:
    live = StatusFile(path, run="r")
    live.begin("training")
    seen = set()
    began = time.monotonic()
    for step in range(1, 501):
        live.update(Progress("train", step, 500, "step"))
        seen.add(read_status(path).done)
    # The start of the phase, its end, and one for each interval that passed meanwhile.
    assert len(seen) <= 2 + (time.monotonic() - began) / SECONDS_BETWEEN_WRITES
    assert max(seen) == 500


def test_a_reader_never_sees_half_a_file(path: Path) -> None:
    live = StatusFile(path, run="r")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            live.message("x" * 2000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        readings = [read_status(path) for _ in range(200)]
    finally:
        stop.set()
        writer.join()
    assert {reading.run for reading in readings} == {"r"}


def test_only_the_last_messages_are_kept(path: Path) -> None:
    live = StatusFile(path, run="r")
    for number in range(MESSAGES_KEPT + 3):
        live.message(str(number))
    assert read_status(path).messages == tuple(map(str, range(3, MESSAGES_KEPT + 3)))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("finished", "✅ Finished after"),
        ("failed", "❌ Failed after"),
        ("stopped", "⏹ Stopped after"),
    ],
)
def test_the_end_of_a_run_is_told(path: Path, state: str, words: str) -> None:
    live = StatusFile(path, run="r", plan=PLAN)
    live.begin("Loading data")
    live.close(state)  # type: ignore[arg-type]
    text = render_status(read_status(path))
    assert text.startswith(words)
    assert "⏳" not in text


def test_a_run_that_was_killed_is_told_from_one_that_lives(path: Path) -> None:
    path.parent.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_THAT_WAITS, str(path)], stdout=subprocess.PIPE, cwd=PROJECT
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        assert read_status(path).alive is True
        run.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        # Not waited for yet: a zombie does not live either.
        while read_status(path).alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_status(path).alive is False
    finally:
        run.kill()
        run.communicate()
    status = read_status(path)
    assert status.alive is False
    assert "Not running" in render_status(status)


def test_a_process_number_given_to_another_process_is_not_the_run(path: Path) -> None:
    StatusFile(path, run="r")
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(record | {"process_started": record["process_started"] - 3600}), encoding="utf-8"
    )
    assert read_status(path).alive is False


def test_of_a_process_on_another_host_nothing_is_claimed(path: Path) -> None:
    StatusFile(path, run="r")
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"host": "elsewhere.invalid"}), encoding="utf-8")
    status = read_status(path)
    assert status.alive is None
    assert "as far as this host can know" in render_status(status)


def test_no_run_yet_and_a_foreign_file_are_errors_of_one_line(path: Path) -> None:
    with pytest.raises(StorageError, match="no run has written"):
        read_status(path)
    path.parent.mkdir()
    for content in ("", "[1]", '{"run": "r"}', "\x00"):
        path.write_text(content)
        with pytest.raises(StorageError) as caught:
            read_status(path)
        assert "\n" not in str(caught.value)


def test_the_status_as_json_names_all_that_the_block_shows(path: Path) -> None:
    StatusFile(path, run="r", plan=PLAN)
    record = json.loads(json.dumps(status_as_dict(read_status(path))))
    assert record["alive"] is True
    assert record["upcoming"] == [phase.title for phase in PLAN]


def test_a_run_outlives_a_live_file_that_cannot_be_written(path: Path) -> None:
    live = StatusFile(path, run="r")
    path.unlink()
    path.parent.rmdir()
    live.message("goes on")
    assert not path.exists()


def test_each_line_of_the_log_carries_its_time_and_is_there_at_once(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "x_training.log") as log:
        log.line("first\nsecond")
        lines = log.path.read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line) for line in lines] == [
        "first",
        "second",
    ]
    assert all(re.match(r"\d{4}", line) for line in lines)


def test_a_second_start_goes_on_in_the_log_and_a_torn_line_stays_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run_training.log"
    path.write_text("whole\ntor", encoding="utf-8")
    with TrainingLog(path) as log:
        log.line("✅ again")
    with TrainingLog(path) as log:
        log.line("and again")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["whole", "tor"]
    assert lines[2].endswith("  ✅ again")
    assert lines[3].endswith("  and again")
    assert len(lines) == 4


def test_a_log_on_a_full_disk_says_so() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        TrainingLog(full) as log,
        pytest.raises(StorageError, match="/dev/full cannot be written: No space left"),
    ):
        log.line("x")
