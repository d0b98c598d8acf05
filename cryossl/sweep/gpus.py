"""Which GPU a process of this machine gets, where several run at a time."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS = 20
_UUID = re.compile(r"UUID: ((?:GPU|MIG)-[0-9A-Za-z/-]+)")


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that a process with this environment sees, by the names that CUDA takes.

    Without the variable all that `nvidia-smi` lists; parts of a GPU (MIG) count in its place. Empty
    without a GPU or without that program.
    """
    if VISIBLE in environment:
        names = [name.strip() for name in environment[VISIBLE].split(",")]
        return [name for name in names if name and name != "-1"]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = _UUID.findall(listed)
    return [name for name in found if name.startswith("MIG-")] or found


def one_gpu(gpus: Sequence[str], number: int) -> dict[str, str]:
    """Variables with which process `number`, from 0, sees one GPU; processes share them in turn."""
    return {VISIBLE: gpus[number % len(gpus)]} if gpus else {}
