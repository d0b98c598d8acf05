"""Which model picks: a file, one of the tracking store, or the best of the newest experiment."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from cryossl.errors import ConfigError, DataError, StorageError
from cryossl.evaluation.best_model import METRICS, best_of
from cryossl.network.picking_model import MODEL_FILE
from cryossl.tracking.reader import Artifacts, read_runs

_MODEL = re.compile(r"models:/(m-[0-9a-f]{32}|[^/@:]+/[0-9]+|[^/@:]+@[^/@:]+)")
_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})(?:/.*)?")


def fetched(
    given: str | None, folder: Path, *, uri: str, experiment: str, say: Callable[[str], object]
) -> Path:
    """The file of a model; that of a run is copied into `folder`.

    Without a model the newest experiment with a finished model is taken, and of its accepted models
    the one that `best_of` chooses: never the control `full`, which has to be named.

    Args:
        given: path of a file, `runs:/ID`, the id of a run, `models:/NAME/3`, `models:/NAME@best`,
            `models:/m-ID`, or None.
        folder: for the copy.
        uri: of the tracking store.
        experiment: its name in the store.
        say: is called with one line where `full` scored higher and was passed over.

    Raises:
        ConfigError: it is neither a file nor a run nor a model, or no run has a model.
        DataError: there is no such model that can be reached.
        StorageError: the copy cannot be written.
        TrackingError: the store cannot be read.
    """
    if given is not None and Path(given).is_file():
        return Path(given)
    if given is not None and _MODEL.fullmatch(given):
        return _copied(given, folder, uri=uri, experiment=experiment)
    named = None if given is None else _RUN.fullmatch(given)
    if given is not None and named is None:
        raise ConfigError(
            f"the model {given!r:.200} is neither a file nor a run nor a registered model",
            cure="give a model.safetensors, runs:/ID with the id of an iteration run, "
            "models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-ID",
        )
    run_id = named[1] if named else _best_of_newest(uri, experiment, say)
    return _copied(run_id, folder, uri=uri, experiment=experiment)


def _best_of_newest(uri: str, experiment: str, say: Callable[[str], object]) -> str:
    """Id of the run of the best accepted model of the newest experiment."""
    frame = read_runs(uri, experiment, kind="iteration", tags={"cryossl.accepted": "true"})
    runs = [row for row in frame.to_dict("records") if row["status"] == "FINISHED"]
    if not runs:
        raise ConfigError(
            f"the experiment {experiment!r} has no accepted model",
            cure="`cryossl run` makes one, or give --model",
        )
    newest = max(runs, key=lambda row: row["start_time"])
    same = "cryossl.experiment_fingerprint"
    models = sorted(
        (row for row in runs if row.get(same) == newest.get(same)),
        key=lambda row: row["start_time"],  # of equals the oldest is taken: it took the least
    )
    best = best_of(
        [
            (str(row.get("cryossl.strategy")), {name: row.get(name) for name in METRICS})
            for row in models
        ],
        fitted=_is_fitted(uri, experiment, newest),
    )
    if best is None:
        raise ConfigError(
            f"no model of the newest experiment in {experiment!r} that learned from the labelled "
            "part alone is scored",
            cure="give --model runs:/ID with the id of an iteration run",
        )
    if best.passed_over is not None:
        other = models[best.passed_over]
        say(
            f"{other['cryossl.strategy']} scored higher on validation, and is not taken: it "
            f"learned from the labels that the experiment hides (--model runs:/{other['run_id']} "
            "takes it)"
        )
    return str(models[best.number]["run_id"])


def _is_fitted(uri: str, experiment: str, run: Mapping[Hashable, object]) -> bool:
    """Whether the scores on validation are of the labelled micrographs themselves."""
    same = "cryossl.experiment_fingerprint"
    if not isinstance(run.get(same), str):
        return False
    frame = read_runs(uri, experiment, kind="experiment", tags={same: str(run[same])})
    return any(row.get("split.validation_from") == "labelled" for row in frame.to_dict("records"))


def _copied(name: str, folder: Path, *, uri: str, experiment: str) -> Path:
    """A copy of the file of a run with this id, or of a `models:/` address."""
    artifacts = Artifacts(uri, experiment)
    target, registered = folder / "model.safetensors", name.startswith("models:/")
    try:
        found = (
            artifacts.copy_model(name, target)
            if registered
            else artifacts.copy(name, MODEL_FILE, target)
        )
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror}", cure="choose another folder with --to"
        ) from None
    if not found:
        why = artifacts.unreachable.get(name)
        reached = f" that can be reached ({why})" if why else ""
        if registered:
            raise DataError(
                f"there is no model of cryossl at {name}{reached}",
                cure="`cryossl run --register NAME` makes a version; check name, version or alias",
            )
        raise DataError(
            f"run {name} has no {MODEL_FILE}{reached}",
            cure="give an iteration run of this version of cryossl",
        )
    return target
