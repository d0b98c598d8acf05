"""The scheduler, with programs of one line in place of experiments."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cryossl.config_file import build
from cryossl.errors import CryosslError
from cryossl.progress.narrator import narrated
from cryossl.selftraining.records.result_files import OUTCOME
from cryossl.sweep.executors import MOST_STARTS
from cryossl.sweep.grid import Cell, cells
from cryossl.sweep.scheduler import Failure, PlannedCell, Schedule
from cryossl.system.folder_lock import one_at_a_time

TAKEN = 77
"""The exit code of a program whose place was taken from it."""


class Program:
    """A job that is a process."""

    def __init__(self, code: str, log: Path) -> None:
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdout=output, stderr=output
            )
        self.was_ended = False

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        self.was_ended = True
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait()

    def remark(self) -> str:
        return "taken by another" if self.cut_short() else ""

    def cut_short(self) -> bool:
        return self.poll() == TAKEN

    def refused(self) -> bool:
        return False


class Programs:
    """Starts the program that is meant for a cell, by its folder's name; remembers the order and how many were alive."""

    def __init__(self, codes: dict[str, str]) -> None:
        self.codes, self.started, self.most, self.jobs = codes, [], 0, []
        self.left: dict[str, Program] = {}

    def find(self, name: str) -> Program | None:
        return self.left.pop(name, None)

    def start(self, settings: Path, log: Path, *, name: str) -> Program:  # noqa: ARG002
        folder = settings.parent.name
        self.started.append((folder, yaml.safe_load(settings.read_text())["split"]["seed"]))
        if folder not in self.codes:
            raise CryosslError("nothing to start")
        self.jobs.append(Program(self.codes[folder], log))
        self.most = max(self.most, sum(job.poll() is None for job in self.jobs))
        return self.jobs[-1]


@pytest.fixture
def planned(tmp_path) -> list[PlannedCell]:
    config = build({"results": tmp_path, "name": "grid"})
    return [
        PlannedCell(cell.within(config, device="cpu", threads=1), str(number), "source", 10.0)
        for number, cell in enumerate(cells(config, ratios="5", seeds=4))
    ]


def scheduled(planned, programs, tmp_path, *, jobs: int = 1) -> tuple[list[Failure], list[str]]:
    done: list[str] = []
    with narrated(tmp_path / "grid", name="grid", plan=[]) as narrator:
        failures = Schedule(
            planned,
            programs,
            jobs=jobs,
            narrator=narrator,
            on_finished=lambda finished, _: done.append(finished.folder.name),
        ).run()
    return failures, done


def test_a_cell_that_fails_stops_no_other_and_is_listed_with_its_last_words(
    planned, tmp_path, capfd
):
    codes = {one.folder.name: "pass" for one in planned}
    codes["ratio_5_seed_1"] = (
        "import sys; print('well', flush=True); sys.exit('cryossl: error: no luck')"
    )
    (planned[2].folder.parent).mkdir(parents=True, exist_ok=True)
    planned[2].folder.write_text("a file where the folder should be")
    failures, done = scheduled(planned, programs := Programs(codes), tmp_path)
    assert done == ["ratio_5_seed_0", "ratio_5_seed_3"]
    assert [(one.planned.cell.title, one.code) for one in failures] == [
        ("5% seed 1", 1),
        ("5% seed 2", 6),
    ]
    assert failures[0].reason.startswith("no luck (")
    assert "ratio_5_seed_2" in failures[1].reason
    assert programs.started == [("ratio_5_seed_0", 0), ("ratio_5_seed_1", 1), ("ratio_5_seed_3", 3)]
    printed = capfd.readouterr().out
    assert "❌ 5% seed 1 failed: no luck" in printed
    assert "sweep: tile 40/40" in printed


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_so_many_cells_are_at_work_at_a_time(planned, tmp_path, jobs):
    programs = Programs({one.folder.name: "import time; time.sleep(0.5)" for one in planned})
    failures, done = scheduled(planned, programs, tmp_path, jobs=jobs)
    assert (failures, len(done), programs.most) == ([], 4, min(jobs, 4))


def test_an_interrupted_schedule_leaves_no_cell_at_work(planned, tmp_path):
    class Interrupting(Programs):
        def start(self, settings: Path, log: Path, *, name: str) -> Program:
            if len(self.started) == 2:
                raise KeyboardInterrupt
            return super().start(settings, log, name=name)

    programs = Interrupting({one.folder.name: "import time; time.sleep(60)" for one in planned})
    with pytest.raises(KeyboardInterrupt):
        scheduled(planned, programs, tmp_path, jobs=3)
    assert [(job.was_ended, job.poll() is None) for job in programs.jobs] == [(True, False)] * 2


def test_a_cell_that_another_process_holds_is_waited_for_and_then_run(planned, tmp_path, capfd):
    programs = Programs({one.folder.name: "pass" for one in planned})
    holding, released = threading.Event(), []

    def hold() -> None:
        with one_at_a_time(planned[1].folder):
            holding.set()
            time.sleep(1.0)
            released.append(len(programs.started))

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    failures, done = scheduled(planned, programs, tmp_path, jobs=2)
    holder.join()
    assert (failures, sorted(done)) == ([], sorted(one.folder.name for one in planned))
    assert "5% seed 1 is held by process" in capfd.readouterr().out
    assert ("ratio_5_seed_1", 1) not in programs.started[: released[0]]


def test_a_cell_that_is_cut_short_is_started_again_before_the_others(planned, tmp_path, capfd):
    mark = tmp_path / "was_here"
    codes = {one.folder.name: "pass" for one in planned}
    codes["ratio_5_seed_0"] = (
        f"import pathlib, sys; mark = pathlib.Path({str(mark)!r}); there = mark.exists(); "
        f"mark.touch(); sys.exit(0 if there else {TAKEN})"
    )
    failures, done = scheduled(planned, programs := Programs(codes), tmp_path)
    assert (failures, done) == ([], [one.folder.name for one in planned])
    assert [seed for _, seed in programs.started] == [0, 0, 1, 2, 3]
    assert "↻ 5% seed 0 will be started again: taken by another" in capfd.readouterr().out


def test_a_cell_that_is_always_cut_short_fails_in_the_end(planned, tmp_path):
    codes = {one.folder.name: "pass" for one in planned}
    codes["ratio_5_seed_1"] = f"import sys; sys.exit({TAKEN})"
    failures, done = scheduled(planned, programs := Programs(codes), tmp_path, jobs=2)
    assert [(one.planned.cell.title, one.code) for one in failures] == [("5% seed 1", TAKEN)]
    assert failures[0].reason.startswith("taken by another: ")
    assert len(done) == 3
    assert programs.started.count(("ratio_5_seed_1", 1)) == MOST_STARTS


ENDS_WELL = """
import pathlib
from cryossl.progress.narrator import narrated
from cryossl.selftraining.records.result_files import write_outcome
folder = pathlib.Path({folder!r})
with narrated(folder, name="cell", plan=[]):
    write_outcome(folder, fingerprint="f", made_from="source")
"""


@pytest.mark.parametrize("code", [1, TAKEN])
def test_a_cell_that_has_finished_by_its_files_counts_whatever_is_said_of_its_job(
    planned, tmp_path, code
):
    """The outcome of an earlier run in the folder does not count."""
    codes = {one.folder.name: "pass" for one in planned}
    finished, stale = planned[0].folder, planned[1].folder
    codes[finished.name] = ENDS_WELL.format(folder=str(finished)) + f"raise SystemExit({code})"
    codes[stale.name] = "raise SystemExit(1)"
    subprocess.run([sys.executable, "-c", ENDS_WELL.format(folder=str(stale))], check=True)
    assert (stale / OUTCOME).exists()
    failures, done = scheduled(planned, programs := Programs(codes), tmp_path)
    assert [(one.planned.folder, one.code) for one in failures] == [(stale, 1)]
    assert done[0] == finished.name
    assert programs.started.count((finished.name, 0)) == 1


def test_a_job_that_an_earlier_start_left_is_waited_for_and_not_started(planned, tmp_path, capfd):
    programs = Programs({one.folder.name: "pass" for one in planned})
    planned[2].folder.mkdir(parents=True)
    programs.left[planned[2].name] = Program("import time; time.sleep(0.5)", tmp_path / "log")
    failures, done = scheduled(planned, programs, tmp_path, jobs=2)
    assert (failures, sorted(done)) == ([], sorted(one.folder.name for one in planned))
    assert sorted(seed for _, seed in programs.started) == [0, 1, 3]
    assert "⏳ 5% seed 2 is a job of an earlier start; waiting for it" in capfd.readouterr().out


def test_a_cell_has_one_name_and_no_other_cell_has_it(planned, tmp_path):
    names = {one.name for one in planned}
    assert len(names) == len(planned)
    elsewhere = build({"results": tmp_path / "elsewhere", "name": "grid"})
    moved = Cell(elsewhere).within(elsewhere, device="cpu", threads=1)
    assert PlannedCell(moved, planned[0].key, "source", 1.0).name not in names
    assert replace(planned[0], key="other settings").name not in names
    assert replace(planned[0], cost=3.0).name in names
