"""Runs that `mlflow run` makes before cryossl starts: named, and ended if it never did."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryossl.run_settings import RunSettings
from cryossl.system.process import PROJECT, is_at_work, process_tags
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.journal import now_ms
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import MlflowStore, StoredRun

KIND = "cryossl.kind"
UNSTARTED_SECONDS = 3600.0
"""A run in a shared store may be of another host, which makes its environment for so long."""

_RUNNING_PROJECTS = "attributes.status = 'RUNNING' and tags.`mlflow.source.type` = 'PROJECT'"


def tag_adopted(kind: str) -> None:
    """Tag the run that `mlflow run` made for a command that tracks nothing itself.

    So it is never taken for a run of an experiment, and `reap` knows its process. A store that
    does not take the tags is left as it is.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return
    settings = RunSettings()
    store = MlflowStore(store_uri(settings.tracking_uri), *experiment_choice(settings.experiment))
    tags = {KIND: kind, "mlflow.runName": kind, **process_tags()}
    with suppress(StoreAwayError, RefusedError):
        store.log(run_id, metrics=[], params={}, tags=tags)


def end_unstarted(store: MlflowStore) -> list[tuple[StoredRun, bool]]:
    """End as FAILED the runs that `mlflow run` made for this project and whose command never began.

    MLflow leaves such a run as RUNNING if it finds no conda. One is left alone while an `mlflow
    run` is at work on this host, and in a store that is no file for an hour.

    Returns:
        Each such run that is shown as RUNNING, and whether it was ended.

    Raises:
        NoExperimentError, StoreAwayError, RefusedError.
    """
    shared, busy = sqlite_path(store.uri) is None, is_at_work("mlflow", "run")
    found = []
    for run in store.search(store.existing_experiments(), _RUNNING_PROJECTS):
        tags = dict(run.data.tags)
        if KIND in tags or not _is_ours(tags.get("mlflow.source.name", "")):
            continue
        age_seconds = time.time() - run.info.start_time / 1000
        dead = not busy and (not shared or age_seconds > UNSTARTED_SECONDS)
        if dead:
            store.set_status(run.info.run_id, "FAILED", timestamp_ms=now_ms())
        stored = StoredRun(run.info.run_id, run.info.status, deleted=False, tags=tags)
        found.append((stored, dead))
    return found


def _is_ours(source: str) -> bool:
    """Whether the source of a run is this checkout."""
    path = unquote(urlsplit(source).path) if source.startswith("file:") else source
    return bool(path) and Path(path.partition("#")[0]).resolve() == PROJECT
