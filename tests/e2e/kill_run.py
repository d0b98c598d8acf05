"""The real command, killed with SIGKILL at random moments and started again until it ends; then everything is compared.

    scripts/kill-test --kills 20              forks of one process that has imported everything: quick
    scripts/kill-test --kills 20 --real       a new interpreter for each start, as a user has it: minutes

What must be as in the run that nobody disturbed: every number of the result files, every weight, pseudo-label and
histogram byte for byte, and in MLflow each run (by fingerprint) once, each point once, nothing left RUNNING.
Half of the kills come at any moment, half within a phase that has had the fewest so far. Options behind `--` go to the
command. Exit code 1 and one line per difference if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
NAME = "pseudolabel_balanced"
PHASES = ("supervised: train", "iteration: predict", "iteration: assess", "iteration: train", "iteration: score validation")
TINY = ("--ratio", "5", "--batch-size", "4", "--learning-rate", "0.01", "--decoder-width", "4", "--threads", "1",
        "--least-steps", "0", "--baseline-epochs", "20", "--student-epochs", "2", "--max-iterations", "2", "--validations", "3",
        "--naive-threshold", "0.5", "--particle-threshold", "0.5", "--background-threshold", "0.5",
        "--checkpoint-seconds", "0.05")
MOST_KILLS_PER_RUN = 10


class Place:
    """A folder for the same command: its results, its work and its tracking store."""

    def __init__(self, folder: Path, data: Path, options: list[str], *, real: bool) -> None:
        self.folder = folder
        self._real = real
        self._words = ["run", "--data", str(data), "--work", str(folder / "work"), "--results", str(folder / "results"),
                       "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}", *options]
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> int:
        """Process id of a start of the command."""
        with (self.folder / "said.log").open("ab") as said:
            if self._real:
                command = [sys.executable, str(PROJECT / "cli.py"), *self._words]
                return subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL).pid
            child = os.fork()
            if child:
                return child
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        _be_the_command(self.folder, self._words)
        raise AssertionError("the command ends its process")

    def phase(self) -> str:
        """What the run is doing, as its live file says: the word before the phase tells baseline from students."""
        try:
            status = json.loads((self.folder / "results" / NAME / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        title = "iteration" if "iteration" in status["title"] else status["title"].partition(":")[0]
        return f"{title}: {status['phase']}"

    def numbers(self) -> dict[str, Any]:
        """Every number of the result files; times and run ids are not what a run computes."""
        found: dict[str, Any] = {}
        for path in sorted((self.folder / "results" / NAME).glob("*.json")):
            if path.name != "status.json":
                found[path.name] = _without_times(json.loads(path.read_text(encoding="utf-8")))
        return found

    def digests(self) -> dict[str, str]:
        """File of a finished stage -> SHA-256; stages are named by what they depend on, so names must agree too."""
        stages = self.folder / "work" / "stages"
        wanted = [path for pattern in ("*.safetensors", "pseudo.u8", "selection.json", "histograms.npz")
                  for path in stages.rglob(pattern)]
        return {path.relative_to(stages).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in wanted}

    def leftovers(self) -> list[str]:
        """What a run must not leave: half stages, temporary files, checkpoints, probability maps of the pool."""
        patterns = ("*.partial", ".*.tmp", "*.part", "checkpoint-*.pt", "probabilities-*")
        return sorted({path.relative_to(self.folder).as_posix() for one in patterns for path in self.folder.rglob(one)})

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the tracking database answers."""
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(query).fetchall()

    def points(self) -> dict[tuple[str, str, int], float]:
        """(run by its fingerprint, metric, step) -> value, without times and the invocations themselves."""
        rows = self.asked("SELECT t.value, m.key, m.step, m.value FROM metrics m JOIN tags t USING (run_uuid) WHERE "
                          "t.key = 'cryossl.fingerprint' AND t.value NOT LIKE 'invocation-%' AND m.key NOT LIKE '%seconds'")
        return {(run, key, step): value for run, key, step, value in rows}

    def doubled(self) -> list[str]:
        """Runs and points that the tracking store has more than once, and runs that were left open."""
        runs = self.asked("SELECT value, count(*) FROM tags WHERE key = 'cryossl.fingerprint' GROUP BY 1 HAVING count(*) > 1")
        points = self.asked("SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1")
        running = self.asked("SELECT name, status FROM runs WHERE status NOT IN ('FINISHED', 'KILLED')")
        unfinished = self.asked("SELECT r.name, r.status FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'cryossl.kind' "
                                "AND t.value != 'experiment' AND r.status != 'FINISHED'")
        return [f"{what}: {row}" for what, rows in (("run twice", runs), ("point twice", points), ("run left open", running),
                                                    ("run not finished", unfinished)) for row in rows]


def _be_the_command(folder: Path, words: list[str]) -> None:
    import cli

    os.chdir(folder)
    sys.argv = ["cli.py", *words]
    code = 1
    try:
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items()
                if not key.startswith("time/") and key != "mlflow_run_id" and key not in ("run.results", "run.work",
                                                                                          "run.tracking_uri")}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _empty_store(folder: Path) -> Path:
    """An empty tracking store, made by a process of its own so that no connection stays open in this one."""
    store = folder / "empty.db"
    code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{store}"], check=True, cwd=folder,
                   env=os.environ | {"MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_DISABLE_TELEMETRY": "true"})
    return store


def undisturbed(place: Place) -> float:
    """Seconds that a run takes from start to end."""
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(place.start(), 0)[1])
    if code:
        raise SystemExit(f"the undisturbed run ended with {code}; see {place.folder / 'said.log'}")
    return time.monotonic() - began


def disturbed(place: Place, *, most_kills: int, seconds: float, hits: Counter[str], rng: random.Random) -> None:
    """Start and kill until it ends by itself, or let it after so many kills. Counts what each kill interrupted."""
    kills = 0
    while kills < most_kills:
        child = place.start()
        limit = time.monotonic() + rng.uniform(0.02, 0.8) * seconds
        rare = min(PHASES, key=lambda phase: (hits[phase], rng.random()))
        if _ended_before(place, child, limit, rare if rng.random() < 0.5 else None, rng):
            return
        hits[place.phase()] += 1
        kills += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(os.waitpid(place.start(), 0)[1]):
        raise SystemExit(f"the last start failed; see {place.folder / 'said.log'}")


def _ended_before(place: Place, child: int, limit: float, phase: str | None, rng: random.Random) -> bool:
    """Wait for the moment of the kill: the limit, or soon after a phase began. True if the process ended before."""
    while phase or time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status):
                raise SystemExit(f"a start failed; see {place.folder / 'said.log'}")
            return True
        if phase and place.phase() == phase:
            phase, limit = None, time.monotonic() + max(0.0, rng.uniform(-0.02, 0.03))
        time.sleep(0.001)
    return False


def differences(calm: Place, killed: Place) -> Iterator[str]:
    """All that is not as it was in the undisturbed run."""
    for what, ours, theirs in (("file", calm.numbers(), killed.numbers()), ("stage", calm.digests(), killed.digests()),
                               ("point", calm.points(), killed.points())):
        for name in sorted(ours.keys() | theirs.keys(), key=str):
            if ours.get(name) != theirs.get(name):
                yield f"{what} {name} differs"
    yield from killed.doubled()
    yield from (f"left behind: {name}" for name in killed.leftovers())


def compared(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """An undisturbed run, then runs that are killed until so many kills have hit; what was found."""
    from cryossl.progress import silent
    from cryossl.synthetic import synthesise

    data = folder / "data"
    synthesise(data, seed=0, train=64, validation=4, test=4, size_px=64, report=silent)
    empty = given.empty_store or _empty_store(folder)

    def place(name: str) -> Place:
        made = Place(folder / name, data, given.options or list(TINY), real=given.real)
        shutil.copyfile(empty, made.folder / "mlflow.db")
        return made

    calm = place("calm")
    seconds = undisturbed(calm)
    rng = random.Random(given.seed)
    hits: Counter[str] = Counter()
    found: list[str] = []
    runs = 0
    while hits.total() < given.kills and runs < given.kills:
        killed = place(f"killed-{runs}")
        most = min(MOST_KILLS_PER_RUN, given.kills - hits.total())
        disturbed(killed, most_kills=most, seconds=seconds, hits=hits, rng=rng)
        found += [f"run {runs}: {one}" for one in differences(calm, killed)]
        runs += 1
    return {"kills": hits.total(), "runs": runs, "undisturbed_seconds": round(seconds, 2), "interrupted": dict(hits),
            "differences": found}


def main() -> None:
    """Run it; print what was interrupted how often, and the differences."""
    parser = argparse.ArgumentParser(description="kill -9 of the real command until it ends, and compare")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="a new interpreter for each start")
    parser.add_argument("--empty-store", type=Path, help="an empty sqlite store to copy, for making one takes a while")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    parser.add_argument("options", nargs="*", default=[], help="options of `cryossl run`, behind --; otherwise tiny ones")
    given = parser.parse_args()
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.path.insert(0, str(PROJECT))
    if not given.real:
        # Nothing computes here: forks of a process that has only imported are safe.
        for module in ("mlflow.store.tracking.sqlalchemy_store", "cryossl.launch", "cryossl.reporting", "analysis.rendering"):
            importlib.import_module(module)
    with tempfile.TemporaryDirectory() as temporary:
        report = compared((given.folder or Path(temporary)).resolve(), given)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if report["differences"] or report["kills"] < given.kills else 0)


if __name__ == "__main__":
    main()
