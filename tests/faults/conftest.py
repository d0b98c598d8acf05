"""How much of each fault is tried, and where its figures go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_store import hide_mlflows_own_warnings, shared_folder, store_template

__all__ = ["store_template"]


def pytest_configure(config: pytest.Config) -> None:
    hide_mlflows_own_warnings(config)


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory) -> Path:
    """Where the data and the undisturbed run are kept that whole runs are compared with."""
    return shared_folder(tmp_path_factory) / "bench"


@pytest.fixture
def quick_folder(tmp_path) -> Iterator[Path]:
    """A folder in memory where there is such a disk: thousands of fsyncs would take minutes elsewhere."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else tmp_path
    ) as folder:
        yield Path(folder)
