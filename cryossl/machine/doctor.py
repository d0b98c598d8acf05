"""Is this machine fit to run the project: environment, GPU, tracking store, disk.

The checks change nothing.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from cryossl.machine.check import Check, named_checks
from cryossl.machine.packages import check_installation
from cryossl.machine.tracking_store import check_tracking, nearest_existing
from cryossl.tracking.address import store_uri

# Their locks hold on one machine only, or only with settings of the server that cannot be seen from
# here.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "9p"}
)
SPARE_FACTOR = 1.2
GPU_TIMEOUT_SECONDS = 180.0

_gpu_ok, _gpu_warn, _gpu_fail = named_checks("gpu")
_mlflow_ok, _mlflow_warn, _ = named_checks("mlflow run")
_disk_ok, _, _disk_fail = named_checks("disk")

# In its own process: a pair of torch and torchvision that does not match, or a driver that crashes,
# ends only that.
_GPU_PROBE = """
import json, torch, torchvision
found = {"torch": torch.__version__, "cuda_build": torch.version.cuda}
found |= {"device": "cpu", "name": "", "bytes": 0}
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
    """Do all checks; this takes as long as importing torch.

    Args:
        tracking_uri: where runs are recorded, as configured; MLFLOW_TRACKING_URI takes its place.
        work: folder of decoded micrographs and finished stages; need not exist yet.
        device: the setting `device`.
        needed_bytes: what the run will write into `work`; 0 if unknown.
    """
    surroundings = preflight(tracking_uri=tracking_uri, work=work, needed_bytes=needed_bytes)
    installation = check_installation()
    broken = any(check.state == "fail" for check in installation)
    gpu = _gpu_warn("not tried before the packages are well") if broken else check_gpu(device)
    forms = check_mlflow_run(
        os.environ.get("MLFLOW_CONDA_HOME") or shutil.which("conda"), shutil.which("uv")
    )
    return (check_machine(), *installation, gpu, forms, *surroundings)


def preflight(*, tracking_uri: str, work: Path, needed_bytes: int) -> tuple[Check, ...]:
    """Check the tracking store and the work folder, as before each training.

    Takes less than a second if all is good.
    """
    return (
        check_tracking(store_uri(tracking_uri)),
        check_disk(work, needed_bytes=needed_bytes),
        check_locks(work),
    )


def check_machine() -> Check:
    """Report the platform, the cores that this process may use, and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    return Check(
        "machine",
        "ok",
        f"{platform.system()} {platform.machine()}, {cores} cores, "
        f"{_size(memory.available)} of {_size(memory.total)} memory free",
    )


def check_mlflow_run(conda: str | None, uv: str | None) -> Check:
    """Which form of `mlflow run` works here; `conda` and `uv`: where these are.

    Without conda the plain form ends in an error of MLflow's own and leaves a run as RUNNING.
    """
    if conda is not None:
        return _mlflow_ok("conda is here: `mlflow run . -P ratio=5`")
    if uv is not None:
        return _mlflow_ok("no conda, but uv: `mlflow run . --env-manager uv -P ratio=5`")
    return _mlflow_warn(
        "neither conda nor uv is here: a plain `mlflow run .` fails",
        "in the project's environment (`source .venv/bin/activate`): "
        "`mlflow run . --env-manager local -P ratio=5`",
    )


def check_gpu(device: str) -> Check:
    """Check whether torch can compute on a GPU; a process is started that imports torch."""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _GPU_PROBE],
            capture_output=True,
            text=True,
            check=False,
            timeout=GPU_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return _gpu_fail(
            f"torch did not answer in {GPU_TIMEOUT_SECONDS:.0f} s",
            "a hanging driver: `nvidia-smi` should answer at once",
        )
    if probe.returncode != 0:
        said = probe.stderr.strip().splitlines() or [f"ended by signal {-probe.returncode}"]
        return _gpu_fail(
            f"torch cannot be used: {said[-1]}", "`make venv`; if it stays, the GPU's driver"
        )
    return judge_gpu(
        json.loads(probe.stdout), device=device, driver_present=Path("/dev/nvidiactl").exists()
    )


def judge_gpu(found: dict[str, str | int | None], *, device: str, driver_present: bool) -> Check:
    """Compare what the probe found with the setting `device` and the NVIDIA driver.

    `found`: `torch`, `cuda_build`, `device` ("cpu", "cuda" or "mps"), `name`, and `bytes`, the free
    memory of the GPU.
    """
    if found["device"] == device or (device == "auto" and found["device"] != "cpu"):
        room = f", {_size(int(found['bytes'] or 0))} free" if found["bytes"] else ""
        return _gpu_ok(f"{found['name']}{room}" if found["name"] else "the CPU, as set")
    if device in ("cuda", "mps"):
        return _gpu_fail(
            f"device = {device}, but torch {found['torch']} finds none",
            "`device=auto` takes the CPU",
        )
    if driver_present and found["device"] == "cpu":
        build = f"torch {found['torch']} (CUDA {found['cuda_build']})"
        return _gpu_warn(
            f"an NVIDIA driver is here, but {build} cannot use it",
            "update the driver, or install a torch for its CUDA version",
        )
    return _gpu_ok("none; the CPU does the work" if device == "auto" else "not used, as set")


def check_disk(folder: Path, *, needed_bytes: int) -> Check:
    """Check that the work folder can be written and has room for 1.2 times `needed_bytes`."""
    place = nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return _disk_fail(
            f"{place} cannot be written: {error.strerror}", "`work=FOLDER` names another folder"
        )
    wanted = int(needed_bytes * SPARE_FACTOR)
    if free < wanted:
        return _disk_fail(
            f"{_size(free)} free in {place}, {_size(wanted)} needed",
            "free some space, or `work=FOLDER` on another disk",
        )
    return _disk_ok(f"{_size(free)} free in {place}")


def check_locks(folder: Path) -> Check:
    """Check that the folder is on a local disk, where file locks and memory maps work."""
    mounts = [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    return judge_file_system(nearest_existing(folder).resolve(), mounts)


def judge_file_system(folder: Path, mounts: Sequence[tuple[str, str]]) -> Check:
    """Judge the file system of `folder` by a table of (mount point, type).

    The deepest mount point above the folder counts.
    """
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    kind = max(above)[1] if above else "unknown"
    if kind.lower() in NETWORK_FILE_SYSTEMS:
        return Check(
            "file system",
            "warn",
            f"{folder} is on {kind}: locks may not hold, and reading tiles is slow",
            "`work=FOLDER` on a local disk; never two runs on one such folder",
        )
    return Check("file system", "ok", f"{folder} is on {kind}")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
