"""One experiment in one tracking store: its runs, found, made and filled."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cryossl.errors import NoExperimentError, TrackingError, nearest
from cryossl.redaction import shown
from cryossl.run_settings import RunSettings
from cryossl.tracking.address import artifact_folder, sqlite_path, store_name
from cryossl.tracking.journal import Entry
from cryossl.tracking.store.artifact_places import FORMER, local_path, mend_places, places_to_look
from cryossl.tracking.store.client import StoreClient
from cryossl.tracking.store.mlflow_environment import (
    without_retries,
)
from cryossl.tracking.store.mlflow_errors import (
    NotAuthorisedError,
    RefusedError,
    StoreAwayError,
    translated,
    translated_for_files,
)
from cryossl.tracking.store.probe import probe
from cryossl.tracking.store.sqlite_file import read_only

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run


FINGERPRINT = "cryossl.fingerprint"
PARENT = "mlflow.parentRunId"
DEFAULT_EXPERIMENT_ID = "0"

# MLflow takes 1,000 metrics, 100 params and 100 tags a call, 1,000 values in all.
_METRICS_PER_CALL = 800
_TAGS_PER_CALL = 80
_RUNS_PER_PAGE = 1000
_NAMES_SHOWN = 10
_POINTS = "SELECT DISTINCT key, step FROM metrics WHERE run_uuid = ?"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it."""

    run_id: str
    status: str
    deleted: bool
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Holdings:
    """What a run has in the store: points by (metric, step), data sets by (name, digest).

    `newest`: metric -> the value that the store shows as the newest. `models` are the ids of the
    models that are linked to it.
    """

    params: frozenset[str]
    tags: Mapping[str, str]
    points: frozenset[tuple[str, int]]
    newest: Mapping[str, float]
    datasets: frozenset[tuple[str, str]]
    models: tuple[str, ...] = ()


class MlflowStore(StoreClient):
    """One experiment of one tracking store.

    The constructor may raise ConfigError, every method StoreAwayError or RefusedError.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        experiment_id: str | None = None,
        *,
        reads_only: bool = False,
    ) -> None:
        """Keep the address; the store is opened at the first call.

        Args:
            uri: as `address.store_uri` returns it.
            experiment: its name.
            experiment_id: its id, which counts then.
            reads_only: nothing is written, and no lock is taken; a sqlite file may be read-only.
        """
        super().__init__(uri, reads_only=reads_only)
        self._experiment = experiment
        self._given_id = experiment_id
        self._former_places: dict[str, str] = {}
        self._places_of_files: dict[str, str] = {}
        self.experiment_id = ""

    @property
    def identity(self) -> str:
        """The name of the store and the experiment in `sent.json`, without a password."""
        experiment = f"id={self._given_id}" if self._given_id else self._experiment
        return f"{store_name(self.uri)}#{experiment}"

    def connect(self, locks: Path, *, adopted: str | None, makes_experiment: bool) -> None:
        """Open the store, and find or make the experiment.

        Args:
            locks: folder of the lock file for a store that is no file.
            adopted: id of a run that `mlflow run` made; its experiment is used then.
            makes_experiment: make one that is not there; otherwise it is a NoExperimentError.
        """
        with self.alone(locks):
            self._mend_places()
            # MLflow shows children below their parent only within one experiment, so that of an
            # adopted parent is used.
            self.experiment_id = (
                self.call(lambda client: client.get_run(adopted)).info.experiment_id
                if adopted
                else self._given_experiment(self._given_id)
                if self._given_id
                else self._named_experiment(makes=makes_experiment)
            )

    def probe(self, *, seconds: float) -> None:
        """Raise StoreAwayError unless the store answers within so many seconds."""
        with translated():
            probe(self.uri, seconds=seconds)

    def existing_experiments(self) -> list[str]:
        """Ids of the experiments to read: the named one, and the default one.

        A bare `mlflow run .` writes into the default one. Raises NoExperimentError if the named one
        is not there, unless its name is the setting's default and the default one has a run.
        """
        with translated():
            probe(self.uri)
        given = self._given_experiment(self._given_id) if self._given_id else None
        named = self.call(lambda client: client.get_experiment_by_name(self._experiment))
        chosen = self._experiment != RunSettings.model_fields["experiment"].default
        if (named or given) is None and (
            chosen
            or not self.call(
                lambda client: client.search_runs([DEFAULT_EXPERIMENT_ID], max_results=1)
            )
        ):
            self._named_experiment(makes=False)
        found = [DEFAULT_EXPERIMENT_ID, named.experiment_id if named else None, given]
        return [identifier for identifier in dict.fromkeys(found) if identifier is not None]

    def run(self, run_id: str) -> StoredRun:
        """The run of this id. Raises RefusedError if there is none."""
        return _stored(self.call(lambda client: client.get_run(run_id)))

    def find(self, tags: Mapping[str, str], *, status: str | None = None) -> list[StoredRun]:
        """Runs of the experiment with these tags (and status), oldest first; no deleted ones."""
        query = " and ".join(
            filter(None, (tag_filter(tags), f"attributes.status = '{status}'" if status else ""))
        )
        return [_stored(run) for run in self.search([self.experiment_id], query)]

    def search(self, experiment_ids: Sequence[str], query: str) -> Iterator[Run]:
        """All runs that the query finds, oldest first, read page by page."""
        token = None
        known: set[str] = set()
        while True:
            page = self.call(
                lambda client, token=token: client.search_runs(  # type: ignore[misc]
                    list(experiment_ids),
                    query,
                    max_results=_RUNS_PER_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            )
            yield from page
            token = page.token
            new = {run.info.run_id for run in page} - known
            known |= new
            if token and not new:
                raise StoreAwayError("it names a next page without end")
            if not token:
                return

    def create(self, *, tags: Mapping[str, str], started_ms: int) -> StoredRun:
        """A new run; `mlflow.runName` among the tags names it."""
        # A request whose answer was lost would make a second run if it were sent again.
        with without_retries():
            return _stored(
                self.call(
                    lambda client: client.create_run(
                        self.experiment_id,
                        start_time=started_ms,
                        tags=dict(tags),
                        run_name=tags.get("mlflow.runName"),
                    )
                )
            )

    def history(self, run_id: str) -> list[Entry]:
        """The params and points that a run holds already, without `system/`."""
        data = self.call(lambda client: client.get_run(run_id)).data
        points = [
            point
            for key in data.metrics
            if not key.startswith("system/")
            for point in self._metric(run_id, key)
        ]
        return [
            *(Entry("param", key, value) for key, value in data.params.items()),
            *(
                Entry("metric", point.key, point.value, point.step, point.timestamp)
                for point in points
                if math.isfinite(point.value)
            ),
        ]

    def holdings(self, run_id: str, steps: Mapping[str, Collection[int]]) -> Holdings:
        """What a run holds of these metrics and steps, and of all else but files.

        A database in a file is read by one query. For any other store, a metric with one step is
        there if its name is, and each metric with several is read by one call.
        """
        run = self.call(lambda client: client.get_run(run_id))
        path = sqlite_path(self.uri)
        if path is not None:
            with translated(), closing(read_only(path)) as database:
                points = database.execute(_POINTS, (run_id,)).fetchall()
        else:
            points = [
                (key, step)
                for key in steps.keys() & run.data.metrics.keys()
                for step in (
                    steps[key]
                    if len(steps[key]) == 1
                    else (point.step for point in self._metric(run_id, key))
                )
            ]
        inputs = run.inputs.dataset_inputs if run.inputs else []
        return Holdings(
            params=frozenset(run.data.params),
            tags=dict(run.data.tags),
            points=frozenset(points),
            newest=dict(run.data.metrics),
            datasets=frozenset((one.dataset.name, one.dataset.digest) for one in inputs),
            models=_models(run),
        )

    def model_ids(self, run_id: str) -> tuple[str, ...]:
        """Ids of the models that are linked to a run as what it made."""
        return _models(self.call(lambda client: client.get_run(run_id)))

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Entry],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Write values in as few calls as MLflow allows.

        A single value that the store refuses is left out with a warning.
        """
        from mlflow.entities import Metric, Param, RunTag

        points = [
            Metric(entry.key, float(entry.value), entry.timestamp_ms, entry.step)
            for entry in metrics
        ]
        texts = [Param(key, value) for key, value in params.items()]
        labels = [RunTag(key, value) for key, value in tags.items()]
        while points or texts or labels:
            self._log_batch(
                run_id, points[:_METRICS_PER_CALL], texts[:_TAGS_PER_CALL], labels[:_TAGS_PER_CALL]
            )
            points, texts, labels = (
                points[_METRICS_PER_CALL:],
                texts[_TAGS_PER_CALL:],
                labels[_TAGS_PER_CALL:],
            )

    def set_status(self, run_id: str, status: str, *, timestamp_ms: int) -> None:
        """Open a run again (RUNNING), or end it at this time."""
        if status == "RUNNING":
            self.call(lambda client: client.update_run(run_id, status=status))
        else:
            self.call(lambda client: client.set_terminated(run_id, status, timestamp_ms))

    def upload(self, run_id: str, name: str, path: Path) -> None:
        """Write a file under its name, in place of one that is there."""
        folder = str(PurePosixPath(name).parent)
        with translated_for_files():
            self.call(
                lambda client: client.log_artifact(
                    run_id, str(path), None if folder == "." else folder
                ),
                size_bytes=path.stat().st_size,
            )

    def files(self, run_id: str, folder: str) -> dict[str, int]:
        """Path -> bytes of what is in a folder of a run ("" is the top); a folder in it has 0."""
        try:
            with translated_for_files():
                listed = self.call(
                    lambda client: client.list_artifacts(run_id, folder or None), size_bytes=0
                )
        except RefusedError as error:
            self.run(run_id)  # refused too if it is the run that is not there
            raise StoreAwayError(str(error)) from error
        return {one.path: one.file_size or 0 for one in listed}

    def local_folder(self, run_id: str) -> Path | None:
        """Where the store keeps a run's files; None if that is not on this machine."""
        return local_path(self.call(lambda client: client.get_run(run_id)).info.artifact_uri)

    def download(self, run_id: str, name: str, folder: Path, *, size_bytes: int) -> Path:
        """Copy a file of a run, of this size, into a folder.

        MLflow refuses a path that leads out of the run's own.
        """
        with translated_for_files():
            return Path(
                self.call(
                    lambda client: client.download_artifacts(run_id, name, str(folder)),
                    size_bytes=size_bytes,
                )
            )

    def places_to_look(self, run_id: str) -> tuple[Path, ...]:
        """The local folders in which a run's files may be, the likeliest first; else none."""
        info = self.call(lambda client: client.get_run(run_id)).info
        self._places_of_files[run_id] = info.artifact_uri.partition(f"/{run_id}")[0]
        experiment = info.experiment_id
        if experiment not in self._former_places:
            tags = self.call(lambda client: client.get_experiment(experiment)).tags
            self._former_places[experiment] = tags.get(FORMER, "")
        return places_to_look(
            sqlite_path(self.uri), info.artifact_uri, self._former_places[experiment]
        )

    def place_of_files(self, run_id: str) -> str:
        """The address under which the files of a run and its like are, as `places_to_look` saw."""
        return self._places_of_files[run_id]

    def add_dataset(self, run_id: str, dataset: Mapping[str, str], *, context: str) -> None:
        """Note a data set that a run read; the same name and digest are noted once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        noted = DatasetInput(Dataset(**dataset), tags=[InputTag("mlflow.data.context", context)])
        self.call(lambda client: client.log_inputs(run_id, datasets=[noted]))

    def watch_machine(self, run_id: str) -> Callable[[], None]:
        """Start the thread that logs `system/` metrics; returns the function that ends it.

        Its steps go on after those that the run has already, so that a resumed run has none twice.
        """
        from mlflow.system_metrics import system_metrics_monitor

        make_monitor: Any = system_metrics_monitor.SystemMetricsMonitor
        monitor = self.call(
            lambda client: make_monitor(
                run_id, resume_logging=True, tracking_uri=client.tracking_uri
            )
        )
        monitor.start()

        def stop() -> None:
            with suppress(StoreAwayError):
                self.call(lambda _: monitor.finish())

        return stop

    def _metric(self, run_id: str, key: str) -> list[Metric]:
        return self.call(lambda client: client.get_metric_history(run_id, key))

    def _mend_places(self) -> None:
        """Keep the files of a sqlite store beside it, also after it was moved or copied."""
        path = sqlite_path(self.uri)
        if path is not None:
            self.client.search_experiments(max_results=1)  # MLflow refuses what is no store of its
            for before in mend_places(path):
                _LOG.warning(
                    "%s was moved or copied: new files go beside it, not to %s", path, before
                )

    def _log_batch(
        self, run_id: str, points: list[Any], params: list[Any], tags: list[Any]
    ) -> None:
        try:
            self.call(
                lambda client: client.log_batch(run_id, metrics=points, params=params, tags=tags)
            )
        except NotAuthorisedError:
            raise
        except RefusedError as error:
            if self.run(run_id).deleted:
                raise
            if len(points) + len(params) + len(tags) > 1:
                for single in (
                    *(([point], [], []) for point in points),
                    *(([], [param], []) for param in params),
                    *(([], [], [tag]) for tag in tags),
                ):
                    self._log_batch(run_id, *single)
            else:
                _LOG.warning(
                    "the tracking store refuses %s: %s", (points + params + tags)[0].key, error
                )

    def _given_experiment(self, identifier: str) -> str:
        try:
            found = self.call(lambda client: client.get_experiment(identifier))
            active = found.lifecycle_stage == "active"
        except NotAuthorisedError:
            raise
        except RefusedError:
            active = False
        if not active:
            raise TrackingError(
                f"there is no experiment with id {identifier!r:.50} in {shown(self.uri)}",
                cure="unset MLFLOW_EXPERIMENT_ID, or give it the id of one that is there",
            )
        return identifier

    def _named_experiment(self, *, makes: bool) -> str:
        experiment = self.call(lambda client: client.get_experiment_by_name(self._experiment))
        if experiment is None and not makes:
            there = [
                one.name for one in self.call(lambda client: list(client.search_experiments()))
            ]
            names = ", ".join(f"{name:.40}" for name in there[:_NAMES_SHOWN])
            raise NoExperimentError(
                f"there is no experiment {self._experiment!r:.80} in {shown(self.uri)}",
                cure=nearest(self._experiment, there)
                + f"of those that are there, some are: {names or 'none'}",
            )
        if experiment is None:
            try:
                return self.call(
                    lambda client: client.create_experiment(
                        self._experiment, artifact_folder(self.uri, self._experiment)
                    )
                )
            except RefusedError:
                # Another process, which does not share the lock, may have made it meanwhile.
                experiment = self.call(
                    lambda client: client.get_experiment_by_name(self._experiment)
                )
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment {self._experiment!r} is deleted in {shown(self.uri)}",
                cure="restore it in MLflow, or choose another name",
            )
        return experiment.experiment_id


def _models(run: Run) -> tuple[str, ...]:
    return tuple(one.model_id for one in run.outputs.model_outputs) if run.outputs else ()


def _stored(run: Run) -> StoredRun:
    return StoredRun(
        run.info.run_id, run.info.status, run.info.lifecycle_stage != "active", dict(run.data.tags)
    )


def tag_filter(tags: Mapping[str, str]) -> str:
    """MLflow's query for runs that have all these tags.

    Raises TrackingError for a value with both kinds of quotes.
    """
    for key, value in tags.items():
        if "'" in value and '"' in value:
            raise TrackingError(
                f"tag {key} = {value} cannot be searched for", cure="use one kind of quotes"
            )
    return " and ".join(
        f"tags.`{key}` = " + (f'"{value}"' if "'" in value else f"'{value}'")
        for key, value in tags.items()
    )
