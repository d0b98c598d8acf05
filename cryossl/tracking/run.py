"""One run as its writer sees it: everything goes into the journal, then to the tracking store.

A number that was computed by `evaluation.scores` comes here from `selftraining.records.recorder`
through `TrackedRun.metrics`, under the name that MLflow shows. The rest of its way is in `replay`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cryossl.errors import StorageError, TrackingError
from cryossl.system.files import file_sha256
from cryossl.system.process import process_tags
from cryossl.tracking.journal import Entry, Journal

Status = Literal["FINISHED", "FAILED", "KILLED"]
MODEL_PACKAGE = "model/package.zip"
"""What MLflow needs to load a run's model, but for its file; kept beside the run's files."""

_MODEL_TAGS = frozenset(
    f"cryossl.{name}"
    for name in (
        "strategy",
        "iteration",
        "ratio_percent",
        "seed",
        "dataset",
        "data_digest",
        "code_digest",
        "experiment_fingerprint",
    )
)
_THUMBNAIL_PX = 256  # what MLflow's own log_image makes
_NOTE_LETTERS = 8000  # MLflow's limit for the value of a tag
_SIGNAL_EXITS = frozenset({130, 143})  # 128 + SIGINT, 128 + SIGTERM


class TrackedRun:
    """A run that is being written.

    Leaving its `with` block ends it: FINISHED, FAILED, or KILLED for an interruption.

    Nothing here fails or waits for long when the store is unreachable. Every method raises
    StorageError if the journal itself cannot be written.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        key: str,
        store: str,
        push: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self.key = key
        self._journal = journal
        self._store = store
        self._push = push
        self._ended = ended

    @property
    def run_id(self) -> str | None:
        """The id in the tracking store; None while the store has not been reached."""
        sent = self._journal.sent(self._store)
        return sent.run_id if sent else None

    @property
    def finished(self) -> bool:
        """True if the run ended well and nothing has been recorded since."""
        status = self._journal.newest("status", "status")
        return status is not None and status.value == "FINISHED"

    def params(self, values: Mapping[str, object]) -> None:
        """Settings. A param that the run has already keeps its first value, as MLflow demands."""
        self._record(Entry("param", _name(key), _text(value)) for key, value in values.items())

    def metrics(self, values: Mapping[str, float | None], *, step: int) -> None:
        """One point per metric at this step, all in one call. None, NaN and infinity are not sent.

        A (metric, step) that the run has keeps its first value and time. Letters that MLflow
        refuses in names become _.
        """
        self._record(
            Entry("metric", _name(key), float(value), step)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        )

    def results(self, values: Mapping[str, float | None]) -> None:
        """Final values, one point per metric; as `metrics`, but a metric that has one keeps it.

        They are recorded at step 0: MLflow draws a bar for a metric whose last step is 0, and a
        curve of a single point for any other one.
        """
        there = {entry.key for entry in self._journal.entries if entry.kind == "metric"}
        self.metrics({key: one for key, one in values.items() if _name(key) not in there}, step=0)

    def tags(self, values: Mapping[str, object]) -> None:
        """Facts that may change; the newest holds. A finished run stays finished."""
        if self._journal.append(
            Entry("tag", _name(key), _text(value)) for key, value in values.items()
        ):
            self._push()

    def describe(self, markdown: str) -> None:
        """The text at the top of the run's page, in Markdown; cut off after 8,000 letters."""
        whole = markdown if len(markdown) <= _NOTE_LETTERS else f"{markdown[: _NOTE_LETTERS - 2]} …"
        self.tags({"mlflow.note.content": whole})

    def text(self, text: str, name: str) -> None:
        """A text file, in place of an older one of this name."""
        self._artifact(name, text.encode())

    def binary(self, content: bytes, name: str) -> None:
        """A file of these bytes, in place of an older one of this name."""
        self._artifact(name, content)

    def json(self, value: Any, name: str) -> None:
        """A JSON file, in place of an older one of this name.

        Raises ValueError for NaN and infinity.
        """
        self.text(json.dumps(value, indent=2, allow_nan=False) + "\n", name)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """A table that the UI shows, in place of an older one. NaN and infinity become blank.

        Raises TrackingError unless `name` ends in .json.
        """
        if not name.endswith(".json"):
            raise TrackingError(f"table {name}: the name must end in .json")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        blank = [[_cell(row.get(column)) for column in columns] for row in rows]
        self.text(json.dumps({"columns": columns, "data": blank}, allow_nan=False), name)
        old = self._journal.newest("tag", "mlflow.loggedArtifacts")
        tables = json.loads(str(old.value)) if old else []
        if {"path": name, "type": "table"} not in tables:
            self.tags(
                {"mlflow.loggedArtifacts": json.dumps([*tables, {"path": name, "type": "table"}])}
            )

    def image(self, picture: UInt8[np.ndarray, "height width 3"], *, key: str, step: int) -> None:
        """A picture for the UI's image grid: one per (key, step), the newest holds.

        The file names are those of MLflow's log_image, whose random part and time are made from
        run, key and step here, so that a resumed run writes the same files again instead of a
        second set.
        """
        shown = _name(key).replace("/", "~")
        born = self._journal.newest("start", "start")
        started_ms = born.timestamp_ms if born else 0
        unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.key}/{shown}/{step}")
        stem = f"images/{shown}+step+{step}+timestamp+{started_ms}+{unique}"
        whole = Image.fromarray(picture)
        ratio = _THUMBNAIL_PX / max(whole.size)
        small = whole.resize((max(1, int(whole.width * ratio)), max(1, int(whole.height * ratio))))
        self._artifact(f"{stem}.png", _encoded(whole, "PNG"), push=False)
        self._artifact(f"{stem}+compressed.webp", _encoded(small, "WEBP"), push=False)
        self.tags({"mlflow.loggedImages": "True"})
        self._push()

    def file(self, path: Path, *, folder: str = "") -> None:
        """A file under its own name in a folder of the artifacts, in place of an older one."""
        self._artifact(f"{folder}/{path.name}" if folder else path.name, path)

    def dataset(
        self,
        rows: Iterable[Mapping[str, object]],
        *,
        name: str,
        digest: str,
        context: str,
        listed: bool = True,
    ) -> None:
        """A data set that the run read: a small table (written to datasets/), not the pixels.

        Args:
            rows: e.g. a row per micrograph, with its id.
            name: shown in the UI.
            digest: of the content; MLflow keeps 36 letters.
            context: its use, e.g. `training`.
            listed: write the table as a file of this run; another run may have it.
        """
        table = [dict(row) for row in rows]
        file = f"datasets/{_slug(name)}.json"
        columns = [
            {"type": "string", "name": column, "required": True}
            for column in dict.fromkeys(key for row in table for key in row)
        ]
        record = {
            "name": name,
            "digest": digest[:36],
            "source_type": "local",
            "source": json.dumps({"uri": file}),
            "schema": json.dumps({"mlflow_colspec": columns}),
            "profile": json.dumps({"num_rows": len(table)}),
        }
        if listed:
            self.table(table, file)
        self._record([Entry("dataset", f"{context}/{name}/{record['digest']}", json.dumps(record))])

    def model(
        self,
        name: str,
        file: str,
        package: Callable[[], bytes],
        *,
        facts: Mapping[str, object],
        dataset: tuple[str, str],
        step: int,
    ) -> None:
        """The model that this run made, as MLflow loads and serves it; the first one stays.

        Args:
            name: shown in the UI.
            file: the run's file that holds it.
            package: gives what `tracking.store.model_folder` packs.
            facts: its params; the run's own tags are its tags.
            dataset: name and digest of the data that its scores are of.
            step: at which it was made.
        """
        if self._journal.newest("model", "model") is not None:
            return
        try:
            content = package()
        except OSError as error:
            raise StorageError(
                f"the model cannot be packed: {error}", cure="free space in the temporary folder"
            ) from None
        self._journal.keep_file(MODEL_PACKAGE, content)
        tags = {
            entry.key: entry.value
            for entry in self._journal.entries
            if entry.kind == "tag" and entry.key in _MODEL_TAGS
        }
        used = {"name": dataset[0], "digest": dataset[1][:36]}
        record = {
            "name": _slug(name).replace(".", "_"),
            "weights": file,
            "tags": {**tags, "cryossl.fingerprint": self.key},
            "params": {key: _text(value) for key, value in facts.items()},
            "dataset": used,
            "step": step,
        }
        source = {"source_type": "local", "source": json.dumps({"uri": dataset[0]})}
        self._record(
            [
                Entry(
                    "dataset", f"evaluation/{'/'.join(used.values())}", json.dumps(used | source)
                ),
                Entry("model", "model", json.dumps(record)),
            ]
        )

    def register(self, name: str, *, score: float, scored_on: str) -> None:
        """Make the run's model the next version of a registered name, once.

        Args:
            name: of the registered model.
            score: decides whether the alias `best` moves to it: only from a lower one.
            scored_on: digest of what the score is of; others are not compared with it.
        """
        record = {"score": score, "scored_on": scored_on}
        self._record([Entry("version", name, json.dumps(record))])

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run, unless it has finished before and recorded nothing since."""
        if not self.finished:
            self._journal.append([Entry("status", "status", status)])
        self._ended()

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.finish(_status_after(error))

    def _artifact(self, name: str, content: bytes | Path, *, push: bool = True) -> None:
        _check_path(name)
        digest = (
            hashlib.sha256(content).hexdigest()
            if isinstance(content, bytes)
            else _file_digest(content)
        )
        old = self._journal.newest("artifact", name)
        if old is None or old.value != digest:
            self._journal.keep_file(name, content)
            self._record([Entry("artifact", name, digest)], push=push)

    def _record(self, entries: Iterable[Entry], *, push: bool = True) -> None:
        """Write down what is new; a run that had ended is running again if there was something."""
        if self._journal.append(entries):
            status = self._journal.newest("status", "status")
            if status is not None and status.value != "RUNNING":
                self.mark_running()
        if push:
            self._push()

    def mark_running(self) -> None:
        """Note that this process writes the run now."""
        self._journal.append(
            [
                Entry("status", "status", "RUNNING"),
                *(Entry("tag", key, value) for key, value in process_tags().items()),
            ]
        )


def _status_after(error: BaseException | None) -> Status:
    """The status of a run that was left by this exception.

    A signal comes as an exception that is no Exception, or as an exit code of 128 + its number.
    """
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    if isinstance(error, Exception) or (
        isinstance(error, SystemExit) and error.code not in _SIGNAL_EXITS
    ):
        return "FAILED"
    return "KILLED"


def _name(key: str) -> str:
    """The key with the letters that MLflow takes; / makes sections in the UI."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", key)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _check_path(name: str) -> None:
    path = PurePosixPath(name)
    if (
        not name
        or path.is_absolute()
        or ".." in path.parts
        or str(path) != name
        or re.search(r"[\"',:\[\]{}\\]", name)
    ):
        raise TrackingError(
            f"{name!r} cannot name an artifact", cure="use a relative path of plain letters"
        )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return "" if value is None else str(value)


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encoded(picture: Image.Image, file_format: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=file_format)
    return stream.getvalue()


def _file_digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise TrackingError(f"cannot read {path}: {error.strerror}") from None
