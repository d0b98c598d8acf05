"""What a run has recorded, line by line on disk; a tracking store is a view of it.

Every line carries its own timestamp and checksum. A point keeps the timestamp of its first writing,
and a store keeps one row per (key, value, timestamp, step), so sending the whole journal again
changes nothing: each point is there once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from cryossl.errors import BusyError, StorageError
from cryossl.system.file_lock import FileLock
from cryossl.system.files import sync_folder, write_durably

Kind = Literal[
    "start",
    "parent",
    "status",
    "tag",
    "param",
    "metric",
    "artifact",
    "dataset",
    "model",
    "version",
]
LOCK_SECONDS = 120.0
_TEMPORARY = ".*.tmp"

# A point or a param that is there stays as it is (a store could not forget the old one); of these
# the newest holds.
_LAST_WINS = frozenset({"parent", "status", "tag", "artifact"})


@dataclass(frozen=True)
class Entry:
    """One recorded fact. `step` is 0 except for metrics; `value` is a float for metrics only."""

    kind: Kind
    key: str
    value: float | str
    step: int = 0
    timestamp_ms: int = 0


@dataclass(frozen=True)
class Sent:
    """How far a store has followed: its run, and the bytes of the journal it holds.

    `owed` are the ends of lines before that which it lacks: it lost them, or did not take them.
    """

    run_id: str | None = None
    end_bytes: int = 0
    owed: tuple[int, ...] = ()


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts them."""
    return time.time_ns() // 1_000_000


class Journal:
    """The journal of one run: `journal.jsonl`, the files it names in `artifacts/`, and `sent.json`.

    Several processes may hold the same journal; each operation takes the kernel's lock for its
    short duration, so a killed holder leaves nothing to clear away. A last line without its newline
    is the mark of a killed writer and is dropped; a line that fails its checksum counts as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "journal.jsonl"
        self._entries: list[tuple[int, Entry]] = []
        self._newest: dict[tuple[str, str, int], Entry] = {}
        self._read_bytes = 0
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "journal.lock", timeout=LOCK_SECONDS)
        self._send_lock = FileLock(folder / "send.lock", timeout=LOCK_SECONDS)
        with self._holding(self._lock):
            self._refresh()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that is recorded, oldest first, as of the last operation of this object."""
        return tuple(entry for _, entry in self._entries)

    @property
    def lines(self) -> tuple[tuple[int, Entry], ...]:
        """As `entries`, each with the bytes of the journal up to the end of its line."""
        return tuple(self._entries)

    def newest(self, kind: Kind, key: str) -> Entry | None:
        """What holds now for this key of anything but a metric, or None."""
        return self._newest.get((kind, key, 0))

    def append(self, candidates: Iterable[Entry]) -> tuple[Entry, ...]:
        """Write down what is new and make it durable; returns what was new.

        Tags, files, status and parent: one with the value that holds already is dropped. All else:
        the first writing wins, later ones are dropped, also with another value. A timestamp
        of 0 becomes the present. Raises StorageError if it cannot be written; the journal is then
        as it was.
        """
        with self._holding(self._lock):
            self._refresh()
            fresh = self._fresh(candidates)
            if fresh:
                self._write(fresh)
                self._refresh()
        return tuple(fresh)

    def keep_file(self, name: str, source: Path | bytes) -> Path:
        """Put a file into `artifacts/` under its name, in place of an older one.

        Args:
            name: relative to `artifacts/`.
            source: the content, or a path, which is linked where that works and copied elsewhere.

        Raises:
            StorageError: the file cannot be written.
        """
        target = self.artifact(name)
        with self._holding(self._lock), _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                write_durably(target, source)
            else:
                _link_or_copy(source, target)
        return target

    def artifact(self, name: str) -> Path:
        """Where the file of this name is kept."""
        return self.folder / "artifacts" / name

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Hold the lock for sending this journal.

        Raises BusyError if another process holds it for two minutes.
        """
        with self._holding(self._send_lock):
            with self._holding(self._lock):
                self._refresh()
            yield

    def sent(self, store: str) -> Sent | None:
        """How far this store has followed; None if this journal was never meant for it."""
        record = self._sent_records().get(store)
        return None if record is None else Sent(**{**record, "owed": tuple(record.get("owed", ()))})

    def pending(self, store: str) -> tuple[tuple[int, Entry], ...]:
        """What this store has not got, oldest first, each with the end of its line in bytes."""
        sent = self.sent(store) or Sent()
        owed = frozenset(sent.owed)
        return tuple(line for line in self._entries if line[0] > sent.end_bytes or line[0] in owed)

    @property
    def end_bytes(self) -> int:
        """The length of the journal, as of the last operation of this object."""
        return self._read_bytes

    def mark_sent(self, store: str, sent: Sent) -> None:
        """Note how far this store has followed."""
        records = self._sent_records()
        records[store] = asdict(sent)
        with _writing(self.folder):
            write_durably(self.folder / "sent.json", json.dumps(records, indent=1).encode())

    def _sent_records(self) -> dict[str, Any]:
        # A lost or damaged record costs sending everything once more, which changes nothing.
        with suppress(OSError, ValueError):
            records = json.loads((self.folder / "sent.json").read_bytes())
            if isinstance(records, dict):
                return records
        return {}

    def _fresh(self, candidates: Iterable[Entry]) -> list[Entry]:
        fresh: dict[tuple[str, str, int], Entry] = {}
        for entry in candidates:
            place = (entry.kind, entry.key, entry.step)
            old = fresh.get(place) or self._newest.get(place)
            if old is None or (entry.kind in _LAST_WINS and old.value != entry.value):
                fresh[place] = replace(entry, timestamp_ms=entry.timestamp_ms or now_ms())
        return list(fresh.values())

    def _write(self, entries: Sequence[Entry]) -> None:
        """Append in one write; a torn end is cut off first, and a failed write is undone."""
        with _writing(self._path):
            # Without a buffer: closing a buffered file would try the refused rest once more, after
            # it was undone.
            with self._path.open("ab", buffering=0) as stream:
                stream.truncate(self._read_bytes)
                rest = memoryview("".join(map(_line, entries)).encode())
                try:
                    while rest:
                        rest = rest[stream.write(rest) :]
                    os.fsync(stream.fileno())
                except OSError:
                    os.ftruncate(stream.fileno(), self._read_bytes)
                    raise
            if self._read_bytes == 0:
                sync_folder(self.folder)

    def _refresh(self) -> None:
        """Read what this or another process has appended since."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._read_bytes)
                block = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _storage(self._path, error) from None
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            self._read_bytes += len(line)
            entry = _parse(line)
            if entry is not None:
                self._entries.append((self._read_bytes, entry))
                place = (entry.kind, entry.key, entry.step)
                if entry.kind in _LAST_WINS or place not in self._newest:
                    self._newest[place] = entry

    @contextmanager
    def _holding(self, lock: FileLock) -> Iterator[None]:
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"{lock.lock_file} is held by another process", cure="wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            lock.release()


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of killed writers from the journals below a folder.

    A journal whose lock is held by a living process is left as it is.
    """
    for folder in {root / path.relative_to(root).parts[0] for path in root.rglob(_TEMPORARY)}:
        locks = [FileLock(folder / name, timeout=0) for name in ("send.lock", "journal.lock")]
        with suppress(Timeout, OSError, StorageError), locks[0], locks[1]:
            for path in folder.rglob(_TEMPORARY):
                path.unlink(missing_ok=True)


def _line(entry: Entry) -> str:
    fields = json.dumps(asdict(entry), allow_nan=False)
    return f'{fields[:-1]}, "crc": {zlib.crc32(fields.encode())}}}\n'


def _parse(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        crc = fields.pop("crc")
        entry = Entry(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if zlib.crc32(json.dumps(asdict(entry)).encode()) == crc else None


def _link_or_copy(source: Path, target: Path) -> None:
    """A link costs no space; a file that is later replaced at its source keeps its content here."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    # Renaming a link onto another link of the same file does nothing and leaves the temporary name.
    temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise StorageError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise _storage(path, error) from None


def _storage(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror}", cure="free space, or check the permissions"
    )
