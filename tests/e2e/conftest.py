"""Real tracking stores (sqlite files copied from one template, and a light `mlflow server`), and real commands."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from empty_store import hide_mlflows_own_warnings, store_template
from light_server import Server
from postgres_server import postgres
from typed_commands import Done, call

from cryossl.data.synthetic.dataset import synthesise
from cryossl.progress.events import silent

__all__ = ["store_template"]


def pytest_configure(config: pytest.Config) -> None:
    hide_mlflows_own_warnings(config)


@pytest.fixture
def sqlite_uri(store_template, tmp_path) -> str:
    """A sqlite store of this test's own."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copyfile(store_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def unwatched(monkeypatch) -> None:
    """No thread that watches the machine: it has its own test."""
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")


@pytest.fixture
def server(sqlite_uri, tmp_path, monkeypatch):
    """A server that is not started yet; the client gives up quickly."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    server = Server(sqlite_uri, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def postgres_uri() -> Iterator[str]:
    """A Postgres; skips where there is none."""
    with postgres() as uri:
        yield uri


# --- the real commands on a data set that is learned in seconds


class Lab:
    """A folder of its own with a tracking store, and the commands that run in it, each in this process through `cli.main`.

    `tiny` are options with which a training takes a second; a later option of the same name wins
    over an earlier one.
    """

    tiny = (
        "--ratio",
        "30",
        "--batch-size",
        "2",
        "--learning-rate",
        "0.01",
        "--decoder-width",
        "4",
        "--threads",
        "1",
        "--least-steps",
        "0",
        "--baseline-epochs",
        "8",
        "--student-epochs",
        "4",
        "--max-iterations",
        "1",
        "--validations",
        "2",
        "--naive-threshold",
        "0.5",
        "--particle-threshold",
        "0.5",
        "--background-threshold",
        "0.5",
    )

    def __init__(self, folder: Path, data: Path, template: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, folder / "mlflow.db")
        self.folder, self.data = folder, data
        self.database = folder / "mlflow.db"
        self.results = folder / "results"
        self.work = folder / "work"

    def places(self) -> list[str]:
        """Options that keep a run inside this folder."""
        return [
            "--data",
            str(self.data),
            "--work",
            str(self.work),
            "--results",
            str(self.results),
            "--tracking-uri",
            f"sqlite:///{self.database}",
        ]

    def run(self, *options: str, command: str = "run") -> Done:
        """A tiny run with these options."""
        return self.call(command, *self.places(), *self.tiny, *options)

    def call(self, *words: str) -> Done:
        """Any command."""
        return call(*words)

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the tracking database answers."""
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return database.execute(query).fetchall()

    def statuses(self) -> list[str]:
        """The statuses of all runs."""
        return [status for (status,) in self.asked("SELECT status FROM runs")]

    def file(self, name: str, *, of: str = "pseudolabel_balanced") -> dict[str, Any]:
        """A JSON file of a results folder."""
        content: dict[str, Any] = json.loads((self.results / of / name).read_text(encoding="utf-8"))
        return content

    def numbers(self, *, of: str = "pseudolabel_balanced") -> dict[str, dict[str, float | None]]:
        """`<strategy> <iteration>` -> all its numbers save times, from the files of a results folder."""
        found = {}
        for path in sorted((self.results / of).glob("*_ratio_*.json")):
            document = self.file(path.name, of=of)
            for arm in document["seeds"].values():
                for entry in arm["iterations"]:
                    found[f"{document['strategy']} {entry['iteration']}"] = {
                        name: value
                        for name, value in entry["numbers"].items()
                        if not name.startswith("time/")
                    }
        return found


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Twenty micrographs of 64 px: 12 to train on, one of them never annotated."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesise(folder, seed=0, train=12, validation=4, test=4, size_px=64, report=silent)
    return folder


@pytest.fixture(scope="session")
def new_lab(tmp_path_factory, tiny_data, store_template) -> Iterator[Callable[..., Lab]]:
    """Makes labs; each has a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        # The thread that watches the machine has its own test.
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        yield lambda data=tiny_data: Lab(tmp_path_factory.mktemp("lab"), data, store_template)


@pytest.fixture(scope="module")
def lab(new_lab) -> Lab:
    """One lab for all tests of a file, so that they share what is finished."""
    made: Lab = new_lab()
    return made
