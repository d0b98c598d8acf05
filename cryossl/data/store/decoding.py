"""From picture files and particles to the store's flat files, a batch of micrographs at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from cryossl.config import InputSettings
from cryossl.data.coco.dataset import DataSet, Micrograph, Particles, rasterise
from cryossl.data.images import normalise, read_picture, resize
from cryossl.data.store.file_hashes import HashedFile, file_state
from cryossl.data.store.plan import StoredMicrograph, StorePlan, members
from cryossl.errors import ChangedDataError, DataError, StorageError
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.files import write_durably

PICTURES, TRUTH, PROGRESS = "pictures.u8", "truth.u8", "progress.json"
BATCH_MICROGRAPHS = 100

# Bytes of memory per pixel while a picture is decoded, reduced and normalised, about.
_BYTES_PER_PIXEL = 24
_DECODING_BYTES = 2 * 2**30
_MOST_THREADS = 8


@dataclass(frozen=True)
class _Job:
    """A micrograph with its particles, if it is annotated, its position and its hashed file."""

    micrograph: Micrograph
    particles: Particles | None
    stored: StoredMicrograph
    file: HashedFile


def decode_into(
    folder: Path,
    store_plan: StorePlan,
    dataset: DataSet,
    files: Mapping[str, HashedFile],
    *,
    settings: InputSettings,
    report: OnProgress,
) -> None:
    """Write a store's two flat files, from the first micrograph that is not yet written.

    The file PROGRESS has the SHA-256 of each batch that is safely on disk; one that has changed
    since is decoded again. Each micrograph has a fixed position, so a batch may be written twice.
    Reports "decode" in batches. Raises DataError for a picture that cannot be used, StorageError
    without space, OSError from writing.
    """
    jobs = [
        _Job(micrograph, particles, stored, files[stored.id])
        for stored, (_, micrograph, particles) in zip(
            store_plan.micrographs, members(dataset), strict=True
        )
    ]
    progress = folder / PROGRESS
    written = _written(progress)
    _check_space(folder, jobs[len(written) * BATCH_MICROGRAPHS :])
    batches = [
        jobs[start : start + BATCH_MICROGRAPHS] for start in range(0, len(jobs), BATCH_MICROGRAPHS)
    ]
    with (
        _open_flat(folder / PICTURES, store_plan.picture_bytes) as picture_file,
        _open_flat(folder / TRUTH, store_plan.truth_bytes) as truth_file,
        ThreadPoolExecutor(_threads(store_plan)) as pool,
    ):
        write = partial(_write, picture_file, truth_file, settings)
        content = partial(_content, picture_file, truth_file)
        for number, batch in enumerate(batches):
            if number < len(written) and content(batch) == written[number]:
                continue
            for _done in pool.map(write, batch):
                pass
            os.fsync(picture_file)
            os.fsync(truth_file)
            written = [*written[:number], content(batch)]
            write_durably(progress, json.dumps(written).encode())
            report(Progress("decode", number + 1, len(batches), "batch"))


def particle_centres(store_plan: StorePlan, dataset: DataSet) -> Float64[np.ndarray, "particles 2"]:
    """Centres (y, x) of all annotated particles in store px, in the micrograph order of the plan.

    A centre is the middle of the box, or of the box around an outline: where `rasterise` draws the
    disc. The order within a micrograph does not depend on the order in the file.
    """
    found = [np.zeros((0, 2))]
    for stored, (_, _, particles) in zip(store_plan.micrographs, members(dataset), strict=True):
        if particles is not None:
            bounds = particles.bounds
            centres = (bounds[:, :2] + bounds[:, 2:] / 2) * stored.scale + 0.0  # -0.0 is 0.0
            found.append(centres[np.lexsort((centres[:, 1], centres[:, 0]))])
    return np.concatenate(found)


def _written(progress: Path) -> list[str]:
    """The SHA-256 of each batch that is written; none if the file is missing or damaged."""
    try:
        found = json.loads(progress.read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else []


def _content(picture_file: int, truth_file: int, batch: Sequence[_Job]) -> str:
    """The SHA-256 of what the files hold of a batch."""
    found = hashlib.sha256()
    for stored in (job.stored for job in batch):
        size = stored.height_px * stored.width_px
        found.update(os.pread(picture_file, size, stored.picture_offset))
        if stored.truth_offset is not None:
            found.update(os.pread(truth_file, size, stored.truth_offset))
    return found.hexdigest()


def _check_space(folder: Path, jobs: list[_Job]) -> None:
    needed = sum(
        job.stored.height_px * job.stored.width_px * (2 if job.stored.annotated else 1)
        for job in jobs
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the store needs {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are "
            "free",
            cure="free space or choose another folder with --work",
        )


@contextmanager
def _open_flat(path: Path, size_bytes: int) -> Iterator[int]:
    """A file descriptor of a file of that size, which is created if necessary.

    With the permissions that the umask leaves, so that a group may continue what one of it began.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        os.ftruncate(descriptor, size_bytes)
        yield descriptor
    finally:
        os.close(descriptor)


def _threads(store_plan: StorePlan) -> int:
    """Decoding threads: one per core, or fewer if large pictures would fill the memory."""
    largest = max(
        stored.original_height_px * stored.original_width_px for stored in store_plan.micrographs
    )
    return max(
        1, min(os.cpu_count() or 1, _MOST_THREADS, _DECODING_BYTES // (_BYTES_PER_PIXEL * largest))
    )


def _write(picture_file: int, truth_file: int, settings: InputSettings, job: _Job) -> None:
    stored = job.stored
    picture = _decode(job, max_megapixels=settings.max_megapixels)
    _write_at(picture_file, stored.picture_offset, picture)
    if job.particles is not None and stored.truth_offset is not None:
        label_map = rasterise(
            job.particles,
            height_px=stored.height_px,
            width_px=stored.width_px,
            scale=stored.scale,
            particle_radius_fraction=settings.particle_radius_fraction,
        )
        _write_at(truth_file, stored.truth_offset, label_map)


def _decode(job: _Job, *, max_megapixels: float) -> UInt8[np.ndarray, "height width"]:
    stored = job.stored
    try:
        picture = read_picture(job.micrograph.path, max_megapixels=max_megapixels)
    finally:
        _require_unchanged(job)
    if picture.shape != (stored.original_height_px, stored.original_width_px):
        raise DataError(
            f"{job.micrograph.path}: {picture.shape[0]} x {picture.shape[1]} px instead of "
            f"{stored.original_height_px} x {stored.original_width_px}",
            cure="correct the picture's entry",
        )
    # Normalised after the reduction, because averaging of pixels reduces the noise, and with it the
    # spread by which a picture is normalised.
    return normalise(resize(picture, height_px=stored.height_px, width_px=stored.width_px))


def _require_unchanged(job: _Job) -> None:
    if file_state(job.micrograph.path) != job.file.state:
        raise ChangedDataError(
            f"{job.micrograph.path} changed while it was read",
            cure="start again when the data set is complete",
        )


def _write_at(file: int, offset: int, array: UInt8[np.ndarray, "height width"]) -> None:
    remaining = np.ascontiguousarray(array).data.cast("B")
    while remaining:
        written = os.pwrite(file, remaining, offset)
        remaining, offset = remaining[written:], offset + written
