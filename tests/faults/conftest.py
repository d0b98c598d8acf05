"""How much of each fault is tried, and where its figures go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from empty_store import hide_mlflows_own_warnings, shared_folder, store_template

from faults import figures

__all__ = ["store_template"]


def pytest_configure(config: pytest.Config) -> None:
    hide_mlflows_own_warnings(config)


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory) -> Path:
    """Where the data and the undisturbed run are kept that whole runs are compared with."""
    return shared_folder(tmp_path_factory) / "bench"


@pytest.fixture(scope="session")
def size(request) -> Callable[..., int]:
    """The number of repetitions: `size(bounded=20, long=5000)`."""
    kind = request.config.getoption("--faults")
    return lambda *, bounded, long: {"bounded": bounded, "long": long}[kind]


@pytest.fixture
def quick_folder(tmp_path) -> Iterator[Path]:
    """A folder in memory where there is such a disk: thousands of fsyncs would take minutes elsewhere."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else tmp_path
    ) as folder:
        yield Path(folder)


@pytest.fixture
def note(record_property) -> figures.Note:
    """Notes a figure of this test."""
    return figures.noting(record_property)


def pytest_terminal_summary(terminalreporter, config) -> None:
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
    ]
    found = figures.rows(reports)
    if found:
        terminalreporter.section("figures of faults")
        terminalreporter.write(figures.as_markdown(found))
        folder = config.getoption("--figures")
        if folder:
            figures.write(found, Path(folder))
