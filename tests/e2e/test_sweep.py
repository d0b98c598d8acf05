"""A grid of real runs: a failing cell stops no other, kills cost nothing, finished cells do not run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NAME = "pseudolabel_balanced"
ONE_STRATEGY = ("--strategies", "class_balanced")


def cell_folder(lab, ratio: int, seed: int) -> Path:
    return lab.results / NAME / f"ratio_{ratio}_seed_{seed}"


def state(lab) -> dict:
    return json.loads((lab.results / NAME / "sweep.json").read_text())


def without_ratio(words: tuple[str, ...]) -> list[str]:
    at = words.index("--ratio")
    return [*words[:at], *words[at + 2 :]]


def sweep(lab, *options: str):
    return lab.call("sweep", *lab.places(), *without_ratio(lab.tiny), *options)


# --- one sweep of two cells, one of which cannot write its log at first


@pytest.fixture(scope="module")
def grid() -> tuple[str, ...]:
    return (*ONE_STRATEGY, "--ratios", "30,50", "--seeds", "1")


@pytest.fixture(scope="module")
def hampered(lab, grid):
    """A sweep in which the second cell fails."""
    obstacle = cell_folder(lab, 50, 0) / "ratio_50_seed_0_training.log"
    obstacle.mkdir(parents=True)
    done = sweep(lab, *grid)
    obstacle.rmdir()
    return done


@pytest.fixture(scope="module")
def mended(lab, grid, hampered):
    """The same command again, with nothing in the way."""
    return sweep(lab, *grid)


def test_a_cell_that_fails_stops_no_other_and_decides_the_exit_code(lab, hampered):
    assert (hampered.code, hampered.err) == (6, "")
    assert "1 of 2 cells have finished, 1 failed; the same command tries again:" in hampered.out
    (line,) = [
        line
        for line in hampered.out.splitlines()
        if line.startswith("❌ 50% seed 0 (exit code 6): ")
    ]
    assert "ratio_50_seed_0_training.log" in line
    assert "30% (" in hampered.out
    assert [entry["folder"] for entry in state(lab)["finished"].values()] == ["ratio_30_seed_0"]


def test_the_next_start_runs_what_is_missing_alone(lab, mended):
    assert (mended.code, mended.err) == (0, "")
    assert "2 cells, 1 of them finished" in mended.out
    assert "▸ 50% seed 0" in mended.out
    assert "▸ 30% seed 0" not in mended.out
    assert len(state(lab)["finished"]) == 2


def test_at_the_end_come_the_comparison_of_all_cells_and_the_next_command(mended):
    assert "30% (" in mended.out
    assert "50% (" in mended.out
    assert "\nNext: `python cli.py report --tracking-uri " in mended.out


def test_the_notes_files_of_a_sweep_hold_what_its_cells_hold(lab, mended):
    for ratio in (30, 50):
        file = f"balanced_pseudolabel_ratio_{ratio}.json"
        assert lab.file(file) == json.loads((cell_folder(lab, ratio, 0) / file).read_text())
    rows = lab.file("balanced_pseudolabel_summary.json")["rows"]
    assert [(row["ratio_percent"], row["seed"]) for row in rows] == [(30, 0), (50, 0)]


def test_a_finished_sweep_starts_no_process_and_tells_the_same(lab, grid, mended):
    before = (cell_folder(lab, 30, 0) / "output.log").stat().st_mtime_ns
    done = sweep(lab, *grid)
    assert (done.code, done.err) == (0, "")
    assert "▸ 30%" not in done.out
    assert (cell_folder(lab, 30, 0) / "output.log").stat().st_mtime_ns == before
    assert (
        done.out[done.out.index("Strategies at each") :]
        == mended.out[mended.out.index("Strategies at each") :]
    )
    listed = sweep(lab, *grid[:-1], "2", "--dry-run")
    assert listed.code == 0
    assert "30% seed 0: finished\n50% seed 0: finished\n30% seed 1: about " in listed.out
    assert "4 cells of class_balanced: 2 finished, 2 to run" in listed.out


def test_a_cell_has_the_numbers_of_a_run_with_its_settings(lab, mended):
    done = lab.run(*ONE_STRATEGY, "--name", "alone")
    assert (done.code, done.err) == (0, "")
    assert lab.numbers(of="alone") == lab.numbers(of=f"{NAME}/ratio_30_seed_0")
    (ours,), (theirs,) = (
        lab.file("balanced_pseudolabel_ratio_30.json", of=name)["seeds"].values()
        for name in ("alone", NAME)
    )
    assert ours["fingerprint"] == theirs["fingerprint"]


# --- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ratios", "30,40,30"], "names a ratio twice"),
        (["--ratios", "abc"], "ratio"),
        (["--ratios", "20,30"], "label the same 3"),
        (["--ratio", "5", "--ratios", "5,10"], "leave one of them out"),
        (
            ["--labelled", "mine.txt", "--ratio", "77"],
            "the labelled list mine.txt says what is labelled, and so does --ratio;",
        ),
        (
            ["--labelled", "mine.txt", "--ratios", "5"],
            "the labelled list mine.txt says what is labelled, and so does --ratios;",
        ),
        (["--slurm", "a=1"], "add --executor slurm"),
        (["--executor", "slurm", "--slurm", "nonsense"], "NAME=VALUE"),
        (["--strategies", "clever"], "unknown strategy"),
        (["--data", "absent"], "absent: no such folder"),
        (["--seed", "2147483647", "--seeds", "2"], "seed"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line_before_anything_runs(new_lab, options, said):
    lab = new_lab()
    done = lab.call("sweep", *lab.places(), *options)
    assert done.code == 2, done.out
    assert done.err.startswith("cryossl: error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not list(lab.results.glob("*/ratio_*"))


# --- a labelled list


def test_a_labelled_list_names_its_cells_by_the_ratio_that_it_amounts_to(new_lab, tmp_path):
    lab, file = new_lab(), tmp_path / "mine.txt"
    file.write_text("\n".join(sorted(path.name for path in (lab.data / "train").iterdir())[1:5]))
    done = sweep(lab, *ONE_STRATEGY, "--labelled", str(file), "--seeds", "2", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert re.findall(r"^.*% seed \d", done.out, flags=re.MULTILINE) == [
        "33.33% seed 0",
        "33.33% seed 1",
    ]
    done = sweep(
        lab, *ONE_STRATEGY, "--labelled", str(file), "--seeds", "1", "--max-iterations", "0"
    )
    assert (done.code, done.err) == (0, "")
    assert [folder.name for folder in (lab.results / NAME).glob("ratio_*")] == [
        "ratio_33.33_seed_0"
    ]
    (cell,) = state(lab)["finished"].values()
    assert cell["ratio_percent"] == 33.33


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ({"label_unit": "tile", "tile_px": 32}, ["5% seed 0", "10% seed 0"]),
        ({"ratio": 40}, ["40% seed 0"]),
        ({"labelled": "mine.txt"}, ["8.33% seed 0"]),
    ],
)
def test_the_default_ratios_of_mlproject_give_way(given, listed, new_lab, tmp_path):
    lab = new_lab()
    (tmp_path / "mine.txt").write_text(
        sorted(path.name for path in (lab.data / "train").iterdir())[1]
    )
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(given))
    done = sweep(
        lab,
        *ONE_STRATEGY,
        "--defaults-yield",
        "--config",
        str(file),
        "--ratios",
        "5,10",
        "--seeds",
        "1",
        "--dry-run",
    )
    assert (done.code, done.err) == (0, "")
    assert re.findall(r"^.*% seed \d", done.out, flags=re.MULTILINE) == listed


# --- interruptions


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_that_is_interrupted_and_killed_ends_as_if_nothing_had_been(new_lab):
    grid = (
        *ONE_STRATEGY,
        "--ratios",
        "30,50",
        "--seeds",
        "2",
        "--baseline-epochs",
        "60",
        "--checkpoint-seconds",
        "0.05",
    )
    calm, lab = new_lab(), new_lab()
    assert sweep(calm, *grid).code == 0

    def start(*options: str) -> subprocess.Popen[str]:
        words = ["sweep", *lab.places(), *without_ratio(lab.tiny), *grid, "--jobs", "2", *options]
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "cli.py"), *words],
            cwd=lab.folder,
            text=True,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    first = start()
    wait_for(lambda: training(cell_folder(lab, 30, 0)) or training(cell_folder(lab, 50, 0)), first)
    busy = sweep(lab, *grid)
    assert (busy.code, busy.err.count("\n")) == (6, 1)
    assert f"in use by process {first.pid}" in busy.err
    first.send_signal(signal.SIGTERM)
    _, complaint = first.communicate(timeout=120)
    assert first.returncode == 130
    assert re.fullmatch(
        r"cryossl: error: interrupted; the same command continues [^\n]+", complaint.strip()
    )
    assert not any(held(cell_folder(lab, ratio, 0)) for ratio in (30, 50))

    second = start()
    wait_for(lambda: held(cell_folder(lab, 30, 0)) or held(cell_folder(lab, 50, 0)), second)
    second.kill()
    second.communicate()
    wait_for(lambda: not any(held(cell_folder(lab, ratio, 0)) for ratio in (30, 50)))
    last = start()
    said, complaint = last.communicate(timeout=1500)
    assert (last.returncode, complaint) == (0, ""), said
    for ratio in (30, 50):
        for seed in (0, 1):
            name = f"{NAME}/ratio_{ratio}_seed_{seed}"
            assert lab.numbers(of=name) == calm.numbers(of=name) != {}
    assert "RUNNING" not in lab.statuses()
    fingerprints = lab.asked(
        "SELECT value, count(*) FROM tags WHERE key = 'cryossl.fingerprint' AND run_uuid IN "
        "(SELECT run_uuid FROM tags "
        "WHERE key = 'cryossl.kind' AND value IN ('iteration', 'arm')) GROUP BY value"
    )
    assert [count for _, count in fingerprints] == [
        1
    ] * 12  # an arm and two models in each of four cells


def training(folder: Path) -> bool:
    try:
        return json.loads((folder / "status.json").read_text())["phase"].startswith("train")
    except (OSError, ValueError):
        return False


def held(folder: Path) -> bool:
    return (folder / "running").exists()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
