"""Which GPUs a process sees, and how several processes share them, without torch.

A process is given its GPU by the environment variable CUDA_VISIBLE_DEVICES, before it starts.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryossl.errors import ConfigError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_BY_BUS = "PCI_BUS_ID"
_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_SECONDS = 30


@dataclass(frozen=True)
class Gpu:
    """A GPU that a process may use.

    Attributes:
        name: as CUDA_VISIBLE_DEVICES names it: a number, or `GPU-` or `MIG-` and a UUID.
        memory_bytes: all of its memory; None where it is not known.
    """

    name: str
    memory_bytes: int | None = None


def present_gpus() -> list[tuple[Gpu, str]]:
    """The GPUs of this machine with their UUIDs, as `nvidia-smi` numbers them; [] without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([word.strip() for word in line.split(",")] for line in done.stdout.splitlines())
    return [
        (Gpu(row[0], int(row[2]) * 2**20 if row[2].isdecimal() else None), row[1])
        for row in rows
        if len(row) == 3
    ]


def visible_gpus(ours: Mapping[str, str], present: Sequence[tuple[Gpu, str]]) -> list[Gpu]:
    """The GPUs that a process with this environment sees: all, or those of CUDA_VISIBLE_DEVICES.

    As in CUDA, a name that is none ends the list. Pure.
    """
    if VISIBLE not in ours:
        return [gpu for gpu, _ in present]
    found = []
    for name in (word.strip() for word in ours[VISIBLE].split(",")):
        if not _NAME.fullmatch(name):
            break
        memory = next(
            (
                gpu.memory_bytes
                for gpu, uuid in present
                if gpu.name == name or (not name.isdecimal() and uuid.startswith(name))
            ),
            None,
        )
        found.append(Gpu(name, memory))
    return found


def environment_of(gpu: Gpu, ours: Mapping[str, str]) -> dict[str, str]:
    """The variables with which a process sees this GPU alone. Pure.

    Where no order was chosen, numbers count as those of `nvidia-smi`; CUDA's own begin with the
    fastest.
    """
    order = {} if VISIBLE in ours or ORDER in ours else {ORDER: _BY_BUS}
    return {VISIBLE: gpu.name, **order}


def shared(gpus: Sequence[Gpu], *, count: int, bytes_each: int) -> list[Gpu]:
    """The GPU of each of `count` processes; fewer where memory does not hold as many. Pure.

    Each card gets one process before any gets two. A card holds as many as its memory has room for,
    but one in any case; a card of unknown memory has room for all.
    """
    room = [
        count if gpu.memory_bytes is None else max(1, gpu.memory_bytes // max(1, bytes_each))
        for gpu in gpus
    ]
    turns = range(max(room, default=0))
    places = [gpu for turn in turns for gpu, most in zip(gpus, room, strict=True) if turn < most]
    return places[:count]


def single(
    setting: str, ours: Mapping[str, str], present: Sequence[tuple[Gpu, str]]
) -> dict[str, str] | None:
    """The variables for a device `cuda:N`, the visible GPU N from 0; None for any other word. Pure.

    Raises ConfigError if there is no such GPU.
    """
    named = re.fullmatch(r"cuda:(\d{1,4})", setting)
    if named is None:
        return None
    seen = visible_gpus(ours, present)
    if int(named[1]) >= len(seen):
        raise ConfigError(
            f"--device {setting}: {len(seen) or 'no'} GPUs are visible here",
            cure=f"count from 0, see `nvidia-smi` and {VISIBLE}, or use --device auto",
        )
    return environment_of(seen[int(named[1])], ours)
