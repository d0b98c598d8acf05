"""Read tracked runs back: their numbers as a table, their JSON files and their pictures."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from PIL import Image

from cryossl.errors import DataError, TrackingError
from cryossl.redaction import shown
from cryossl.system.user_files import read_json
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.mlflow_errors import RefusedError, StoreAwayError
from cryossl.tracking.mlflow_store import FINGERPRINT, PARENT, MlflowStore, tag_filter

MAX_JSON_BYTES = 32 * 2**20
MAX_PICTURE_BYTES = 16 * 2**20
MAX_PICTURE_PIXELS = 16_000_000
_AT_ONCE = 8
_BASE_COLUMNS = ("run_id", "parent_id", "status", "start_time")
_PICTURE = re.compile(
    r"images/(?P<key>[A-Za-z0-9_.~ -]+?)\+step\+(?P<step>\d+)\+timestamp\+\d+\+[0-9a-f-]+\.png"
)


def read_runs(uri: str, experiment: str, *, kind: str, tags: Mapping[str, str]) -> pd.DataFrame:
    """The runs of this kind that have all these tags, oldest first.

    It is one filtered search, because the time of a search grows with the runs that it returns. The
    default experiment, to which a bare `mlflow run .` writes, is read too. Of runs with the same
    fingerprint (the same work tracked in both) the newest finished one is kept.

    Args:
        uri: the configured store.
        experiment: its configured name.
        kind: experiment, arm or iteration.
        tags: name -> value.

    Returns:
        run_id, parent_id, status, start_time (UTC), then tags, params and metrics, each under its
        own name. Metrics have their last value. Before the tags: experiment_id, and of each data
        set that a run noted, `dataset <name>` with its digest. No rows if the store or the
        experiment is not there yet.

    Raises:
        TrackingError: the store cannot be read.
    """
    where = store_uri(uri)
    path = sqlite_path(where)
    if path is not None and not path.exists():
        return pd.DataFrame(columns=list(_BASE_COLUMNS))
    try:
        store = MlflowStore(where, *experiment_choice(experiment))
        query = tag_filter({"cryossl.kind": kind, **tags})
        found = [_row(run) for run in store.search(store.existing_experiments(), query)]
    except (StoreAwayError, RefusedError) as error:
        raise TrackingError(
            f"tracking store {shown(where)} cannot be read ({error})", cure=error.cure
        ) from None
    best_last = sorted(found, key=lambda row: bool(row["status"] == "FINISHED"))
    kept = {row.get(FINGERPRINT, row["run_id"]): row["run_id"] for row in best_last}
    rows = [row for row in found if kept[row.get(FINGERPRINT, row["run_id"])] == row["run_id"]]
    names = dict.fromkeys([*_BASE_COLUMNS, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(names))


class Artifacts:
    """The files of the runs of one store.

    A file that a run has not got, or that cannot be read, is None or left out.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        # It would be drawn for each file, on the terminal.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._store = MlflowStore(store_uri(uri), *experiment_choice(experiment))

    def json(self, run_ids: Sequence[str], name: str) -> dict[str, Any]:
        """Run id -> the JSON document of this name; None where there is none, or a broken one.

        It is looked for at the top of the run's files.

        Raises TrackingError if the store does not answer.
        """
        wanted = list(dict.fromkeys(run_ids))
        if not wanted:
            return {}
        with (
            tempfile.TemporaryDirectory(prefix="cryossl-") as folder,
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            # The first one alone: it opens the store, which threads must not do together.
            first = self._json(wanted[0], name, Path(folder))
            rest = pool.map(lambda run_id: self._json(run_id, name, Path(folder)), wanted[1:])
            return dict(zip(wanted, [first, *rest], strict=True))

    def pictures(self, run_id: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Key -> the picture that the run logged under it at its last step, encoded as JPEG.

        Raises TrackingError if the store does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="cryossl-") as folder, self._reading():
            found = {}
            for key, name in _newest(self._files(run_id, "images"), keys).items():
                path = self._fetched(run_id, name, Path(folder), size_bytes=MAX_PICTURE_BYTES)
                picture = _jpeg(path) if path is not None else None
                if picture is not None:
                    found[key] = picture
            return found

    def _json(self, run_id: str, name: str, folder: Path) -> Any:
        with self._reading():
            size_bytes = self._files(run_id, "").get(name, 0)
            if not 0 < size_bytes <= MAX_JSON_BYTES:
                return None
            path = self._fetched(run_id, name, folder, size_bytes=size_bytes)
        try:
            return read_json(path, max_bytes=MAX_JSON_BYTES) if path is not None else None
        except DataError:
            return None

    def _files(self, run_id: str, folder: str) -> Mapping[str, int]:
        """The files of a folder; none for a run that is gone."""
        try:
            return self._store.files(run_id, folder)
        except RefusedError:
            return {}

    def _fetched(self, run_id: str, name: str, folder: Path, *, size_bytes: int) -> Path | None:
        """A local copy, in a folder of its own."""
        own = folder / f"{len(PurePosixPath(name).parts)}-{PurePosixPath(run_id).name}"
        own.mkdir(exist_ok=True)
        try:
            path = self._store.download(run_id, name, own, size_bytes=size_bytes)
        except RefusedError:
            return None
        return path if path.is_file() and path.resolve().is_relative_to(own.resolve()) else None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreAwayError as error:
            raise TrackingError(
                f"files of the tracking store {shown(self._store.uri)} cannot be read ({error})",
                cure="start the server, or check the folder of the artifacts",
            ) from None


def _row(run: Any) -> dict[str, Any]:
    datasets = [entry.dataset for entry in run.inputs.dataset_inputs] if run.inputs else []
    return {
        "run_id": run.info.run_id,
        "parent_id": run.data.tags.get(PARENT),
        "status": run.info.status,
        "start_time": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
        "experiment_id": run.info.experiment_id,
        **{f"dataset {one.name}": one.digest for one in datasets},
        **run.data.tags,
        **run.data.params,
        **run.data.metrics,
    }


def _newest(files: Mapping[str, int], keys: Sequence[str]) -> dict[str, str]:
    """Key -> its file of the highest step."""
    found: dict[str, tuple[int, str]] = {}
    for name, size in files.items():
        match = _PICTURE.fullmatch(name)
        if match and match["key"] in keys and 0 < size <= MAX_PICTURE_BYTES:
            found[match["key"]] = max(found.get(match["key"], (-1, "")), (int(match["step"]), name))
    return {key: found[key][1] for key in keys if key in found}


def _jpeg(path: Path) -> bytes | None:
    """The pixels of a PNG as JPEG; None if it is none, damaged, or too large."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PICTURE_PIXELS:
                return None
            stream = io.BytesIO()
            picture.convert("RGB").save(stream, format="JPEG", quality=85)
            return stream.getvalue()
    except (OSError, ValueError, SyntaxError):  # Pillow raises SyntaxError for a broken PNG
        return None
