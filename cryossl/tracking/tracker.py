"""Write tracked runs.

The journals on disk hold everything; the tracking store is a view of them. It may be unreachable
for any time, or be another one at the next start. In the end it holds each run and each point once.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cryossl.errors import StorageError, TrackingError
from cryossl.redaction import shown
from cryossl.run_settings import RunSettings
from cryossl.system.process import HEARTBEAT
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.circuit_breaker import CircuitBreaker
from cryossl.tracking.journal import Entry, Journal, Sent, remove_leftovers
from cryossl.tracking.replay import RUN_ID, Replay, journal_folder
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.store.mlflow_errors import NotAuthorisedError, RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import FINGERPRINT, MlflowStore, StoredRun
from cryossl.tracking.store.views import CURVES, SETTINGS, keep_views, newest_arm, page

HEARTBEAT_SECONDS = 60.0
SERVED_AT = "http://127.0.0.1:5000"
"""Where `cryossl ui` serves a database, unless it is told another port."""

_FULL = "disk is full"  # sqlite's words

_LOG = logging.getLogger(__name__)


def link_text(link: str, settings: RunSettings) -> str:
    """A link of `keep_views`, after the command that serves it where no server does."""
    where = [word for pair in settings.store_options.items() for word in pair]
    served = link.startswith(settings.tracking_uri)
    return link if served else f"`{shlex.join(['cryossl', 'ui', *where])}` serves {link}"


def lacking_text(missing: int) -> str:
    """What a user reads where the tracking store lacks so many entries of a finished command."""
    return (
        f"⚠ the tracking store lacks {missing} entries; `cryossl sync` or the next start sends them"
    )


class Tracker:
    """Finds or makes the runs of one invocation, in one experiment of one store.

    After a failure the store is left alone for a while: see `circuit_breaker`. The end of a run,
    unless the failure was a silence that took long, and `sync` try before, if the store then
    answers a probe within a second.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        journal_root: Path,
        *,
        warn: Callable[..., None] = _LOG.warning,
        makes_experiment: Literal["always", "for journals", "never"] = "always",
    ) -> None:
        """Open the store. One that is unreachable is tried again later.

        MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLFLOW_RUN_ID come before the arguments.

        Args:
            uri: the configured store.
            experiment: its configured name.
            journal_root: the folder of the journals, one folder each.
            warn: called like `logging.Logger.warning` when the store goes and when it comes back.
            makes_experiment: whether an experiment that is not there is made: always, if there are
                journals to send to it, or never.

        Raises:
            TrackingError: the store can never be written as it is.
            NoExperimentError: the experiment is not there, and is not to be made.
            StorageError: the disk of the store is full.
        """
        self._root = journal_root
        self._adopted = os.environ.get("MLFLOW_RUN_ID") or None
        self._open: set[Path] = set()
        self._journals: dict[Path, Journal] = {}
        self._beats: dict[Path, float] = {}
        self._monitors: dict[Path, Callable[[], None]] = {}
        self._connected = False
        begun = time.monotonic()
        self._store = MlflowStore(store_uri(uri), *experiment_choice(experiment))
        self._replay = Replay(self._store, journal_root, warn=warn)
        self._breaker = CircuitBreaker(
            shown(self._store.uri),
            journal_root,
            probe=lambda seconds: self._store.probe(seconds=seconds),
            warn=warn,
        )
        self._makes_experiment = makes_experiment == "always" or (
            makes_experiment == "for journals" and bool(self._meant(everything=True))
        )
        try:
            self._connect()
        except StoreAwayError as error:
            if sqlite_path(self._store.uri) is not None:
                fault = StorageError if _FULL in str(error) else TrackingError
                raise fault(
                    f"tracking store {self._store.uri} cannot be opened ({error})",
                    cure="check the path, its permissions and the free space; a file whose making "
                    "was interrupted "
                    "(`already exists`) holds nothing yet: remove it",
                ) from None
            self._breaker.note_failure(str(error), cost_seconds=time.monotonic() - begun)
        except RefusedError as error:
            another = self._adopted and not isinstance(error, NotAuthorisedError)
            raise TrackingError(
                f"tracking store {shown(self._store.uri)}: {error}",
                cure=error.cure
                + (
                    ", and `unset MLFLOW_RUN_ID` if it names another store's run" if another else ""
                ),
            ) from None

    @property
    def away(self) -> str:
        """Why the last call of the store, or the last one for its files, failed; empty if none."""
        return self._breaker.fault or self._replay.files_fault

    @property
    def registered(self) -> tuple[str, ...]:
        """What has been done to register models, in words."""
        return tuple(self._replay.models.registered.values())

    def invocation(
        self, *, name: str, tags: Mapping[str, str], key: str | None = None
    ) -> TrackedRun:
        """The parent run of this invocation: the one that `mlflow run` made, else a new one.

        `key`: of an earlier invocation that was killed, whose run goes on, or of the new run.

        Runs of this host that the store shows as RUNNING though their process is gone are ended as
        KILLED before, and what killed writers left in the journals is removed.
        """
        remove_leftovers(self._root)
        self._breaker.attempt(self._end_dead)
        run = self.adopt()
        if run is None:
            key = key or f"invocation-{uuid.uuid4().hex}"
            run = self.run(key, name=name, parent=None, tags=tags)
        else:
            run.tags({**tags, "mlflow.runName": name})
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in (
            "true",
            "1",
        )
        if wanted:
            self._breaker.attempt(lambda: self._watch_machine(run))
        return run

    def adopt(self) -> TrackedRun | None:
        """The run that MLFLOW_RUN_ID names, which `mlflow run` made; None without one."""
        if self._adopted is None:
            return None
        return self._opened(
            f"run-{self._adopted}", [Entry("start", "start", f"{RUN_ID}={self._adopted}")]
        )

    def run(
        self, key: str, *, name: str, parent: TrackedRun | None, tags: Mapping[str, str]
    ) -> TrackedRun:
        """The run with this fingerprint: found and resumed, else made.

        A resumed run moves below the given parent. One that is finished stays so until something
        new is recorded.

        Args:
            key: the fingerprint of what the run computes; the same key is the same run, in any
                process, at any time.
            name: shown in the UI.
            parent: the run it is shown below.
            tags: repeated on every run, so that a filter finds it.
        """
        below = [Entry("parent", "parent", parent.key)] if parent is not None else []
        return self._opened(
            key,
            [
                Entry("start", "start", f"{FINGERPRINT}={key}"),
                *below,
                Entry("tag", "mlflow.runName", name),
                *(Entry("tag", tag, value) for tag, value in tags.items()),
            ],
        )

    def sync(self, *, everything: bool = False) -> int:
        """Send what the store has not got; returns how many entries it still lacks.

        Args:
            everything: all journals that were meant for this store, not only the runs of this
                tracker.
        """
        self._replay.try_files_again()
        if self._breaker.end_wait():
            if self._breaker.has_failed:  # it may have come back as an older one
                self._check_all(everything=everything)
            for journal in self._lagging(everything=everything):
                self._push(journal)
                self._breaker.end_wait_for_slowness()
        return self.backlog(everything=everything)

    def keep_views(self, tags: Mapping[str, str] | None, *, by: Sequence[str] = ()) -> str:
        """Keep MLflow's views of the arms with these tags; returns the link of one.

        None: of the arms that share data and code with the newest one.

        It is that of the curves, or, where `by` names params (`selection.particle_threshold`),
        that of the view grouped by their values. It begins at the store's address, or, for a
        database, at the one where `cryossl ui` serves it. Empty if the store does not answer now.
        """

        def keep() -> None:
            self._connect()
            newest = newest_arm(self._store, self._store.experiment_id) if tags is None else tags
            keep_views(self._store, newest, by=by)

        self._breaker.attempt(keep)
        if not self._connected or self._breaker.fault:
            return ""
        served = urlsplit(self._store.uri).scheme in ("http", "https")
        address = shown(self._store.uri) if served else SERVED_AT
        return page(address, self._store.experiment_id, SETTINGS if by else CURVES)

    def mend(self) -> None:
        """Look what the store has lost of all that the journals of the root had sent to it.

        It may have been put back to an older backup, or be another one at the same address. What is
        lost counts as not sent from then on. Runs that a user has deleted stay deleted.
        """
        self._check_all(everything=True)

    @property
    def not_newest(self) -> dict[str, list[str]]:
        """Run id -> the metrics whose newest value in the store is none of ours: not to be mended.

        As the last `mend` found them.
        """
        return self._replay.not_newest

    def backlog(self, *, everything: bool = False) -> int:
        """How many entries the store has not got. Arguments as for `sync`."""
        return sum(
            len(journal.pending(self._store.identity))
            for journal in self._lagging(everything=everything)
        )

    def reap(self) -> list[tuple[StoredRun, bool]]:
        """The runs that the store shows as RUNNING, each with whether it was ended as KILLED.

        Raises TrackingError.
        """
        try:
            if not self._connected:
                raise StoreAwayError(self.away)
            return self._replay.end_dead()
        except (StoreAwayError, RefusedError) as error:
            raise TrackingError(
                f"tracking store {shown(self._store.uri)} cannot be read ({error})",
                cure=error.cure,
            ) from None

    def _lagging(self, *, everything: bool) -> list[Journal]:
        """Journals meant for this store that it has not got whole."""
        return [
            journal
            for journal in self._meant(everything=everything)
            if journal.pending(self._store.identity)
        ]

    def _meant(self, *, everything: bool) -> list[Journal]:
        """Journals meant for this store."""
        if everything:
            for path in sorted(self._root.glob("*/journal.jsonl")):
                self._journals.setdefault(path.parent, Journal(path.parent))
        return [
            journal
            for journal in self._journals.values()
            if journal.sent(self._store.identity) is not None
        ]

    def _check_all(self, *, everything: bool) -> None:
        for journal in self._meant(everything=everything):
            self._breaker.attempt(lambda journal=journal: self._check(journal))  # type: ignore[misc]

    def _check(self, journal: Journal) -> None:
        self._connect()
        self._replay.check(journal)

    def _opened(self, key: str, entries: list[Entry]) -> TrackedRun:
        folder = journal_folder(self._root, key)
        journal = self._journals.setdefault(folder, Journal(folder))
        journal.append(entries)
        if journal.sent(self._store.identity) is None:
            journal.mark_sent(self._store.identity, Sent())
        run = TrackedRun(
            journal,
            key=key,
            store=self._store.identity,
            push=lambda: self._push(journal),
            ended=lambda: self._ended(journal),
        )
        self._open.add(folder)
        self._push(journal)
        if not run.finished:
            run.mark_running()
            self._push(journal)
        return run

    def _ended(self, journal: Journal) -> None:
        self._open.discard(journal.folder)
        stop = self._monitors.pop(journal.folder, None)
        if stop is not None:
            stop()
        self._push(journal, insist=True)

    def _push(self, journal: Journal, *, insist: bool = False) -> None:
        self._breaker.attempt(lambda: self._send(journal), insist=insist)
        for folder in self._open - {journal.folder}:
            if self._beat_is_due(folder):
                self._breaker.attempt(lambda journal=self._journals[folder]: self._send(journal))  # type: ignore[misc]

    def _send(self, journal: Journal) -> None:
        self._connect()
        status = journal.newest("status", "status")
        live = journal.folder in self._open and status is not None and status.value == "RUNNING"
        due = live and self._beat_is_due(journal.folder)
        beat = {HEARTBEAT: datetime.now(UTC).isoformat(timespec="seconds")} if due else {}
        self._replay.send(journal, live=live, extra_tags=beat)
        if due:
            self._beats[journal.folder] = time.monotonic()

    def _beat_is_due(self, folder: Path) -> bool:
        return time.monotonic() - self._beats.get(folder, -HEARTBEAT_SECONDS) >= HEARTBEAT_SECONDS

    def _end_dead(self) -> None:
        self._connect()
        self._replay.end_dead(host=platform.node())

    def _watch_machine(self, run: TrackedRun) -> None:
        folder = journal_folder(self._root, run.key)
        if run.run_id is not None and folder not in self._monitors:
            self._monitors[folder] = self._store.watch_machine(run.run_id)

    def _connect(self) -> None:
        if not self._connected:
            self._store.connect(
                self._root, adopted=self._adopted, makes_experiment=self._makes_experiment
            )
            self._connected = True
