"""Bring a tracking store up to a journal, so that it holds the run once and each point once."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryossl.system.process import code_tags, is_dead, process_tags
from cryossl.tracking.journal import Entry, Journal, Sent, now_ms
from cryossl.tracking.mlflow_errors import RefusedError
from cryossl.tracking.mlflow_store import FINGERPRINT, PARENT, MlflowStore, StoredRun

RUN_ID = "run_id"
SUPERSEDED_BY = "cryossl.superseded_by"

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

    Methods raise StoreAwayError, RefusedError, StorageError, BusyError.
    """

    def __init__(self, store: MlflowStore, root: Path) -> None:
        self._store = store
        self._root = root
        self._attached: dict[Path, _Attached] = {}

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

    def end_dead(self, tags: Mapping[str, str]) -> list[tuple[StoredRun, bool]]:
        """End runs as KILLED that the store shows as RUNNING though their process is gone.

        Returns:
            Each run with these tags that the store shows as RUNNING, and whether it was ended.
        """
        found = [(run, is_dead(run.tags)) for run in self._store.find(tags, status="RUNNING")]
        for run, dead in found:
            if dead:
                self._store.set_status(run.run_id, "KILLED", timestamp_ms=now_ms())
        return found

    def _send(self, journal: Journal, *, live: bool, extra_tags: Mapping[str, str]) -> None:
        attached = self._attached.get(journal.folder) or self._attach(journal)
        entries, end_bytes = journal.pending(self._store.identity)
        status = journal.newest("status", "status")
        if live and attached.status != "RUNNING":
            attached = self._set_status(attached, "RUNNING", timestamp_ms=0)
        attached = self._send_parent(attached, entries)
        self._send_values(attached, entries, extra_tags)
        self._send_files(attached, journal, entries)
        if status is not None and not live and status.value not in ("RUNNING", attached.status):
            attached = self._set_status(
                attached, str(status.value), timestamp_ms=status.timestamp_ms
            )
        self._attached[journal.folder] = attached
        if entries:
            journal.mark_sent(self._store.identity, Sent(attached.run_id, end_bytes))

    def _attach(self, journal: Journal) -> _Attached:
        """The run of this journal. What it holds from a lost journal is taken over as it stands."""
        start = journal.newest("start", "start")
        how, _, key = str(start.value).partition("=") if start else ("", "", "")
        found = [self._store.run(key)] if how == RUN_ID else self._store.find({FINGERPRINT: key})
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

    def _create(self, journal: Journal, key: str, started_ms: int) -> StoredRun:
        """A new run, made with all its tags at once.

        If this process is killed right after, the run is found again by them, or ended.
        """
        recorded = {entry.key: str(entry.value) for entry in journal.entries if entry.kind == "tag"}
        tags = {**code_tags(), **process_tags(), **recorded, FINGERPRINT: key}
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

    def _send_files(self, attached: _Attached, journal: Journal, entries: Sequence[Entry]) -> None:
        for name in dict.fromkeys(entry.key for entry in entries if entry.kind == "artifact"):
            path = journal.artifact(name)
            if not path.is_file():
                _LOG.warning("%s is missing and cannot be sent to the tracking store", path)
                continue
            try:
                self._store.upload(attached.run_id, name, path)
            except RefusedError as error:
                if self._is_gone(attached.run_id):
                    raise
                _LOG.warning("the tracking store refuses the file %s: %s", name, error)
        for entry in entries:
            if entry.kind == "dataset":
                self._store.add_dataset(
                    attached.run_id, json.loads(str(entry.value)), context=entry.key.split("/")[0]
                )

    def _set_status(self, attached: _Attached, status: str, *, timestamp_ms: int) -> _Attached:
        self._store.set_status(attached.run_id, status, timestamp_ms=timestamp_ms)
        return replace(attached, status=status)

    def _is_gone(self, run_id: str) -> bool:
        try:
            return self._store.run(run_id).deleted
        except RefusedError:
            return True


def journal_folder(root: Path, key: str) -> Path:
    """The folder of a run's journal: its key, or a digest of one that cannot name a folder."""
    plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", key)
    return root / (key if plain else hashlib.sha256(key.encode()).hexdigest())
