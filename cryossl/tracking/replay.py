"""Bring a tracking store up to a journal, so that it holds the run once and each point once."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryossl.system.process import code_tags, is_dead, process_in, process_tags
from cryossl.tracking.circuit_breaker import WAIT_PER_COST
from cryossl.tracking.holdings import (
    Line,
    folders_sent,
    lost_files,
    lost_values,
    not_newest,
    steps_sent,
)
from cryossl.tracking.journal import Entry, Journal, Sent, now_ms
from cryossl.tracking.model_replay import ModelReplay
from cryossl.tracking.store.mlflow_errors import NotAuthorisedError, RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import FINGERPRINT, PARENT, MlflowStore, StoredRun

RUN_ID = "run_id"
SUPERSEDED_BY = "cryossl.superseded_by"

_QUICK_SECONDS = 1.0  # a failure that costs less does not keep the next file from being tried
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attached:
    """The store's run of a journal.

    `known` is what it held before, as (kind, key, step); that is not sent again.
    """

    run_id: str
    status: str
    parent_id: str | None
    known: frozenset[tuple[str, str, int]] = frozenset()


class Replay:
    """Sends the journals below one folder to one store.

    Methods raise StoreAwayError, RefusedError, StorageError, BusyError. What keeps the files of the
    store may be another machine than its database: files that it does not take are owed, the values
    go on.
    """

    def __init__(
        self, store: MlflowStore, root: Path, *, warn: Callable[..., None] = _LOG.warning
    ) -> None:
        self._store = store
        self._root = root
        self._warn = warn
        self._attached: dict[Path, _Attached] = {}
        self._tried: set[tuple[Path, int]] = set()
        self._files_wait_until = 0.0
        self._has_warned = False
        self.files_fault = ""
        self.models = ModelReplay(store, self._with_files)
        self.not_newest: dict[str, list[str]] = {}

    def try_files_again(self) -> None:
        """Let the next sending try the files that were not taken."""
        self._tried.clear()
        self._files_wait_until, self.files_fault = 0.0, ""

    def check(self, journal: Journal) -> None:
        """Note in the journal what the store had taken and holds no more, so that it is sent again.

        A run that a user has deleted stays deleted.
        """
        with journal.sending():
            self._check(journal)

    def send(self, journal: Journal, *, live: bool, extra_tags: Mapping[str, str]) -> None:
        """Find or make the run, and send all that it lacks.

        Args:
            journal: what was recorded.
            live: this process is writing the run, so the store shows it as RUNNING.
            extra_tags: sent with it but not recorded, because they hold at this moment only.
        """
        with journal.sending():
            try:
                self._send(journal, live=live, extra_tags=extra_tags)
            except RefusedError:
                # Somebody may have deleted the run while it was written: then it gets a new one,
                # with all its history.
                attached = self._attached.pop(journal.folder, None)
                if attached is None or not self._is_gone(attached.run_id):
                    raise
                self._send(journal, live=live, extra_tags=extra_tags)

    def end_dead(self, *, host: str = "") -> list[tuple[StoredRun, bool]]:
        """End runs as KILLED that the store shows as RUNNING though their process is gone.

        Returns:
            Each run that the store shows as RUNNING (of this host, if it is given), and whether it
            was ended.
        """
        found = [
            (run, is_dead(run.tags))
            for run in self._store.find({}, status="RUNNING")
            if host in ("", process_in(run.tags)[0])
        ]
        for run, dead in found:
            if dead:
                self._store.set_status(run.run_id, "KILLED", timestamp_ms=now_ms())
        return found

    def _send(self, journal: Journal, *, live: bool, extra_tags: Mapping[str, str]) -> None:
        attached = self._attached.get(journal.folder) or self._attach(journal)
        lines, end_bytes = journal.pending(self._store.identity), journal.end_bytes
        entries = [entry for _, entry in lines]
        status = journal.newest("status", "status")
        if live and attached.status != "RUNNING":
            attached = self._set_status(attached, "RUNNING", timestamp_ms=0)
        attached = self._send_parent(attached, entries)
        self._send_values(attached, entries, extra_tags)
        owed = (
            *self._send_files(attached, journal, lines),
            *self._send_models(attached, journal, lines),
        )
        if status is not None and not live and status.value not in ("RUNNING", attached.status):
            attached = self._set_status(
                attached, str(status.value), timestamp_ms=status.timestamp_ms
            )
        self._attached[journal.folder] = attached
        sent = Sent(attached.run_id, end_bytes, owed)
        if lines and sent != journal.sent(self._store.identity):
            journal.mark_sent(self._store.identity, sent)

    def _attach(self, journal: Journal) -> _Attached:
        """The run of this journal. What it holds from a lost journal is taken over as it stands."""
        self._check(journal)
        start = journal.newest("start", "start")
        how, _, key = str(start.value).partition("=") if start else ("", "", "")
        found = (
            [self._store.run(key)]
            if how == RUN_ID and not self._is_gone(key)
            else self._store.find({FINGERPRINT: key})
        )
        sent = journal.sent(self._store.identity) or Sent()
        held: list[Entry] = []
        run = (
            found[0]
            if found
            else self._create(journal, key, start.timestamp_ms if start else now_ms())
        )
        if found and sent.run_id != run.run_id:
            held = self._store.history(run.run_id)
            if run.status == "FINISHED" and journal.newest("status", "status") is None:
                held.append(Entry("status", "status", run.status))
            journal.append(held)
        if sent.run_id != run.run_id:
            journal.mark_sent(self._store.identity, Sent(run.run_id))
        known = frozenset((entry.kind, entry.key, entry.step) for entry in held)
        return _Attached(run.run_id, run.status, run.tags.get(PARENT), known)

    def _check(self, journal: Journal) -> None:
        identity = self._store.identity
        sent = journal.sent(identity)
        if sent is None or sent.run_id is None:
            return
        run = self._there(sent.run_id)
        if run is None:
            journal.mark_sent(identity, Sent())
            return
        lines = [line for line in journal.lines if line[0] <= sent.end_bytes]
        if run.deleted or not lines:
            return
        holdings = self._store.holdings(run.run_id, steps_sent(lines))
        lost = {*sent.owed, *lost_values(lines, holdings, status=run.status)}
        lost.update(self._lost_files(journal, run.run_id, lines))
        lost.update(self.models.lost(journal, lines, holdings.models))
        wrong = not_newest(lines, holdings)
        if wrong:
            self.not_newest[run.run_id] = wrong
        parent = journal.newest("parent", "parent")
        if parent is not None and self._parent_is_lost(str(parent.value), run):
            lost.update(end for end, entry in lines if entry == parent)
        if lost != set(sent.owed):
            journal.mark_sent(identity, Sent(run.run_id, sent.end_bytes, tuple(sorted(lost))))

    def _lost_files(self, journal: Journal, run_id: str, lines: Sequence[Line]) -> list[int]:
        """The ends of the lines of lost files; none while they cannot be listed."""
        sizes: dict[str, int] = {}
        for folder in folders_sent(lines):
            listed = partial(self._store.files, run_id, folder)
            if not self._with_files(folder or "all", lambda: sizes.update(listed())):  # noqa: B023 (called at once)
                return []
        local = self._store.local_folder(run_id) if sizes else None
        return lost_files(lines, sizes, journal.folder / "artifacts", local)

    def _parent_is_lost(self, key: str, run: StoredRun) -> bool:
        """Whether the run is shown below no run, or one that is not there."""
        sent = Journal(journal_folder(self._root, key)).sent(self._store.identity)
        return (
            sent is not None
            and sent.run_id is not None
            and (run.tags.get(PARENT) != sent.run_id or self._there(sent.run_id) is None)
        )

    def _there(self, run_id: str) -> StoredRun | None:
        """The run of this id, which may be deleted; None if there is none."""
        try:
            return self._store.run(run_id)
        except NotAuthorisedError:
            raise
        except RefusedError:
            return None

    def _create(self, journal: Journal, key: str, started_ms: int) -> StoredRun:
        """A new run, made with all its tags at once.

        If this process is killed right after, the run is found again by them, or ended.
        """
        recorded = {entry.key: str(entry.value) for entry in journal.entries if entry.kind == "tag"}
        # MLflow shows tags in the order of their making: those of the process come last.
        others = {**code_tags(), **process_tags()}
        tags = {**recorded, FINGERPRINT: key}
        tags |= {name: value for name, value in others.items() if name not in recorded}
        parent = journal.newest("parent", "parent")
        if parent is not None:
            tags[PARENT] = self._run_id_of(str(parent.value))
        return self._store.create(tags=tags, started_ms=started_ms)

    def _run_id_of(self, key: str) -> str:
        """The store's run of another journal, which is sent first if it has none yet."""
        journal = Journal(journal_folder(self._root, key))
        run_id = (journal.sent(self._store.identity) or Sent()).run_id
        if run_id is None or self._is_gone(run_id):
            self._attached.pop(journal.folder, None)
            self.send(journal, live=False, extra_tags={})
            run_id = (journal.sent(self._store.identity) or Sent()).run_id
        return run_id or ""

    def _send_parent(self, attached: _Attached, entries: Sequence[Entry]) -> _Attached:
        """Show the run below its newest parent.

        The parent it leaves is ended if its process is gone.
        """
        moves = [entry for entry in entries if entry.kind == "parent"]
        if not moves:
            return attached
        new = self._run_id_of(str(moves[-1].value))
        if new == attached.parent_id:
            return attached
        self._store.log(attached.run_id, metrics=[], params={}, tags={PARENT: new})
        if attached.parent_id is not None and not self._is_gone(attached.parent_id):
            self._supersede(self._store.run(attached.parent_id), new)
        return replace(attached, parent_id=new)

    def _supersede(self, old: StoredRun, new_id: str) -> None:
        if old.status == "RUNNING" and is_dead(old.tags):
            self._store.set_status(old.run_id, "KILLED", timestamp_ms=now_ms())
        if old.tags.get(SUPERSEDED_BY) != new_id:
            self._store.log(old.run_id, metrics=[], params={}, tags={SUPERSEDED_BY: new_id})

    def _send_values(
        self, attached: _Attached, entries: Sequence[Entry], extra_tags: Mapping[str, str]
    ) -> None:
        new = [
            entry for entry in entries if (entry.kind, entry.key, entry.step) not in attached.known
        ]
        metrics = [entry for entry in new if entry.kind == "metric"]
        params = {entry.key: str(entry.value) for entry in new if entry.kind == "param"}
        tags = {entry.key: str(entry.value) for entry in entries if entry.kind == "tag"}
        if metrics or params or tags or extra_tags:
            self._store.log(
                attached.run_id, metrics=metrics, params=params, tags={**tags, **extra_tags}
            )

    def _send_files(
        self, attached: _Attached, journal: Journal, lines: Sequence[Line]
    ) -> tuple[int, ...]:
        """Send the files, each once until `try_files_again`.

        Returns the ends of the lines whose files the store did not take.
        """
        owed = []
        newest = {entry.key: end for end, entry in lines if entry.kind == "artifact"}
        for name, end in newest.items():
            path = journal.artifact(name)
            if not path.is_file():
                _LOG.warning("%s is missing and cannot be sent to the tracking store", path)
                continue
            tried = (journal.folder, end)
            if tried in self._tried or not self._with_files(
                name, partial(self._store.upload, attached.run_id, name, path)
            ):
                self._tried.add(tried)
                owed.append(end)
        for _, entry in lines:
            if entry.kind == "dataset":
                self._store.add_dataset(
                    attached.run_id, json.loads(str(entry.value)), context=entry.key.split("/")[0]
                )
        return tuple(owed)

    def _send_models(
        self, attached: _Attached, journal: Journal, lines: Sequence[Line]
    ) -> tuple[int, ...]:
        """Send the models, as files are sent."""
        owed = self.models.send(
            attached.run_id,
            journal,
            lines,
            tried=lambda end: (journal.folder, end) in self._tried,
        )
        self._tried |= {(journal.folder, end) for end in owed}
        return owed

    def _with_files(self, what: str, action: Callable[[], None]) -> bool:
        """Whether an action on the store's files succeeded.

        After a failure that took long, files are left alone for 39 times as long.
        """
        begun = time.monotonic()
        if begun < self._files_wait_until:
            return False
        try:
            action()
        except (StoreAwayError, RefusedError) as error:
            cost_seconds = time.monotonic() - begun
            if cost_seconds > _QUICK_SECONDS:
                self._files_wait_until = time.monotonic() + WAIT_PER_COST * cost_seconds
            self.files_fault = f"{what}: {error}"
            if not self._has_warned:
                self._has_warned = True
                self._warn(
                    "the tracking store takes no files (%s); the journals in %s keep them",
                    self.files_fault,
                    self._root,
                )
            return False
        self._has_warned = False
        return True

    def _set_status(self, attached: _Attached, status: str, *, timestamp_ms: int) -> _Attached:
        self._store.set_status(attached.run_id, status, timestamp_ms=timestamp_ms)
        return replace(attached, status=status)

    def _is_gone(self, run_id: str) -> bool:
        run = self._there(run_id)
        return run is None or run.deleted


def journal_folder(root: Path, key: str) -> Path:
    """The folder of a run's journal: its key, or a digest of one that cannot name a folder."""
    plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", key)
    return root / (key if plain else hashlib.sha256(key.encode()).hexdigest())
