"""Real commands under the limits of a process: each ends with one line that says which limit to raise."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cryossl.errors import ConfigError, lacks_memory
from faults.apart import environment

CLI = Path(__file__).resolve().parents[2] / "cli.py"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs limits that the kernel keeps")


def limited(limit: int, most: int, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CLI), *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(limit, (most, most)),
    )


@linux
@pytest.mark.parametrize(
    ("words", "megabytes"),
    [
        *((("run",), megabytes) for megabytes in (150, 400, 1500)),
        *((("compare",), megabytes) for megabytes in (270, 300, 400)),
        (("doctor",), 500),
        (("data", "check", "data"), 999),
    ],
)
def test_libraries_that_get_no_memory_to_load_are_one_line(tmp_path, words, megabytes):
    done = limited(resource.RLIMIT_AS, megabytes * 10**6, *words, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("cryossl: error: the memory is not enough (")
    assert "raise the limit of this process (`ulimit -v`" in done.stderr


@linux
def test_a_limit_that_suffices_is_no_fault(tmp_path):
    words = ("data", "synth", "--to", "data", "--size-px", "64", "--train", "6")
    done = limited(resource.RLIMIT_AS, 1000 * 10**6, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr


@linux
def test_a_limit_of_file_sizes_is_one_line(tmp_path):
    words = ("data", "synth", "--to", "data", "--size-px", "64", "--train", "6")
    done = limited(resource.RLIMIT_FSIZE, 1000, *words, folder=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (6, False)
    assert "File too large" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), "MemoryError"),
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (
            ImportError("no luck\nOriginal error: a.so: failed to map segment from shared object"),
            "Original error: a.so: failed to map segment from shared object",
        ),
        (
            SystemError("error return without exception set"),
            "error return without exception set",
        ),
        (
            SystemError("<function f at 0x7> returned NULL without setting an exception"),
            "<function f at 0x7> returned NULL without setting an exception",
        ),
        (SystemError("bad argument to internal function"), None),
        (ImportError("No module named 'absent'"), None),
        (RuntimeError("shapes differ"), None),
        (OSError(2, "No such file or directory"), None),
        (ValueError("out of memory"), None),
    ],
)
def test_what_lacks_memory_is_told_from_other_faults(error, lacking):
    assert lacks_memory(error) == lacking


def test_an_error_because_of_too_little_memory_is_one_too():
    def load() -> None:
        try:
            raise MemoryError("2 GB")
        except MemoryError:
            raise ImportError("numpy does not load") from None

    with pytest.raises(ImportError) as caught:
        load()
    assert lacks_memory(caught.value) == "2 GB"
    assert lacks_memory(ConfigError("wrong")) is None
