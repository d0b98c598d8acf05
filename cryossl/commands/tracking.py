"""`sync` and `reap`: send what the tracking store lacks, end runs whose process is gone."""

from __future__ import annotations

import logging
from typing import Literal

from cryossl.config import Config
from cryossl.errors import NoExperimentError, TrackingError
from cryossl.progress.terminal import echo
from cryossl.redaction import shown
from cryossl.system.process import process_in
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.journal import Journal
from cryossl.tracking.project_runs import end_unstarted
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import MlflowStore, StoredRun
from cryossl.tracking.tracker import Tracker

_NAMES_SHOWN = 5


def sync(config: Config) -> None:
    """Send all that the journals of the work folder hold for the tracking store, or that it lost.

    Raises TrackingError if some is left.
    """
    journals, where = config.run.journals, shown(store_uri(config.run.tracking_uri))
    tracker = _tracker(config, makes_experiment="for journals")
    tracker.mend()
    waiting = tracker.backlog(everything=True)
    left = tracker.sync(everything=True) if waiting else 0
    for line in tracker.registered:
        echo(line)
    if left:
        raise TrackingError(
            f"{where} lacks {left} of {waiting} entries ({tracker.away or 'it refuses them'})",
            cure=f"mend that and sync again; {journals} keeps them",
        )
    if tracker.away:
        raise TrackingError(
            f"{where} does not answer ({tracker.away}); {journals} holds nothing for it",
            cure="check the tracking URI and the experiment's name, or start the store",
        )
    if tracker.not_newest:
        run_id, keys = next(iter(tracker.not_newest.items()))
        names = ", ".join(keys[:_NAMES_SHOWN]) + (", ..." if keys[_NAMES_SHOWN:] else "")
        raise TrackingError(
            f"{where} shows other newest values than recorded in {len(tracker.not_newest)} runs, "
            f"as in {run_id} ({names}); sending them again cannot mend that",
            cure="restore the store, or delete these runs in MLflow and start their command again",
        )
    echo(
        f"sent {waiting} entries to {where}"
        if waiting
        else f"{where} has all that {journals} holds for it"
    )


def reap(config: Config, *, aside: bool = False) -> None:
    """End as KILLED the runs shown as RUNNING whose process on this host is gone; print each.

    `aside`: print to standard error, for standard output belongs to something else.
    """
    missing: NoExperimentError | None = None
    found = []
    try:
        found = _tracker(config, makes_experiment="never").reap()
    except NoExperimentError as error:
        missing = error
    unstarted = _end_unstarted(config)
    if missing is not None and not unstarted:
        if not _journals(config):
            raise missing
        raise NoExperimentError(
            missing.cause, cure="`cryossl sync` makes it and sends what the journals hold for it"
        ) from None
    for run, ended in unstarted:
        name = run.tags.get("mlflow.runName", "unknown")
        echo(
            f"ended {name} ({run.run_id}): `mlflow run` never started its command"
            if ended
            else f"left {name} ({run.run_id}): `mlflow run` may still make its environment",
            err=aside,
        )
    never = {run.run_id for run, _ in unstarted}
    for run, ended in (one for one in found if one[0].run_id not in never):
        name = run.tags.get("mlflow.runName", "unknown")
        host, process = (text or "unknown" for text in process_in(run.tags)[:2])
        echo(
            f"ended {name} ({run.run_id}): its process {process} is gone"
            if ended
            else f"left {name} ({run.run_id}): process {process} on host {host} may be at work",
            err=aside,
        )
    if not found and not unstarted:
        echo("no run is shown as RUNNING", err=aside)


def reap_what_there_is(config: Config, *, aside: bool) -> None:
    """As `reap`, but it is no fault if the store or the experiment does not exist yet."""
    path = sqlite_path(store_uri(config.run.tracking_uri))
    if path is not None and not path.exists():
        echo("nothing to end: there is no tracking store yet", err=aside)
        return
    try:
        reap(config, aside=aside)
    except NoExperimentError as error:
        echo(f"nothing to end: {error}", err=aside)


def _end_unstarted(config: Config) -> list[tuple[StoredRun, bool]]:
    """What `project_runs.end_unstarted` does; nothing where there is no experiment."""
    store = MlflowStore(
        store_uri(config.run.tracking_uri), *experiment_choice(config.run.experiment)
    )
    try:
        return end_unstarted(store)
    except NoExperimentError:
        return []
    except (StoreAwayError, RefusedError) as error:
        raise TrackingError(
            f"tracking store {shown(store.uri)} cannot be read ({error})", cure=error.cure
        ) from None


def _journals(config: Config) -> list[Journal]:
    """The journals of the work folder that are meant for this store and experiment."""
    store = MlflowStore(
        store_uri(config.run.tracking_uri), *experiment_choice(config.run.experiment)
    ).identity
    journals = [Journal(path.parent) for path in config.run.journals.glob("*/journal.jsonl")]
    return [journal for journal in journals if journal.sent(store) is not None]


def _tracker(config: Config, *, makes_experiment: Literal["for journals", "never"]) -> Tracker:
    """A tracker of a store that exists: MLflow would make a missing sqlite file.

    One that journals were sent to is made again, for them. Raises TrackingError, ConfigError.
    """
    path = sqlite_path(store_uri(config.run.tracking_uri))
    refills = makes_experiment == "for journals" and _journals(config)
    if path is not None and not path.exists() and not refills:
        raise TrackingError(
            f"there is no tracking store {path}",
            cure="check the tracking URI; a run makes a new store",
        )
    return Tracker(
        config.run.tracking_uri,
        config.run.experiment,
        config.run.journals,
        warn=logging.getLogger(__name__).debug,  # these commands end with what it would warn of
        makes_experiment=makes_experiment,
    )
