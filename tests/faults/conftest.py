"""How much of each fault is tried, and where its figures go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults import figures


@pytest.fixture(scope="session")
def size(request) -> Callable[..., int]:
    """The number of repetitions: `size(bounded=20, long=5000)`."""
    kind = request.config.getoption("--faults")
    return lambda *, bounded, long: {"bounded": bounded, "long": long}[kind]


@pytest.fixture
def note(record_property) -> figures.Note:
    """Notes a figure of this test."""
    return figures.noting(record_property)


def pytest_terminal_summary(terminalreporter, config) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = figures.rows(reports)
    if found:
        terminalreporter.section("figures of faults")
        terminalreporter.write(figures.as_markdown(found))
        folder = config.getoption("--figures")
        if folder:
            figures.write(found, Path(folder))
