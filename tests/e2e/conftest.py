"""Real tracking stores: sqlite files copied from one template, and `mlflow server` in its light form."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient


def pytest_configure(config: pytest.Config) -> None:
    # SQLAlchemy 2.1 about MLflow's own tables; hidden outside tests, and not ours to mend.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="session")
def store_template(tmp_path_factory) -> Path:
    """An empty sqlite store; making one takes seconds, so the session (all its workers) makes one."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    template = shared / "template.db"
    with FileLock(shared / "template.lock"):
        if not template.exists():
            # In a process of its own, so that no connection is left open and no journal file beside it.
            code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
            environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
            making = shared / "making.db"
            subprocess.run([sys.executable, "-c", code, f"sqlite:///{making}"], check=True, cwd=shared, env=environment)
            making.replace(template)
    return template


@pytest.fixture
def sqlite_uri(store_template, tmp_path) -> str:
    """A sqlite store of this test's own."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copyfile(store_template, path)
    return f"sqlite:///{path}"


class Server:
    """An `mlflow server` on 127.0.0.1 in two processes, over a sqlite store."""

    def __init__(self, backend: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._backend = backend
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._backend,
                 "--artifacts-destination", str(self._folder / "mlartifacts"), "--host", "127.0.0.1",
                 "--port", str(self.port), "--workers", "1"],
                cwd=self._folder, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"})
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                MlflowClient(self.uri).search_experiments(max_results=1)
            except Exception:  # not yet
                time.sleep(0.5)
            else:
                return
        raise TimeoutError((self._folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """kill -9 for the whole group, as a crash or the out-of-memory killer does it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(sqlite_uri, tmp_path, monkeypatch):
    """A server that is not started yet; the client gives up quickly."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    server = Server(sqlite_uri, tmp_path)
    yield server
    server.kill()
