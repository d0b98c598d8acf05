"""An empty tracking store, made once for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock


def hide_mlflows_own_warnings(config: pytest.Config) -> None:
    """What libraries say of MLflow's own code, and MLflow of its own types; not ours to mend."""
    for foreign in (
        "ignore:.*Any type hint is inferred:UserWarning",
        "ignore:Operation with range is deprecated",
    ):
        config.addinivalue_line("filterwarnings", foreign)
    config.addinivalue_line(
        "filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning"
    )


def shared_folder(tmp_path_factory) -> Path:
    """A folder of this test session; its workers share it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def store_template(tmp_path_factory) -> Path:
    """An empty sqlite store; making one takes seconds, so the session (all its workers) makes one."""
    shared = shared_folder(tmp_path_factory)
    template = shared / "template.db"
    with FileLock(shared / "template.lock"):
        if not template.exists():
            # In a process of its own, so that no connection is left open and no journal file beside
            # it.
            code = (
                "import sys; from mlflow import MlflowClient; "
                "MlflowClient(sys.argv[1]).search_experiments()"
            )
            environment = os.environ | {
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_LOGGING_LEVEL": "ERROR",
            }
            making = shared / "making.db"
            subprocess.run(
                [sys.executable, "-c", code, f"sqlite:///{making}"],
                check=True,
                cwd=shared,
                env=environment,
            )
            making.replace(template)
    return template
