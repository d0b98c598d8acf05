"""The real command on a tiny data set, started by forks of one process that has imported everything, and what it leaves.

Whatever is done to a run, what must be in the end as in the run that nobody disturbed: every number
of the result files, every weight, pseudo-label and histogram byte for byte, and in MLflow each run
(by fingerprint) once, each point once, nothing left RUNNING.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

PROJECT = Path(__file__).resolve().parents[2]
NAME = "pseudolabel_balanced"
TINY = (
    "--ratio",
    "5",
    "--batch-size",
    "4",
    "--learning-rate",
    "0.01",
    "--decoder-width",
    "4",
    "--threads",
    "1",
    "--least-steps",
    "0",
    "--baseline-epochs",
    "20",
    "--student-epochs",
    "2",
    "--max-iterations",
    "2",
    "--validations",
    "3",
    "--naive-threshold",
    "0.5",
    "--particle-threshold",
    "0.5",
    "--background-threshold",
    "0.5",
    "--checkpoint-seconds",
    "0.05",
)
_CALM = "calm.json"


class Place:
    """A folder for the same command: its results, its work and its tracking store."""

    def __init__(
        self, folder: Path, data: Path, options: list[str], *, real: bool, uri: str = ""
    ) -> None:
        self.folder, self.log = folder, folder / "said.log"
        self._real = real
        self._words = [
            "run",
            "--data",
            str(data),
            "--work",
            str(folder / "work"),
            "--results",
            str(folder / "results"),
            "--tracking-uri",
            uri or f"sqlite:///{folder / 'mlflow.db'}",
            *options,
        ]
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, prepare: Callable[[], object] = bool, words: Sequence[str] = ()) -> int:
        """Process id of a start of the command, or of another one; a fork does `prepare` first."""
        words = words or self._words
        with self.log.open("ab") as said:
            if self._real:
                command = [sys.executable, str(PROJECT / "cli.py"), *words]
                return subprocess.Popen(
                    command, cwd=self.folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL
                ).pid
            child = os.fork()
            if child:
                return child
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        _be_the_command(self.folder, list(words), prepare)
        raise AssertionError("the command ends its process")

    def said(self) -> str:
        """All that the starts have said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def phase(self) -> str:
        """What the run is doing, as its live file says: the word before the phase tells baseline from students."""
        try:
            status = json.loads(
                (self.folder / "results" / NAME / "status.json").read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return ""
        title = "iteration" if "iteration" in status["title"] else status["title"].partition(":")[0]
        return f"{title}: {status['phase']}"

    def numbers(self) -> dict[str, Any]:
        """Every number of the result files; times and run ids are not what a run computes."""
        return numbers_below(self.folder / "results" / NAME)

    def digests(self) -> dict[str, str]:
        """File of a finished stage -> SHA-256; stages are named by what they depend on, so names must agree too."""
        stages = self.folder / "work" / "stages"
        wanted = [
            path
            for pattern in ("*.safetensors", "pseudo.u8", "selection.json", "histograms.npz")
            for path in stages.rglob(pattern)
        ]
        return {
            path.relative_to(stages).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in wanted
        }

    def leftovers(self) -> list[str]:
        """What a run must not leave: half stages, temporary files, checkpoints, probability maps of the pool."""
        patterns = ("*.partial", ".*.tmp", "*.part", "checkpoint-*.pt", "probabilities-*")
        return sorted(
            {
                path.relative_to(self.folder).as_posix()
                for one in patterns
                for path in self.folder.rglob(one)
            }
        )

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the tracking database answers."""
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(query).fetchall()

    def points(self) -> dict[tuple[str, str, int], float]:
        """(run by its fingerprint, metric, step) -> value, without times and the invocations themselves."""
        rows = self.asked(
            "SELECT t.value, m.key, m.step, m.value FROM metrics m JOIN tags t USING (run_uuid) "
            "WHERE "
            "t.key = 'cryossl.fingerprint' AND t.value NOT LIKE 'invocation-%' AND m.key NOT LIKE "
            "'%seconds'"
        )
        return {(run, key, step): value for run, key, step, value in rows}

    def doubled(self, *, failures: bool) -> list[str]:
        """Runs and points that the tracking store has more than once, and runs that were left open.

        Invocations may have ended as FAILED where there were `failures`, and as KILLED always.
        """
        ends = "'FINISHED', 'KILLED'" + (", 'FAILED'" if failures else "")
        runs = self.asked(
            "SELECT value, count(*) FROM tags WHERE key = 'cryossl.fingerprint' GROUP BY 1 HAVING "
            "count(*) > 1"
        )
        points = self.asked(
            "SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        running = self.asked(f"SELECT name, status FROM runs WHERE status NOT IN ({ends})")
        unfinished = self.asked(
            "SELECT r.name, r.status FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = "
            "'cryossl.kind' "
            "AND t.value != 'experiment' AND r.status != 'FINISHED'"
        )
        return [
            f"{what}: {row}"
            for what, rows in (
                ("run twice", runs),
                ("point twice", points),
                ("run left open", running),
                ("run not finished", unfinished),
            )
            for row in rows
        ]


def _be_the_command(folder: Path, words: list[str], prepare: Callable[[], object]) -> None:
    import cli

    code = 1
    try:
        os.chdir(folder)
        sys.argv = ["cli.py", *words]
        prepare()
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # any: what the command lets through is a traceback for its user
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def numbers_below(folder: Path) -> dict[str, Any]:
    """File -> its content without times, of all result files; a sweep's cells have folders of their own."""
    return {
        path.relative_to(folder).as_posix(): _without_times(
            json.loads(path.read_text(encoding="utf-8"))
        )
        for path in sorted(folder.rglob("*.json"))
        if path.name not in ("status.json", "sweep.json")
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(entry)
            for key, entry in value.items()
            if not key.startswith("time/")
            and key != "mlflow_run_id"
            and key not in ("run.results", "run.work", "run.tracking_uri")
        }
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def differences(calm: Place, killed: Place, *, failures: bool = False) -> Iterator[str]:
    """All that is not as it was in the undisturbed run;

    `failures`: starts of it failed, and may have said so.
    """
    for what, ours, theirs in (
        ("file", calm.numbers(), killed.numbers()),
        ("stage", calm.digests(), killed.digests()),
        ("point", calm.points(), killed.points()),
    ):
        for name in sorted(ours.keys() | theirs.keys(), key=str):
            if ours.get(name) != theirs.get(name):
                yield f"{what} {name} differs"
    yield from killed.doubled(failures=failures)
    yield from (f"left behind: {name}" for name in killed.leftovers())


class Bench:
    """A data set, an empty tracking store, the run that nobody disturbed, and places for the same command.

    `shared` keeps what is made once; several processes may use it, each waits for the one that
    makes it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shared: Path | None = None,
        empty_store: Path | None = None,
        options: list[str] | None = None,
        real: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self._options, self._real = options or list(TINY), real
        once = (shared or folder).resolve()
        once.mkdir(parents=True, exist_ok=True)
        self._data, self._empty = once / "data", empty_store or once / "empty.db"
        self.calm = Place(once / "calm", self._data, self._options, real=real)
        with FileLock(once / "bench.lock"):
            if not self._empty.exists():
                make_empty_store(self._empty)
            if not (once / _CALM).exists():
                self._make(once)
            self.seconds: float = json.loads((once / _CALM).read_text())

    def place(self, name: str, *, uri: str = "", options: Sequence[str] = ()) -> Place:
        """A place of its own, whose store is its own file unless another is given; later options win."""
        made = Place(
            self.folder / name, self._data, [*self._options, *options], real=self._real, uri=uri
        )
        shutil.copyfile(self._empty, made.folder / "mlflow.db")
        return made

    def _make(self, once: Path) -> None:
        from cryossl.data.synthetic.dataset import synthesise
        from cryossl.progress.events import silent

        synthesise(self._data, seed=0, train=64, validation=4, test=4, size_px=64, report=silent)
        shutil.copyfile(self._empty, self.calm.folder / "mlflow.db")
        seconds = undisturbed(self.calm)
        (once / _CALM).write_text(json.dumps(seconds))


def make_empty_store(store: Path) -> None:
    """By a process of its own, so that no connection stays open in this one."""
    code = (
        "import sys; from mlflow import MlflowClient; "
        "MlflowClient(sys.argv[1]).search_experiments()"
    )
    subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{store}"],
        check=True,
        cwd=store.parent,
        env=os.environ | {"MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )


def undisturbed(place: Place) -> float:
    """Seconds that a run takes from start to end."""
    began = time.monotonic()
    code = exit_code(place.start())
    if code:
        raise SystemExit(f"the undisturbed run ended with {code}; see {place.log}")
    return time.monotonic() - began


def complaint(said: str) -> str:
    """What is wrong with the way a start has ended that failed: it must be one line for its user; empty if it is."""
    errors = [line for line in said.splitlines() if line.startswith("cryossl: error: ")]
    if "Traceback" in said:
        return f"a traceback: {said.splitlines()[-1]}"
    return "" if len(errors) == 1 else f"{len(errors)} lines of error"


def exit_code(child: int) -> int:
    """Of a start, when it has ended; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def import_everything() -> None:
    """Nothing computes in this process: forks of one that has only imported are safe."""
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    for module in (
        "mlflow.store.tracking.sqlalchemy_store",
        "cryossl.commands.run",
        "analysis.commands",
        "analysis.tables.rendering",
    ):
        importlib.import_module(module)
