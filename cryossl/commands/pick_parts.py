"""`pick --jobs`: the micrographs in parts, each picked by a process or a job of its own.

All parts keep their results in the folder of the picks. A part that is killed is started again;
after the death of the parent the same command goes on with what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryossl.errors import ConfigError, CryosslError, DataError, StorageError
from cryossl.network.picking_model import read
from cryossl.picking.finding import Finder, Found, Machine, Scaling
from cryossl.picking.micrographs import Named
from cryossl.picking.outputs import unwritten
from cryossl.progress.events import OnProgress, Progress
from cryossl.progress.interruption import interruptible
from cryossl.sweep.executors import (
    FAILED,
    Executor,
    Job,
    LocalExecutor,
    end_all,
    ending_text,
    is_to_start_again,
    why_failed,
)
from cryossl.sweep.slurm import SlurmExecutor, slurm_options
from cryossl.system.digest import digest
from cryossl.system.files import write_durably
from cryossl.system.folder_lock import held_by, one_at_a_time
from cryossl.system.gpus import environment_of, present_gpus, shared, visible_gpus
from cryossl.system.user_files import read_json

PARTS = ".parts"
VERB = ("pick-part",)
_PART, _DONE, _PROGRESS, _LOG = "part.json", "done.json", "progress", "output.log"
_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_NOTES = 0.1, 0.5


@dataclass(frozen=True)
class Task:
    """What all parts do: the fields of a `Finder`, with the file of the model."""

    model: Path
    scaling: Scaling
    machine: Machine
    folder: Path
    masks: bool


def executor_for(kind: str, machine: Machine, *, slurm: str | None, jobs: int) -> Executor:
    """What starts the parts: jobs of a cluster, or processes that see one of the GPUs each.

    Args:
        kind: local or slurm.
        machine: settings of the network.
        slurm: sbatch's options as NAME=VALUE, separated by commas.
        jobs: number of parts.

    Raises:
        ConfigError: jobs cannot be submitted, or there are options and no jobs.
    """
    if kind == "slurm":
        return SlurmExecutor(threads=machine.threads, options=slurm_options(slurm), verb=VERB)
    if slurm is not None:
        raise ConfigError(
            "--slurm says how jobs are submitted, and there are none",
            cure="add --executor slurm",
        )
    local = LocalExecutor(VERB)
    if machine.device in ("auto", "cuda"):
        gpus = visible_gpus(os.environ, present_gpus())
        places = shared(gpus, count=jobs, bytes_each=1)
        local.spread([environment_of(gpu, os.environ) for gpu in places] or [{}])
    return local


def find_in_parts(
    task: Task,
    named: Sequence[Named],
    executor: Executor,
    *,
    jobs: int,
    report: OnProgress,
    say: Callable[[str], object],
) -> Found:
    """Find the candidates of all micrographs in so many parts.

    Args:
        task: what each part does.
        named: the micrographs.
        executor: starts them.
        jobs: number of parts, all at a time.
        report: called with ("pick", micrographs done, micrographs).
        say: called with a line where a part is waited for or started again.

    Raises:
        CryosslError: a part has failed; what the others and it have done is kept.
    """
    place = task.folder / PARTS
    _wait_for_orphans(place, len(named), report=report, say=say)
    try:
        shutil.rmtree(place, ignore_errors=True)
        parts = [
            _Part.written(place / f"{number + 1:04d}", task, named[number::jobs])
            for number in range(min(jobs, len(named)))
        ]
    except OSError as error:
        raise unwritten(error, place) from None
    try:
        for part in parts:
            part.start(executor)
        while any(part.job for part in parts):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for part in parts:
                part.look(say)
            # The last micrograph counts as done when the last part has ended.
            most = len(named) - any(part.job for part in parts)
            done = min(most, sum(part.done for part in parts))
            report(Progress("pick", done, len(named), "micrograph"))
    finally:
        end_all(part.job for part in parts)
    found = _together([part.found() for part in parts])
    shutil.rmtree(place, ignore_errors=True)
    return found


def run_part(file: Path) -> None:
    """Do the part that a file describes.

    Raises:
        BusyError: another process does it.
        CryosslError: as `Finder` and the reader of models raise it.
    """
    folder = file.parent
    with one_at_a_time(folder), interruptible() as interruption:
        task, named = _read(file)
        finder = Finder(read(task.model), task.scaling, task.machine, task.folder, masks=task.masks)
        found = finder.find(named, report=interruption.after(_noting(folder / _PROGRESS)))
        faults = [[str(path), why] for path, why in found.faults.items()]
        try:
            write_durably(folder / _DONE, json.dumps({"key": found.key, "faults": faults}).encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {folder / _DONE}: {error.strerror}", cure="free space"
            ) from None


class _Part:
    """A part as its parent sees it; `job` is None unless it runs."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._executor: Executor | None = None
        self.job: Job | None = None
        self._starts = 0
        self._failure: tuple[int, str] | None = None

    @classmethod
    def written(cls, folder: Path, task: Task, named: Sequence[Named]) -> _Part:
        """A part whose file is written. Raises OSError."""
        folder.mkdir(parents=True)
        document = {
            "model": str(task.model.absolute()),
            "scaling": asdict(task.scaling),
            "machine": asdict(task.machine),
            "folder": str(task.folder.absolute()),
            "masks": task.masks,
            "micrographs": [[str(one.path), one.name, one.pixel_size_angstrom] for one in named],
        }
        write_durably(folder / _PART, json.dumps(document).encode())
        return cls(folder, len(named))

    @property
    def done(self) -> int:
        """Micrographs that it has done."""
        with suppress(OSError, ValueError):
            return min(self._count, int((self._folder / _PROGRESS).read_text()))
        return 0

    def start(self, executor: Executor) -> None:
        """Start it. Raises CryosslError."""
        self._executor, self._starts = executor, self._starts + 1
        name = f"cryossl-pick-{digest(str(self._folder.absolute()))[:12]}"
        self.job = executor.start(self._folder / _PART, self._folder / _LOG, name=name)

    def look(self, say: Callable[[str], object]) -> None:
        """Note whether it has ended; start it again if something else ended it."""
        job = self.job
        code = None if job is None else job.poll()
        if job is None or code is None:
            return
        self.job = None
        if code == 0:
            return
        why = why_failed(job, self._folder / _LOG)
        again = is_to_start_again(job, code, starts=self._starts)
        if again and self._executor is not None:
            say(f"⚠ part {self._folder.name} was ended ({ending_text(code)}); it is started again")
            self.start(self._executor)
        else:
            self._failure = (code, why)

    def found(self) -> Found:
        """What it found. Raises CryosslError if it failed."""
        if self._failure is not None:
            code, why = self._failure
            error = CryosslError(
                f"part {self._folder.name} failed ({ending_text(code)}): {why}",
                cure=f"see {self._folder / _LOG}; the same command goes on",
            )
            error.exit_code = code if code > 0 else FAILED
            raise error
        document = read_json(self._folder / _DONE)
        return Found(document["key"], {Path(path): why for path, why in document["faults"]})


def _together(found: Sequence[Found]) -> Found:
    keys = {one.key for one in found}
    if len(keys) > 1:
        raise ConfigError(
            "the parts ran on different kinds of devices, which round differently",
            cure="give --device cpu or --device cuda",
        )
    faults = {path: why for one in found for path, why in one.faults.items()}
    return Found(keys.pop(), dict(sorted(faults.items())))


def _wait_for_orphans(
    place: Path, total: int, *, report: OnProgress, say: Callable[[str], object]
) -> None:
    """Wait for parts that a killed parent left running: they write the same results."""
    said = False
    while holders := [
        holder for folder in sorted(place.glob("*/")) if (holder := held_by(folder)) is not None
    ]:
        if not said:
            say(f"⏳ waiting for {holders[0]}, which an earlier start left picking here")
            said = True
        report(Progress("pick", 0, total, "micrograph"))
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _noting(file: Path) -> OnProgress:
    """A report that writes the number of micrographs that are done into a file."""
    last = 0.0

    def note(event: Progress) -> None:
        nonlocal last
        if event.done == event.total or time.monotonic() - last >= _SECONDS_BETWEEN_NOTES:
            last = time.monotonic()
            with suppress(OSError):
                file.write_text(str(event.done))

    return note


def _read(file: Path) -> tuple[Task, list[Named]]:
    document: dict[str, Any] = read_json(file)
    try:
        task = Task(
            Path(document["model"]),
            Scaling(**document["scaling"]),
            Machine(**document["machine"]),
            Path(document["folder"]),
            masks=bool(document["masks"]),
        )
        named = [Named(Path(path), name, size) for path, name, size in document["micrographs"]]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{file} describes no part of `cryossl pick --jobs`", cure="start that command"
        ) from None
    return task, named
