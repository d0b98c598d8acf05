"""Choose device, number format and threads, set a process up for training, use CUDA's graphs."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from cryossl.errors import ConfigError

Precision = Literal["fp32", "bf16"]

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**30

CALLS_BEFORE_CAPTURE = 3
"""CUDA asks for a few calls before a capture, in which libraries choose their algorithms."""


def resolve(setting: str) -> torch.device:
    """The device of a setting `auto`, `cpu`, `cuda` or `mps`.

    `auto` is CUDA, else Apple's GPU, else the CPU. Raises ConfigError if the device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if setting == "auto":
        return torch.device(next(name for name, usable in available.items() if usable))
    if setting not in available:
        raise ConfigError(
            f"unknown device {setting!r}",
            cure=f"choose auto or one of {', '.join(sorted(available))}",
        )
    if not available[setting]:
        raise ConfigError(
            f"device {setting} is not usable here",
            cure="use --device auto, or see `cryossl doctor`",
        )
    return torch.device(setting)


def resolve_precision(setting: str, device: torch.device) -> Precision:
    """The number format of the forward pass of a setting `auto`, `fp32` or `bf16`.

    `auto` is bf16 on a CUDA device that has it, else fp32. Weights, loss and optimiser are fp32 in
    either case. Raises ConfigError for bf16 on a GPU or CPU without it.
    """
    if setting == "auto":
        return (
            "bf16"
            if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            else "fp32"
        )
    if setting == "fp32":
        return "fp32"
    if setting != "bf16":
        raise ConfigError(f"unknown precision {setting!r}", cure="choose auto, fp32 or bf16")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError("this GPU has no bf16", cure="use --precision fp32")
    if device.type == "cpu" and not cpu_has_bf16():
        raise ConfigError(
            "this CPU has no bf16: imitated, it takes more than ten times as long as fp32",
            cure="use --precision fp32",
        )
    return "bf16"


def cpu_has_bf16() -> bool:
    """Whether oneDNN, torch's library for CPUs, computes bf16 here.

    On x86 it needs AVX-512, and it is faster than fp32 with AVX-512 BF16 only. On other CPUs the
    answer is not known, and is True.
    """
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return not x86 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # there is no public name


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor to a device; a copy to CUDA is not waited for.

    A copy to Apple's GPU is waited for, because it would read memory that was freed in the meantime
    (pytorch issue 189690).
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def usable_cores() -> int:
    """CPU cores that this process may use, at least 1.

    Its affinity limits them, and in a container the quota of its control group.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, _group_quota() or cores))


def prepare(*, threads: int, device: torch.device) -> int:
    """Set this process up for training and prediction. Returns the number of CPU threads in use.

    It is called once, before the first forward pass, and changes settings of the whole process.

    Args:
        threads: CPU threads of the network; 0: as OMP_NUM_THREADS says, else one per usable core.
            Another number of threads adds up in another order, and results agree to rounding only.
        device: where the network will run. On the CPU only deterministic algorithms are used, which
            cost nothing there. On a GPU some layers have none, and results agree to rounding only.
    """
    count = threads or openmp_threads() or usable_cores()
    torch.set_num_threads(count)
    keep_freed_memory()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(mode=True)
        # Torch would then fill fresh memory too, which finds reads of memory that was never written
        # but writes everything twice.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return count


class Replayed:
    """A function of tensors that is captured on CUDA as a graph, and replayed from then on.

    It must do the same with each call: tensors of the same shapes, and no decision by their values.
    It may change other tensors in place, which must stay where they are, and draw from torch's
    generator. Its first calls run as they are. A replay returns a copy of the result. Keyword
    arguments are those of the capture.

    The function is given with each call and not kept: a method of the object that keeps this one
    would close a circle of references, and the graph's memory would not be freed when it should.

    Args:
        wanted: False: each call runs as it is, as on any other device than CUDA, where the first
            tensor is.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted, self._calls = wanted, 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._result = torch.empty(0)

    def __call__(
        self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor, **others: object
    ) -> torch.Tensor:
        """The function's result."""
        device = inputs[0].device
        if not self._wanted or device.type != "cuda":
            return function(*inputs, **others)
        if self._calls < CALLS_BEFORE_CAPTURE:
            self._calls += 1
            return self._aside(device, function, *inputs, **others)
        graph = self._graph or self._captured(function, *inputs, **others)
        for kept, new in zip(self._inputs, inputs, strict=True):
            kept.copy_(new)
        graph.replay()
        return self._result.clone()

    def _aside(
        self,
        device: torch.device,
        function: Callable[..., torch.Tensor],
        *inputs: torch.Tensor,
        **others: object,
    ) -> torch.Tensor:
        """Call it on another stream than the default one, on which nothing can be captured."""
        self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            result = function(*inputs, **others)
        torch.cuda.current_stream(device).wait_stream(self._stream)
        return result

    def _captured(
        self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor, **others: object
    ) -> torch.cuda.CUDAGraph:
        """Capture the function; nothing is computed."""
        self._inputs = tuple(each.clone() for each in inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = function(*self._inputs, **others)
        self._graph = graph
        return graph


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn the errors of torch and numpy for too little memory into ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        message = str(error)
        if (
            isinstance(error, RuntimeError)
            and "allocate memory" not in message
            and not isinstance(error, torch.OutOfMemoryError)
        ):
            raise
        raise ConfigError(
            f"the memory is not enough ({' '.join(message.split())[:200]})",
            cure="lower --batch-size, --tile-px or --decoder-width, or end other programs",
        ) from error


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for reuse; return whether that was possible (glibc only).

    By default glibc returns the memory of every freed activation to the kernel. The next activation
    then gets zeroed pages from the kernel one by one. This makes 20,000 page faults in a step of a
    small network, a sixth of its time. With this setting the process keeps its peak of memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)) and bool(
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    )


def openmp_threads() -> int:
    """The number in OMP_NUM_THREADS, which batch systems set, or the first of its list; else 0."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdecimal() else 0


def _group_quota() -> int | None:
    """Whole cores in the quota of this process's control group (version 2); None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
