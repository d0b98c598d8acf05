"""The models of one tracking store: logged beside a run, and named in its registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryossl.tracking.journal import Entry
from cryossl.tracking.store.mlflow_environment import without_retries
from cryossl.tracking.store.mlflow_errors import (
    NotAuthorisedError,
    RefusedError,
    translated_for_files,
)
from cryossl.tracking.store.mlflow_store import FINGERPRINT, MlflowStore

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

BEST = "best"
"""Alias of the version with the highest score."""
MODEL_ID, SCORE, SCORED_ON = "cryossl.model_id", "cryossl.score", "cryossl.scored_on"
"""Tags of a version: its logged model, its score on validation, and a digest of what that is of."""
_METRICS_PER_CALL = 400
_PER_PAGE = 100


@dataclass(frozen=True)
class StoredModel:
    """A logged model as the store has it; `location` is the address of its files."""

    model_id: str
    location: str
    ready: bool


class Models:
    """The logged models of an experiment. Methods raise StoreAwayError or RefusedError."""

    def __init__(self, store: MlflowStore) -> None:
        self._store = store

    def found(self, run_id: str, key: str) -> StoredModel | None:
        """The model of a run with this fingerprint; none that a user has deleted."""
        found = self._store.call(
            lambda client: client.search_logged_models(
                [self._store.experiment_id],
                f"source_run_id = '{run_id}'",
                max_results=_PER_PAGE,
            )
        )
        models = [_stored(model) for model in found if model.tags.get(FINGERPRINT) == key]
        return models[0] if models else None

    def create(
        self, run_id: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, str]
    ) -> StoredModel:
        """A new model, which has no files yet; FINGERPRINT among the tags finds it again."""
        # As for a run: a request whose answer was lost would make a second one.
        with without_retries():
            return _stored(
                self._store.call(
                    lambda client: client.create_logged_model(
                        self._store.experiment_id,
                        name=name,
                        source_run_id=run_id,
                        tags=dict(tags),
                        params=dict(params),
                    )
                )
            )

    def upload(self, model: StoredModel, folder: Path) -> None:
        """Write the files of a folder, in place of those that are there."""
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        with translated_for_files():
            self._store.call(
                lambda client: client.log_model_artifacts(model.model_id, str(folder)),
                size_bytes=size_bytes,
            )

    def exists(self, model_id: str) -> bool:
        """Whether there is a model of this id that nobody has deleted."""
        try:
            self._store.call(lambda client: client.get_logged_model(model_id))
        except NotAuthorisedError:
            raise
        except RefusedError:
            return False
        return True

    def files(self, model_id: str) -> dict[str, int]:
        """Path -> bytes of the artifacts of a model."""
        with translated_for_files():
            listed = self._store.call(
                lambda client: client.list_logged_model_artifacts(model_id, "artifacts"),
                size_bytes=0,
            )
        return {one.path: one.file_size or 0 for one in listed}

    def finish(
        self,
        run_id: str,
        model: StoredModel,
        *,
        metrics: Sequence[Entry],
        dataset: tuple[str, str],
        step: int,
    ) -> None:
        """Mark a model whose files are there as ready, and link it to its run and its scores.

        Args:
            run_id: the run that made it.
            model: the model.
            metrics: its scores, as the run has them.
            dataset: name and digest of the data that they are of.
            step: of the run, at which it was made.
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

        if not model.ready:
            self._store.call(
                lambda client: client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            )
        points = [
            Metric(
                entry.key,
                float(entry.value),
                entry.timestamp_ms,
                entry.step,
                model_id=model.model_id,
                dataset_name=dataset[0],
                dataset_digest=dataset[1],
            )
            for entry in metrics
        ]
        for start in range(0, len(points), _METRICS_PER_CALL):
            part = points[start : start + _METRICS_PER_CALL]
            self._store.call(lambda client, part=part: client.log_batch(run_id, metrics=part))  # type: ignore[misc]
        # Last, because it says that all is there; twice would be two links.
        if model.model_id not in self._store.model_ids(run_id):
            output = LoggedModelOutput(model.model_id, step=step)
            self._store.call(lambda client: client.log_outputs(run_id, [output]))

    def register(
        self,
        run_id: str,
        model: StoredModel,
        name: str,
        *,
        score: float,
        scored_on: str,
        tags: Mapping[str, str],
        description: str,
    ) -> str:
        """Make a model a version of a name, unless it is one; returns what was done, in words.

        `description` is Markdown: the page of a version shows neither its scores nor its data.

        The alias `best` moves to it only if its score is higher than that of the version that has
        the alias, and both are of the same data.
        """
        try:
            self._store.call(lambda client: client.create_registered_model(name))
        except RefusedError:  # it is there; if it is something else that was refused, this raises
            self._store.call(lambda client: client.get_registered_model(name))
        version = self._version_of(model, name)
        if version is None:
            known = {**tags, MODEL_ID: model.model_id, SCORE: repr(score), SCORED_ON: scored_on}
            with without_retries():
                version = self._store.call(
                    lambda client: client.create_model_version(
                        name,
                        # Not models:/ID, which MLflow would look for in its global store.
                        model.location,
                        run_id=run_id,
                        tags=known,
                        description=description,
                        await_creation_for=0,
                        model_id=model.model_id,
                    )
                )
        number = str(version.version)
        before, why = self._stays(name, number, score, scored_on)
        if before is None:
            self._store.call(lambda client: client.set_registered_model_alias(name, BEST, number))
            return f"registered as {name} version {number}, alias {BEST}{why}"
        return f"registered as {name} version {number}; alias {BEST} stays at {before}{why}"

    def _version_of(self, model: StoredModel, name: str) -> ModelVersion | None:
        token = None
        while True:
            page = self._store.call(
                lambda client, token=token: client.search_model_versions(  # type: ignore[misc]
                    f"name = '{name}'", max_results=_PER_PAGE, page_token=token
                )
            )
            for version in page:
                if version.tags.get(MODEL_ID) == model.model_id:
                    found: ModelVersion = version
                    return found
            if not page or page.token in (None, "", token):
                return None
            token = page.token

    def _stays(
        self, name: str, number: str, score: float, scored_on: str
    ) -> tuple[str | None, str]:
        """The version at which the alias stays, or None, and the reason in words."""
        registered: Any = self._store.call(lambda client: client.get_registered_model(name))
        holder = registered.aliases.get(BEST)
        if holder is None or str(holder) == number:
            return None, ""
        try:
            tags = self._store.call(lambda client: client.get_model_version(name, holder)).tags
        except RefusedError:  # the version was deleted
            return None, ""
        before = _number(tags.get(SCORE))
        if before is None or tags.get(SCORED_ON) != scored_on:
            return str(holder), ", whose score is not of the same validation data"
        if score <= before:
            return str(holder), f", whose score is {before:.4f}, not below {score:.4f}"
        return None, f", which version {holder} had with {before:.4f}, now {score:.4f}"

    def location_of(self, address: str) -> str:
        """Where the files of `models:/NAME/3`, `models:/NAME@best` or `models:/m-ID` are.

        Raises RefusedError if there is no such model.
        """
        rest = address.removeprefix("models:/")
        name, _, version = rest.partition("/")
        if version:
            return self._place(name, version)
        name, _, alias = rest.partition("@")
        if alias:
            found = self._store.call(lambda client: client.get_model_version_by_alias(name, alias))
            return self._place(name, str(found.version))
        return str(self._store.call(lambda client: client.get_logged_model(rest)).artifact_location)

    def _place(self, name: str, version: str) -> str:
        return str(
            self._store.call(lambda client: client.get_model_version_download_uri(name, version))
        )

    def download(self, location: str, name: str, folder: Path) -> Path:
        """Copy a file of a model into a folder."""
        from mlflow.artifacts import download_artifacts

        with translated_for_files():
            return Path(
                self._store.call(
                    lambda _: download_artifacts(
                        artifact_uri=f"{location.rstrip('/')}/{name}",
                        dst_path=str(folder),
                        tracking_uri=self._store.uri,
                    ),
                    size_bytes=2**30,
                )
            )


def _number(text: str | None) -> float | None:
    """A score as a version has it; a user may have changed it."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _stored(model: LoggedModel) -> StoredModel:
    return StoredModel(
        model.model_id, model.artifact_location, str(model.status).rpartition(".")[2] == "READY"
    )
