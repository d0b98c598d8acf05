"""Bring a store up to the models of a journal: each once, whole, linked to its run and scores."""

from __future__ import annotations

import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryossl.tracking.holdings import Line
from cryossl.tracking.journal import Entry, Journal
from cryossl.tracking.run import MODEL_PACKAGE
from cryossl.tracking.store.mlflow_errors import NotAuthorisedError, RefusedError, StoreAwayError
from cryossl.tracking.store.mlflow_store import FINGERPRINT, MlflowStore
from cryossl.tracking.store.model_folder import WEIGHTS, complete
from cryossl.tracking.store.models import Models, StoredModel

_LINKED = ("validation/", "test/")
"""Metrics that are scores of the model itself."""
_LOG = logging.getLogger(__name__)


class ModelReplay:
    """Sends the models of journals to one store. Methods raise StoreAwayError or RefusedError."""

    def __init__(
        self, store: MlflowStore, with_files: Callable[[str, Callable[[], None]], bool]
    ) -> None:
        """Connect with the store.

        Args:
            store: it.
            with_files: calls an action on the store's files; whether it succeeded.
        """
        self._store, self._models, self._with_files = store, Models(store), with_files
        self.registered: dict[tuple[str, str], str] = {}

    def send(
        self, run_id: str, journal: Journal, lines: Sequence[Line], *, tried: Callable[[int], bool]
    ) -> tuple[int, ...]:
        """Send what `lines` hold of models; returns the ends of those that the store did not take.

        What the store refuses for good is left out with a warning, as a single value is. `tried`:
        whether the files of the line with this end have been tried in vain.
        """
        owed: list[int] = []
        for end, entry in lines:
            if entry.kind not in ("model", "version"):
                continue
            try:
                taken = (
                    self._send_model(run_id, journal, entry, tried=tried(end))
                    if entry.kind == "model"
                    else self._register(run_id, journal, entry, waits=bool(owed))
                )
            except NotAuthorisedError:
                raise
            except RefusedError as error:
                if self._store.run(run_id).deleted:
                    raise
                _LOG.warning("the tracking store refuses the %s: %s", entry.kind, error)
                taken = True
            if not taken:
                owed.append(end)
        return tuple(owed)

    def lost(self, journal: Journal, lines: Sequence[Line], model_ids: Sequence[str]) -> list[int]:
        """The ends of the lines of models that are there without their weights.

        A model that a user has deleted stays deleted.
        """
        return [
            end
            for end, entry in lines
            if entry.kind == "model"
            and any(
                self._is_incomplete(model_id, journal.artifact(_record(entry)["weights"]))
                for model_id in model_ids
            )
        ]

    def _is_incomplete(self, model_id: str, weights: Path) -> bool:
        if not weights.is_file() or not self._models.exists(model_id):
            return False
        sizes: dict[str, int] = {}
        listed = self._with_files("the model", lambda: sizes.update(self._models.files(model_id)))
        return listed and sizes.get(WEIGHTS) != weights.stat().st_size

    def _send_model(self, run_id: str, journal: Journal, entry: Entry, *, tried: bool) -> bool:
        record = _record(entry)
        package, weights = journal.artifact(MODEL_PACKAGE), journal.artifact(record["weights"])
        for path in (package, weights):
            if not path.is_file():
                _LOG.warning("%s is missing and cannot be sent to the tracking store", path)
                return True
        model = self._models.found(run_id, record["tags"][FINGERPRINT]) or self._models.create(
            run_id, record["name"], tags=record["tags"], params=record["params"]
        )
        if tried or not self._with_files(
            "the model", lambda: self._upload(run_id, model, package, weights)
        ):
            return False
        self._models.finish(
            run_id,
            model,
            metrics=[
                one
                for one in journal.entries
                if one.kind == "metric" and one.key.startswith(_LINKED)
            ],
            dataset=(record["dataset"]["name"], record["dataset"]["digest"]),
            step=record["step"],
        )
        return True

    def _upload(self, run_id: str, model: StoredModel, package: Path, weights: Path) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="cryossl-") as folder:
                complete(
                    package,
                    weights,
                    Path(folder),
                    model_id=model.model_id,
                    run_id=run_id,
                    location=model.location,
                )
                self._models.upload(model, Path(folder))
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreAwayError(f"{package}: {error}") from None

    def _register(self, run_id: str, journal: Journal, entry: Entry, *, waits: bool) -> bool:
        """Register the run's model; False while it `waits` to be sent."""
        logged = journal.newest("model", "model")
        model = logged and self._models.found(run_id, _record(logged)["tags"][FINGERPRINT])
        if logged is None or not model or not model.ready:
            if not waits:
                _LOG.warning("%s gets no version: its model is no longer there", entry.key)
            return not waits
        record = _record(entry)
        self.registered[run_id, entry.key] = self._models.register(
            run_id,
            model,
            entry.key,
            score=record["score"],
            scored_on=record["scored_on"],
            tags=_record(logged)["tags"],
            description=_description(_record(logged), journal),
        )
        return True


_SCORES = {
    "particle_f1": "particle F1",
    "f1": "pixel F1",
    "particle_f1_views8": "particle F1 by eight views",
    "f1_views8": "pixel F1 by eight views",
}


def _description(logged: Mapping[str, Any], journal: Journal) -> str:
    """What a version is and what it scored, in Markdown."""
    tags, data = logged["tags"], logged["dataset"]
    words = {
        "cryossl.strategy": "**{}**",
        "cryossl.iteration": "iteration {}",
        "cryossl.ratio_percent": "{}% labelled",
        "cryossl.seed": "seed {}",
    }
    facts = [text.format(tags[name]) for name, text in words.items() if name in tags]
    facts.append(f"data set {data['name']} (digest {data['digest']})")
    scores = {one.key: one.value for one in journal.entries if one.kind == "metric"}
    rows = [
        f"| {title} | {_percent(scores.get(f'validation/{key}'))} "
        f"| {_percent(scores.get(f'test/{key}'))} |\n"
        for key, title in _SCORES.items()
        if not key.endswith("_views8") or f"test/{key}" in scores
    ]
    return f"{', '.join(facts)}\n\n| % | validation | test |\n|---|---|---|\n{''.join(rows)}"


def _percent(value: object) -> str:
    return f"{100 * value:.2f}" if isinstance(value, float) else "-"


def _record(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(str(entry.value))
    return fields
