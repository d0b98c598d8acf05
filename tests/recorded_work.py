"""A work folder that an earlier version left, and a second start of its command over it.

The folder is kept in `recorded/work.tar.xz`: data, stages, store, journals, results and the
tracking database of one small experiment. `python tests/recorded_work.py` makes it anew, which is
right only when a release says that stage keys changed. The command takes the recorded digests of the
code for the present ones, because code changes all the time: all other parts of the keys must be as
they were.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ARCHIVE = Path(__file__).parent / "recorded" / "work.tar.xz"
RECORDED_AT = "/recorded"
"""Stands in the archive for the folder that it is unpacked into: addresses of a tracking store are absolute."""
SETTINGS = """\
ratio: 10
batch_size: 4
learning_rate: 0.01
decoder_width: 4
threads: 1
device: cpu
precision: fp32
least_steps: 0
baseline_epochs: 20
student_epochs: 2
max_iterations: 1
validations: 1
naive_threshold: 0.5
particle_threshold: 0.5
background_threshold: 0.5
audit: true
accept: always
strategies: naive,class_balanced+calibrated,stability,noisy_student,ema_consistency+prior_match,supervised_long
"""


def start(folder: Path, *options: str) -> str:
    """Run the recorded command with more options in a folder, and return what it prints."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
    }
    environment |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT),
    }
    words = [
        "run",
        "--config",
        "settings.yaml",
        "--data",
        "data",
        "--work",
        "work",
        "--results",
        "experiments",
        "--tracking-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--eight-views",
        "false",  # what it recorded has one scoring
        *options,
    ]
    code = (
        "import json, pathlib, sys; from cryossl.selftraining import stage_code\n"
        "file = pathlib.Path('work/code.json')\n"
        "if file.exists(): code = json.loads(file.read_text())[-1]; "
        "stage_code.present_code = lambda: code\n"
        f"sys.argv = {['cli.py', *words]!r}; import cli; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def tables(printed: str) -> str:
    """The tables and the verdict of what a run printed, without the advice and the next command."""
    shown = printed[printed.index("Naive against class-balanced") :]
    return re.split(r"\n(?:Does self-training|Next)\b", shown)[0].rstrip()


def unpack(folder: Path) -> None:
    """Unpack the recorded folder, with the addresses in it as they would be had it been made there."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    _move_addresses(folder, RECORDED_AT, str(folder))


def stages(folder: Path) -> set[str]:
    """The finished stages below a folder, each by its kind and key."""
    return {
        path.parent.relative_to(folder / "work" / "stages").as_posix()
        for path in (folder / "work" / "stages").glob("*/*/stage.json")
    }


def points(folder: Path) -> set[tuple[object, ...]]:
    """Every point of the tracking database: run, metric, step, value, time."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return set(database.execute("SELECT run_uuid, key, step, value, timestamp FROM metrics"))


def kinds(folder: Path) -> dict[str, str]:
    """Run of the tracking database -> its kind."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = database.execute("SELECT run_uuid, value FROM tags WHERE key = 'cryossl.kind'")
        return {str(run): str(kind) for run, kind in rows}


def _move_addresses(folder: Path, old: str, new: str) -> None:
    """Replace a folder's path where a tracking database and the journals hold it."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
    for path in folder.glob("work/journals/*/sent.json"):
        path.write_text(path.read_text().replace(old, new))


def record() -> None:
    """Run the command in a fresh folder and pack what it leaves."""
    from cryossl.data.synthetic.dataset import synthesise
    from cryossl.progress.events import silent

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        synthesise(
            folder / "data", seed=0, train=24, validation=4, test=4, size_px=64, report=silent
        )
        (folder / "settings.yaml").write_text(SETTINGS)
        (folder / "table.txt").write_text(tables(start(folder)) + "\n")
        for path in (
            folder / "mlruns",
            *folder.glob("work/journals/*/artifacts"),
        ):  # sent already, and large
            shutil.rmtree(path)
        for path in folder.rglob("*.lock"):
            path.unlink()
        _move_addresses(folder, str(folder), RECORDED_AT)
        ARCHIVE.parent.mkdir(exist_ok=True)
        with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, arcname=path.name)


if __name__ == "__main__":
    record()
