"""Many simulated micrographs, each a file: one after the other, or in several processes.

Each picture has a generator of its own, so the number of processes changes no byte.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import psutil
from jaxtyping import Float64
from PIL import Image

from cryossl.data.synthetic.phantoms import Species
from cryossl.data.synthetic.simulator import (
    PIXEL_SIZE_ANGSTROM,
    Conditions,
    SimulatedMicrograph,
    simulate,
)
from cryossl.errors import StorageError

SUFFIXES = {"png": ".png", "jpg": ".jpg", "mrc": ".mrc"}
"""Format -> the ending of a file."""

_JPEG_QUALITY = 95
_PIXELS_ALONE = 2**22
"""A data set of no more pixels is made here: processes take seconds to start."""
_BYTES_PER_PIXEL = 130
"""Memory of a process while it simulates, per pixel of the picture; measured at 4,096 px."""


@dataclass(frozen=True)
class Order:
    """One picture to make.

    Attributes:
        path: the file, whose ending says the format.
        species: of its particles.
        given: the conditions.
        size_px: side.
        border_px: width of the band at each edge; one particle at least is further inside.
        seed: of the picture's own generator.
    """

    path: Path
    species: Species
    given: Conditions
    size_px: int
    border_px: int
    seed: Sequence[int]


def make(order: Order) -> Float64[np.ndarray, "n 2"]:
    """Simulate and save one picture; return the centres (y, x) of its particles. Raises OSError."""
    made = simulate(
        order.species,
        order.given,
        size_px=order.size_px,
        border_px=order.border_px,
        rng=np.random.default_rng(order.seed),
    )
    _save(order.path, made)
    return made.centres


def make_all(orders: Sequence[Order]) -> Generator[Float64[np.ndarray, "n 2"]]:
    """Make all pictures, and yield the centres of each in the order of the orders.

    Raises OSError, and StorageError if a process is killed.
    """
    count = processes_for(
        [order.size_px**2 for order in orders],
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        free_bytes=psutil.virtual_memory().available,
    )
    if count == 1:
        yield from map(make, orders)
        return
    # Spawned: the caller may have threads, which a forked process would not survive.
    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        yield from pool.map(make, orders)
    except BrokenProcessPool:
        raise StorageError(
            "a process that simulates was killed", cure="free memory, or choose a smaller --size-px"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def processes_for(pixels: Iterable[int], *, cores: int, free_bytes: int) -> int:
    """How many processes make pictures of these numbers of pixels; 1 for few of them."""
    pixels = list(pixels)
    if sum(pixels) <= _PIXELS_ALONE:
        return 1
    fitting = free_bytes // (_BYTES_PER_PIXEL * max(pixels))
    return max(1, min(cores, len(pixels), fitting))


def write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file; it needs no rename, because the folder is renamed when it is complete."""
    with path.open("xb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _save(path: Path, made: SimulatedMicrograph) -> None:
    """Save 8 bits, or as MRC the electrons that were counted. Raises OSError."""
    if path.suffix == SUFFIXES["mrc"]:
        with mrcfile.new(path, data=made.electrons.astype(np.int16)) as file:
            file.voxel_size = PIXEL_SIZE_ANGSTROM
            # Its label has the time of writing, and files of the same seed are to be the same.
            file.header.label[:], file.header.nlabl = b"", 0
        with path.open("rb") as written:
            os.fsync(written.fileno())
        return
    stream = io.BytesIO()
    if path.suffix == SUFFIXES["jpg"]:
        Image.fromarray(made.picture).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    else:
        Image.fromarray(made.picture).save(stream, format="PNG")
    write_new(path, [stream.getvalue()])


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended, however that was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
