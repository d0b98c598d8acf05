"""Is this machine fit to run the project: environment, GPU, tracking store, disk. Looks, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from cryossl.diagnosis import Check
from cryossl.packages import check_installation
from cryossl.storeuri import LOG_IN, redacted, sqlite_fault, sqlite_path, store_uri

# Their locks hold on one machine only, or only with settings of the server that cannot be seen from here.
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "9p"})
SPARE_FACTOR = 1.2
HOSTED_STORES = ("databricks", "databricks-uc")
STORE_TIMEOUT_SECONDS = 3.0
DAMAGE_SECONDS = 1.0
GPU_TIMEOUT_SECONDS = 180.0

# In its own process: a pair of torch and torchvision that does not match, or a driver that crashes, ends only that.
_GPU_PROBE = """
import json, torch, torchvision
found = {"torch": torch.__version__, "cuda_build": torch.version.cuda, "device": "cpu", "name": "", "bytes": 0}
if torch.cuda.is_available():
    side = torch.ones(64, 64, device="cuda")
    assert float((side @ side).sum()) == 64.0 ** 3
    free, total = torch.cuda.mem_get_info()
    found |= {"device": "cuda", "name": torch.cuda.get_device_name(), "bytes": free}
elif torch.backends.mps.is_available():
    found |= {"device": "mps", "name": "Apple GPU"}
print(json.dumps(found))
"""


def examine(*, tracking_uri: str, work: Path, device: str, needed_bytes: int) -> tuple[Check, ...]:
    """Everything; takes as long as importing torch does.

    Args:
        tracking_uri: where runs are recorded, as configured; MLFLOW_TRACKING_URI takes its place.
        work: folder of decoded micrographs and finished stages; need not exist yet.
        device: the setting `device`.
        needed_bytes: what the run will write into `work`, as far as that is known.
    """
    surroundings = preflight(tracking_uri=tracking_uri, work=work, needed_bytes=needed_bytes)
    installation = check_installation()
    broken = any(check.state == "fail" for check in installation)
    gpu = Check("gpu", "warn", "not tried before the packages are well") if broken else check_gpu(device)
    return (check_machine(), *installation, gpu, *surroundings)


def preflight(*, tracking_uri: str, work: Path, needed_bytes: int) -> tuple[Check, ...]:
    """What is looked at before each training: the tracking store and the work folder. Under a second if all is well."""
    return (check_tracking(store_uri(tracking_uri)), check_disk(work, needed_bytes=needed_bytes), check_locks(work))


def check_machine() -> Check:
    """Platform, cores this process may use, memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    return Check("machine", "ok", f"{platform.system()} {platform.machine()}, {cores} cores, "
                                  f"{_size(memory.available)} of {_size(memory.total)} memory free")


def check_gpu(device: str) -> Check:
    """Is there a GPU that torch can compute on; one process is started to import torch and try."""
    try:
        probe = subprocess.run([sys.executable, "-c", _GPU_PROBE], capture_output=True, text=True, check=False,
                               timeout=GPU_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return Check("gpu", "fail", f"torch did not answer in {GPU_TIMEOUT_SECONDS:.0f} s",
                     "a hanging driver: `nvidia-smi` should answer at once")
    if probe.returncode != 0:
        said = probe.stderr.strip().splitlines() or [f"ended by signal {-probe.returncode}"]
        return Check("gpu", "fail", f"torch cannot be used: {said[-1]}", "`make venv`; if it stays, the GPU's driver")
    return judge_gpu(json.loads(probe.stdout), device=device, driver_present=Path("/dev/nvidiactl").exists())


def judge_gpu(found: dict[str, str | int | None], *, device: str, driver_present: bool) -> Check:
    """The finding of the probe against the setting `device` and the presence of an NVIDIA driver."""
    if found["device"] == device or (device == "auto" and found["device"] != "cpu"):
        room = f", {_size(int(found['bytes'] or 0))} free" if found["bytes"] else ""
        return Check("gpu", "ok", f"{found['name']}{room}" if found["name"] else "the CPU, as set")
    if device in ("cuda", "mps"):
        return Check("gpu", "fail", f"device = {device}, but torch {found['torch']} finds none",
                     "`device=auto` takes the CPU")
    if driver_present and found["device"] == "cpu":
        build = f"torch {found['torch']} (CUDA {found['cuda_build']})"
        return Check("gpu", "warn", f"an NVIDIA driver is here, but {build} cannot use it",
                     "update the driver, or install a torch for its CUDA version")
    return Check("gpu", "ok", "none; the CPU does the work" if device == "auto" else "not used, as set")


def check_disk(folder: Path, *, needed_bytes: int) -> Check:
    """Can the work folder be written, and has it room for what is needed and a fifth more."""
    name = "disk"
    place = _nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, "fail", f"{place} cannot be written: {error.strerror}", "`work=FOLDER` names another folder")
    wanted = int(needed_bytes * SPARE_FACTOR)
    if free < wanted:
        return Check(name, "fail", f"{_size(free)} free in {place}, {_size(wanted)} needed",
                     "free some space, or `work=FOLDER` on another disk")
    return Check(name, "ok", f"{_size(free)} free in {place}")


def check_locks(folder: Path) -> Check:
    """Is the folder on a disk of this machine, where file locks and memory maps can be trusted."""
    mounts = [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    return judge_file_system(_nearest_existing(folder).resolve(), mounts)


def judge_file_system(folder: Path, mounts: Sequence[tuple[str, str]]) -> Check:
    """The file system of `folder` by a table of (mount point, type); the deepest mount point above it counts."""
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    kind = max(above)[1] if above else "unknown"
    if kind.lower() in NETWORK_FILE_SYSTEMS:
        return Check("file system", "warn", f"{folder} is on {kind}: locks may not hold, and reading tiles is slow",
                     "`work=FOLDER` on a local disk; never two runs on one such folder")
    return Check("file system", "ok", f"{folder} is on {kind}")


def check_tracking(uri: str) -> Check:
    """Can the tracking store be reached: a sound SQLite file of this MLflow be written, a server answer in three seconds."""
    parts = urlsplit(uri)
    kind = parts.scheme.split("+")[0]
    path = sqlite_path(uri)
    if path is not None:
        return _check_sqlite(path)
    if kind in ("http", "https"):
        return _check_server(uri)
    if kind in ("postgresql", "postgres", "mysql", "mssql"):
        return _check_database(uri)
    if kind == "file" or (kind == "" and uri not in HOSTED_STORES):
        return Check("tracking", "fail", f"{uri or 'no store'}: MLflow no longer writes into plain folders",
                     "`tracking_uri=sqlite:///mlflow.db`")
    return Check("tracking", "warn", f"{redacted(uri)}: not tried, this kind of store is unknown here")


def _check_sqlite(path: Path) -> Check:
    elsewhere = "`tracking_uri=sqlite:///FILE` names another"
    if not path.exists():
        parent = _nearest_existing(path.parent)
        if os.access(parent, os.W_OK | os.X_OK):
            return Check("tracking", "ok", f"{path} will be made")
        return Check("tracking", "fail", f"{path} cannot be made: {parent} cannot be written", elsewhere)
    fault = sqlite_fault(path)
    if fault:
        return Check("tracking", "fail", f"{path} {fault}", elsewhere)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=STORE_TIMEOUT_SECONDS, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
            _refuse_damage(store)
            made_by = _schema_of(store)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return Check("tracking", "warn", f"{path} is locked by another process", f"wait for it; {elsewhere}")
        return Check("tracking", "fail", f"{path} cannot be written: {error}", elsewhere)
    except sqlite3.DatabaseError as error:
        return Check("tracking", "fail", f"{path} is damaged: {' '.join(str(error).split())}", f"restore it; {elsewhere}")
    known, latest = _mlflow_schemas()
    if made_by is None or not latest or made_by in latest:
        return Check("tracking", "ok", f"{path} can be written")
    cure = (f"back it up, then `mlflow db upgrade sqlite:///{path}`" if made_by in known else "install the MLflow that made it")
    return Check("tracking", "fail", f"{path} is of another version of MLflow (schema {made_by or 'unknown'})",
                 f"{cure}; {elsewhere}")


def _refuse_damage(store: sqlite3.Connection) -> None:
    """Raise DatabaseError for a damaged file, as far as one second of looking shows."""
    end = time.monotonic() + DAMAGE_SECONDS
    store.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    with contextlib.suppress(sqlite3.OperationalError):  # the second is over
        (found,) = store.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    store.set_progress_handler(None, 0)


def _schema_of(store: sqlite3.Connection) -> str | None:
    """Which schema of MLflow's a database has, "" if it does not say; None for an empty one, which MLflow fills."""
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        return "" if tables else None
    row = store.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def _mlflow_schemas() -> tuple[set[str], set[str]]:
    """All schemas that the installed MLflow knows and the newest of them, read from its files: importing it takes seconds."""
    found = find_spec("mlflow")
    known: set[str] = set()
    older: set[str] = set()
    for folder in (found.submodule_search_locations or () if found else ()):
        for path in Path(folder, "store", "db_migrations", "versions").glob("*.py"):
            pairs = re.findall(r"""^(down_)?revision = ["'](\w+)["']""", path.read_text(encoding="utf-8"), re.MULTILINE)
            known |= {name for _, name in pairs}
            older |= {name for down, name in pairs if down}
    return known, known - older


def _check_server(uri: str) -> Check:
    shown = redacted(uri).rstrip("/")
    address = re.sub(r"(?<=://)[^/@]*@", "", uri).rstrip("/")
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=STORE_TIMEOUT_SECONDS):
            return Check("tracking", "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                return Check("tracking", "warn", f"{shown} answers and asks who you are ({error.code})", LOG_IN)
            return Check("tracking", "fail", f"{shown} answers, but not as a tracking server ({error.code})",
                         "compare the address with what `mlflow server` printed")
    except OSError as error:  # before HTTPException: a server that hangs up is both
        reason = getattr(error, "reason", error)
        # Not a failure: a run keeps its own journal and sends it when the server is back.
        return Check("tracking", "warn", f"{shown} does not answer: {reason}",
                     "start the server, or `tracking_uri=sqlite:///mlflow.db`")
    except (HTTPException, UnicodeError) as error:
        return Check("tracking", "fail", f"{shown} cannot be asked, or is no HTTP server ({type(error).__name__})",
                     "compare the address with what `mlflow server` printed")


def _check_database(uri: str) -> Check:
    parts = urlsplit(uri)
    port = parts.port or {"mysql": 3306, "mssql": 1433}.get(parts.scheme.split("+")[0], 5432)
    try:
        with socket.create_connection((parts.hostname or "localhost", port), timeout=STORE_TIMEOUT_SECONDS):
            return Check("tracking", "ok", f"{redacted(uri)} answers")
    except OSError as error:
        return Check("tracking", "fail", f"{redacted(uri)} does not answer: {error}",
                     "start the database, or correct the address")


def _nearest_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
