"""Signals to real commands: whatever asks them to end, and whenever, the exit code is 130 and no cell stays behind."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from faults.apart import environment

PROJECT = Path(__file__).resolve().parents[2]
CLI = PROJECT / "cli.py"
INTERRUPTED = "cryossl: error: interrupted; the same command continues from the last checkpoint"
TINY = (
    *("--ratios", "50", "--seeds", "1", "--jobs", "1", "--strategies", "naive", "--threads", "1"),
    *("--batch-size", "2", "--decoder-width", "4", "--least-steps", "0", "--validations", "1"),
    *("--baseline-epochs", "9000", "--max-iterations", "1"),
)
LIGHT_CELL = """
import sys, time
from cryossl.progress.events import Progress
from cryossl.progress.interruption import end_with_parent, interrupted_at_once, interruptible
end_with_parent()
with interrupted_at_once(), interruptible() as interruption:
    report = interruption.after(lambda event: None)
    open(sys.argv[1], "w").close()
    for step in range(3000):
        time.sleep(0.01)
        report(Progress("train", step, 3000, "step"))
"""
LIGHT_SWEEP = """
import sys, time
from pathlib import Path
from cryossl.sweep import executors
folder = Path(sys.argv[1])
executors.command = lambda settings, verb: [sys.executable, folder / "cell.py", settings]
jobs = [executors.LocalExecutor().start(folder / str(n), folder / f"{n}.log", name=str(n)) for n in range(2)]
print("started", flush=True)
time.sleep(60)
"""


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signals_as_in_a_terminal() -> None:
    """In a child before it starts: what runs the tests may ignore signals, and children inherit that."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def started(*words: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=signals_as_in_a_terminal,
        **options,
    )


def cells_of(sweep: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(sweep).children() if "run" in child.cmdline()]


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("library", "number"),
    [
        ("pydantic_core", signal.SIGINT),
        ("pydantic_core", signal.SIGTERM),
        ("pydantic_core", signal.SIGQUIT),
        ("libtorch", signal.SIGHUP),
        ("libtorch", signal.SIGTERM),
    ],
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs the maps of a process in /proc")
def test_a_signal_while_the_imports_load_ends_the_command_with_its_line(tmp_path, number, library):
    run = started(CLI, "run", "--data", tmp_path / "absent", cwd=tmp_path)
    maps = Path(f"/proc/{run.pid}/maps")
    wait_for(lambda: library in maps.read_text() or run.poll() is not None)
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert (run.returncode, said.splitlines()) == (130, [INTERRUPTED])


def test_two_signals_while_the_command_ends_change_neither_code_nor_line(tmp_path):
    """The second one reaches the interpreter while it ends."""
    program = (
        "import atexit, os, signal, sys; sys.argv = ['cryossl', 'status', '--watch', '--results', '.', '--name', '.']\n"
        "import cli; from cryossl.commands import status\n"
        "def interrupted(*_, **__): signal.raise_signal(signal.SIGTERM)\n"
        "status.status = interrupted\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "cli.main()"
    )
    run = started("-c", program, cwd=PROJECT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert set(said.split("\n")) == {"", INTERRUPTED}


def test_cells_end_when_their_sweep_is_killed(tmp_path):
    (tmp_path / "cell.py").write_text(LIGHT_CELL)
    sweep = started("-c", LIGHT_SWEEP, tmp_path, cwd=PROJECT)
    assert sweep.stdout.readline() == "started\n"
    cells = psutil.Process(sweep.pid).children()
    wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
    assert len(cells) == 2
    assert not any(map(ended, cells))
    sweep.kill()
    sweep.communicate()
    wait_for(lambda: all(map(ended, cells)), seconds=5)


def test_a_closed_terminal_ends_a_sweep_and_its_cell_in_order(tmp_path, store_template):
    """The kernel sends SIGHUP to the sweep alone, and no line can be written any more."""
    (tmp_path / "mlflow.db").write_bytes(store_template.read_bytes())
    synthetic = started(
        *(CLI, "data", "synth", "--to", tmp_path / "data", "--size-px", "64"),
        *("--train", "6", "--validation", "2", "--test", "1"),
    )
    synthetic.communicate(timeout=120)
    assert synthetic.returncode == 0
    sweep, terminal = pty.fork()
    if sweep == 0:
        os.chdir(tmp_path)
        signals_as_in_a_terminal()
        words = ["sweep", "--data", "data", "--tracking-uri", "sqlite:///mlflow.db", *TINY]
        os.execve(
            sys.executable,
            [sys.executable, str(CLI), *words],
            environment(TERM="xterm", MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING="false"),
        )
    folder = tmp_path / "experiments" / "pseudolabel_balanced" / "ratio_50_seed_0"

    def train() -> bool:
        """Reads what the terminal shows, too: a full one holds its writer."""
        while select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 65536)
        return _trains(folder)

    wait_for(train, seconds=200)
    (cell,) = cells_of(sweep)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(sweep, 0)[1]) == 130
    assert ended(cell)
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert (folder / "output.log").read_text(encoding="utf-8").splitlines()[-1] == INTERRUPTED
    log = folder.parent / "pseudolabel_balanced_training.log"
    assert "interrupted" in log.read_text(encoding="utf-8")


def _trains(folder: Path) -> bool:
    try:
        return json.loads((folder / "status.json").read_text())["phase"].startswith("train")
    except (OSError, ValueError):
        return False


def test_the_reader_of_a_pipe_that_leaves_ends_the_command_without_a_traceback(tmp_path):
    """As `| head` does."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(CLI), "run", "--help"],
        cwd=tmp_path,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (130, "")
