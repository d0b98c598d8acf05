from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from cryossl.sweep.executors import (
    MOST_STARTS,
    TRIES,
    LocalExecutor,
    command,
    environment,
    is_to_start_again,
    last_line,
)


def ended(job, *, within_seconds: float = 120.0) -> int:
    deadline = time.monotonic() + within_seconds
    while (code := job.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(code)


def test_a_cell_of_this_machine_is_the_run_command_and_its_output_goes_to_the_log(tmp_path):
    job = LocalExecutor().start(tmp_path / "absent.yaml", tmp_path / "output.log", name="cell")
    assert ended(job) == 2
    assert "absent.yaml" in last_line(tmp_path / "output.log")


def test_a_cell_that_is_terminated_ends(tmp_path):
    job = LocalExecutor().start(tmp_path / "absent.yaml", tmp_path / "output.log", name="cell")
    job.terminate()
    job.wait()
    assert job.poll() in (-signal.SIGTERM, 130, 2)


def test_the_command_is_this_pythons(tmp_path):
    words = command(tmp_path / "s.yaml")
    assert words[0] == sys.executable
    assert Path(words[1]).is_file()
    assert words[2:] == ["run", "--config", str(tmp_path / "s.yaml")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"A": "1", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
            {"A": "1", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
        ),
        (
            {"MLFLOW_RUN_ID": "r", "MLFLOW_EXPERIMENT_NAME": "n", "MLFLOW_EXPERIMENT_ID": "4"},
            {"MLFLOW_EXPERIMENT_ID": "4"},
        ),
        ({"MLFLOW_RUN_ID": "r", "MLFLOW_EXPERIMENT_NAME": "n"}, {"MLFLOW_EXPERIMENT_NAME": "n"}),
    ],
)
def test_no_cell_adopts_the_run_that_was_made_for_the_sweep(ours, theirs):
    assert environment(ours) == {**theirs, "PYTHONIOENCODING": "utf-8"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\ncryossl: error: no space; free some\n\n", "no space; free some"),
        ("", "it said nothing"),
        ("\n \n", "it said nothing"),
        ("x" * 9000 + "\nlast", "last"),
    ],
)
def test_the_last_line_is_the_one_that_says_something(tmp_path, text, line):
    (tmp_path / "log").write_text(text)
    assert last_line(tmp_path / "log") == line
    assert last_line(tmp_path / "absent") == "it left no log"


def test_each_process_sees_the_gpu_of_its_place_and_a_place_that_is_free_again_is_taken(tmp_path):
    executor, settings = LocalExecutor(), tmp_path / "absent.yaml"
    executor.spread([{"CUDA_VISIBLE_DEVICES": name} for name in ("GPU-a", "GPU-b", "GPU-a")])
    jobs, seen = [], []
    for number in range(3):
        before = {child.pid for child in psutil.Process().children()}
        jobs.append(executor.start(settings, tmp_path / f"{number}.log", name=str(number)))
        (child,) = (one for one in psutil.Process().children() if one.pid not in before)
        seen.append(child.environ()["CUDA_VISIBLE_DEVICES"])
    assert seen == ["GPU-a", "GPU-b", "GPU-a"]
    jobs[1].terminate()
    jobs[1].wait()
    before = {child.pid for child in psutil.Process().children()}
    jobs.append(executor.start(settings, tmp_path / "3.log", name="3"))
    (child,) = (one for one in psutil.Process().children() if one.pid not in before)
    assert child.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    for job in jobs:
        job.terminate()
        job.wait()


class Ended:
    """A job that has ended; `cut`: the cluster ended it before its time."""

    def __init__(self, code: int, *, cut: bool = False, refused: bool = False) -> None:
        self._code, self._cut, self._refused = code, cut, refused

    def poll(self) -> int:
        return self._code

    def terminate(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def remark(self) -> str:
        return ""

    def cut_short(self) -> bool:
        return self._cut

    def refused(self) -> bool:
        return self._refused


@pytest.mark.parametrize(
    ("code", "cut", "most"),
    [
        (-9, False, TRIES),
        (1, False, TRIES),
        (130, False, TRIES),
        (137, False, TRIES),
        (143, False, TRIES),
        (2, False, 1),  # it failed by itself and says why
        (6, False, 1),
        (143, True, MOST_STARTS),
        (2, True, MOST_STARTS),
    ],
)
def test_what_something_else_ended_is_started_again_so_often(code, cut, most):
    again = [is_to_start_again(Ended(code, cut=cut), code, starts=count) for count in range(1, 30)]
    assert again == [count < most for count in range(1, 30)]


def test_what_the_cluster_could_not_start_is_not_started_again():
    assert not is_to_start_again(Ended(1, refused=True), 1, starts=1)
