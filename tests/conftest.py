"""What every test stands on: types checked while it runs, one thread, no store but its own, real data where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import figures
from hypothesis import settings
from jaxtyping import install_import_hook

# Before anything imports the project: from here on each annotation, shapes included, is checked at
# each call.
install_import_hook(["cryossl", "analysis"], "typechecker.check")

# A test must neither write into the tracking store that the developer's shell points at, nor report
# to anybody.
for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
    del os.environ[name]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MPLBACKEND"] = "Agg"
# Read by torch when it is imported: workers of pytest-xdist would otherwise fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The temporary folders of pytest lie in memory where there is room: the commands under test make
# every file durable, and an fsync of a real disk costs milliseconds.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 6 * 2**30
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

COCO_PUBLIC = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco_public"

settings.register_profile("project", max_examples=50, deadline=None)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cryossl")
    group.addoption(
        "--faults",
        choices=("bounded", "long"),
        default="bounded",
        help="how much of each fault is tried",
    )
    group.addoption(
        "--figures",
        metavar="FOLDER",
        help="write the figures of the faults that were tried into this folder",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Files run in the order of their folders: e2e and faults, whose tests are long, before the many short ones.

    pytest-xdist would give the files with the most tests to its workers first, and one worker would
    wait for the last long file of the other.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.fixture(scope="session")
def coco_public() -> Path:
    """Real micrographs in CryoTransformer's layout, beside the checkout; the test is skipped where they are not."""
    if not COCO_PUBLIC.is_dir():
        pytest.skip("real micrographs are missing: ../shared/data/coco_public")
    return COCO_PUBLIC


@pytest.fixture(scope="session")
def size(request) -> Callable[..., int]:
    """The number of repetitions of a fault: `size(bounded=20, long=5000)`."""
    kind = request.config.getoption("--faults")
    return lambda *, bounded, long: {"bounded": bounded, "long": long}[kind]


@pytest.fixture
def note(record_property) -> figures.Note:
    """Notes a figure of a fault that this test tries."""
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
