"""Read tracked runs back: their numbers as a table, their JSON files and their pictures."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from cryossl.errors import DataError, TrackingError
from cryossl.redaction import shown
from cryossl.system.files import write_durably
from cryossl.system.pillow import opened
from cryossl.system.user_files import read_json
from cryossl.tracking.address import experiment_choice, sqlite_path, store_uri
from cryossl.tracking.store.artifact_places import model_places
from cryossl.tracking.store.mlflow_errors import RefusedError, StoreAwayError, said
from cryossl.tracking.store.mlflow_store import FINGERPRINT, PARENT, MlflowStore, tag_filter
from cryossl.tracking.store.model_folder import WEIGHTS
from cryossl.tracking.store.models import Models

MAX_JSON_BYTES = 32 * 2**20
MAX_PICTURE_BYTES = 16 * 2**20
MAX_PICTURE_PIXELS = 16_000_000
_AT_ONCE = 8
_PROBE_SECONDS = 10.0
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
        set that a run noted, `dataset <name>` with its digest.

    Raises:
        NoExperimentError: the store or the experiment is not there.
        TrackingError: the store cannot be read.
    """
    where = store_uri(uri)
    try:
        store = MlflowStore(where, *experiment_choice(experiment), reads_only=True)
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

    A file that a run has not got, or that is damaged, is None or left out. `unreachable` says for
    each run that was asked for and whose files could not be reached where they were looked for:
    nobody knows what such a run recorded.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._store = MlflowStore(store_uri(uri), *experiment_choice(experiment), reads_only=True)
        self.unreachable: dict[str, str] = {}
        self._away: dict[str, str] = {}  # place of files that did not answer -> why

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

    def pictures(self, run_id: str, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Key -> the picture that the run logged under it at its last step, encoded as JPEG.

        None is a picture that cannot be read: damaged, no PNG, or too large.

        Raises TrackingError if the store does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="cryossl-") as folder:
            files = self._files(run_id, "images", Path(folder))
            found: dict[str, bytes | None] = {}
            for key, name in _newest(files.sizes, keys).items():
                small = files.sizes[name] <= MAX_PICTURE_BYTES
                path = files.open(name) if small else None
                found[key] = _jpeg(path) if path is not None else None
            return found

    def copy(self, run_id: str, name: str, target: Path) -> bool:
        """Copy a file of a run; False if the run has none of this name that can be reached.

        Raises OSError if the copy cannot be written, TrackingError if the store does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="cryossl-") as folder:
            files = self._files(run_id, str(PurePosixPath(name).parent), Path(folder))
            path = files.open(name) if name in files.sizes else None
            if path is None:
                return False
            write_durably(target, path.read_bytes())
            return True

    def copy_model(self, address: str, target: Path) -> bool:
        """Copy the file of `models:/NAME/3`, `models:/NAME@best` or `models:/m-ID`.

        False if there is no such model, or none with the file of `WEIGHTS` that can be reached.

        Raises OSError if the copy cannot be written, TrackingError if the store does not answer.
        """
        models = Models(self._store)
        try:
            self._store.probe(seconds=_PROBE_SECONDS)
            location = models.location_of(address)
            places = model_places(sqlite_path(self._store.uri), location)
            with tempfile.TemporaryDirectory(prefix="cryossl-") as folder:
                local = [place / WEIGHTS for place in places if (place / WEIGHTS).is_file()]
                if places and not local:
                    self.unreachable[address] = f"not in {', '.join(map(str, places))}"
                    return False
                path = local[0] if local else models.download(location, WEIGHTS, Path(folder))
                write_durably(target, path.read_bytes())
        except RefusedError as error:
            self.unreachable[address] = str(error)
            return False
        except StoreAwayError as error:
            raise TrackingError(
                f"tracking store {shown(self._store.uri)} cannot be read ({error})",
                cure=error.cure,
            ) from None
        return True

    def _json(self, run_id: str, name: str, folder: Path) -> Any:
        files = self._files(run_id, "", folder)
        if not 0 < files.sizes.get(name, 0) <= MAX_JSON_BYTES:
            return None
        path = files.open(name)
        try:
            return read_json(path, max_bytes=MAX_JSON_BYTES) if path is not None else None
        except DataError:
            return None

    def _files(self, run_id: str, folder: str, aside: Path) -> _Files:
        """What is in a folder of a run; nothing for a run whose files cannot be reached."""
        try:
            places = self._store.places_to_look(run_id)
        except RefusedError:
            return self._lost(run_id, "the run is not in the store")
        except StoreAwayError as error:
            raise TrackingError(
                f"files of the tracking store {shown(self._store.uri)} cannot be read ({error})",
                cure="start the server, or check the folder of the artifacts",
            ) from None
        if places:
            return self._local(run_id, folder, places)
        root = self._store.place_of_files(run_id)
        if root in self._away:
            return self._lost(run_id, self._away[root])
        try:
            sizes = self._store.files(run_id, folder)
        except Exception as error:  # an artifact store's own library may raise anything
            self._away[root] = said(error)
            return self._lost(run_id, said(error))
        return _Files(
            sizes, lambda name: self._fetched(run_id, name, aside, size_bytes=sizes[name])
        )

    def _local(self, run_id: str, folder: str, places: Sequence[Path]) -> _Files:
        sizes: dict[str, int] = {}
        there = [place for place in places if os.path.isdir(place)]  # noqa: PTH112
        roots = ", ".join(str(place.parent.parent) for place in places)
        if not there:
            return self._lost(run_id, f"not in {roots}")
        try:
            for place in reversed(there):
                if (place / folder).is_dir():
                    sizes |= {
                        PurePosixPath(folder, one.name).as_posix(): one.stat().st_size
                        for one in (place / folder).iterdir()
                        if one.is_file()
                    }
        except OSError as error:
            return self._lost(run_id, f"{error.filename}: {error.strerror}")
        return _Files(sizes, lambda name: self._opened(run_id, name, there))

    def _opened(self, run_id: str, name: str, places: Sequence[Path]) -> Path | None:
        """A file of a run that is within one of its places."""
        path, place = next((place / name, place) for place in places if (place / name).is_file())
        try:
            path.open("rb").close()
        except OSError as error:
            self.unreachable[run_id] = f"{path}: {error.strerror}"
            return None
        return path if path.resolve().is_relative_to(place.resolve()) else None

    def _fetched(self, run_id: str, name: str, folder: Path, *, size_bytes: int) -> Path | None:
        """A local copy, in a folder of its own."""
        own = folder / f"{len(PurePosixPath(name).parts)}-{PurePosixPath(run_id).name}"
        own.mkdir(exist_ok=True)
        try:
            path = self._store.download(run_id, name, own, size_bytes=size_bytes)
        except Exception as error:  # as in `_files`
            self._lost(run_id, said(error))
            return None
        return path if path.is_file() and path.resolve().is_relative_to(own.resolve()) else None

    def _lost(self, run_id: str, why: str) -> _Files:
        self.unreachable[run_id] = why
        return _Files({}, lambda _: None)


@dataclass(frozen=True)
class _Files:
    """Path -> bytes of the files of a folder, and what gives the local path of one of them."""

    sizes: Mapping[str, int]
    open: Callable[[str], Path | None]


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


def _newest(files: Iterable[str], keys: Sequence[str]) -> dict[str, str]:
    """Key -> its file of the highest step."""
    found: dict[str, tuple[int, str]] = {}
    for name in files:
        match = _PICTURE.fullmatch(name)
        if match and match["key"] in keys:
            found[match["key"]] = max(found.get(match["key"], (-1, "")), (int(match["step"]), name))
    return {key: found[key][1] for key in keys if key in found}


def _jpeg(path: Path) -> bytes | None:
    """The pixels of a PNG as JPEG; None if it is none, damaged, or too large."""
    if path.stat().st_size > MAX_PICTURE_BYTES:  # the store may have told another size
        return None
    try:
        with opened(io.BytesIO(path.read_bytes()), ("PNG",)) as picture:
            if picture.width * picture.height > MAX_PICTURE_PIXELS:
                return None
            stream = io.BytesIO()
            picture.convert("RGB").save(stream, format="JPEG", quality=85)
            return stream.getvalue()
    # Pillow raises OSError, ValueError, SyntaxError, struct.error and more on damaged files.
    except Exception:
        return None
