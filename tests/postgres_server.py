"""A Postgres of a test's own, where one is installed."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """Its URI, on a free port of the loopback address; the test is skipped where no server or no driver is installed."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (binaries[-1] if binaries else None)
    if initdb is None:
        pytest.skip("no Postgres server is installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    folder = Path(initdb).resolve().parent
    # Not below tmp_path: pytest keeps that to its own user, and sets it back each time it starts.
    data = Path(tempfile.mkdtemp(prefix="postgres-"))
    as_user = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        if getpass.getuser() != "postgres" and shutil.which("runuser") is None:
            pytest.skip("Postgres cannot run as root here")
        shutil.chown(data, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [
            *as_user,
            str(folder / "initdb"),
            "-D",
            str(data),
            "-U",
            "cryossl",
            "--auth=trust",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        cwd="/",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run(
        [
            *as_user,
            str(folder / "pg_ctl"),
            "-D",
            str(data),
            "-o",
            options,
            "-l",
            str(data / "log"),
            "-w",
            "start",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        yield f"postgresql://cryossl:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*as_user, str(folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        shutil.rmtree(data)
