"""The folder that MLflow loads a model from: made when the model is recorded, completed when sent.

Until then it is a zip without the weights, which the run keeps anyway. What the store decides (the
id of the model, its place) is filled in at the end.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryossl.tracking.store.mlflow_environment import set_mlflow_environment

WEIGHTS = "artifacts/model.safetensors"
"""The file that holds the model, in its folder."""


def packed(
    script: Path,
    *,
    code: Mapping[str, Path],
    requirements: Sequence[str],
    signature: Mapping[str, Sequence[Mapping[str, Any]]],
    example: tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]],
) -> bytes:
    """The folder of a model without its weights, as a zip.

    Args:
        script: sets the model, as MLflow's "models from code"; its context's `model` is `WEIGHTS`.
        code: path in the folder of code -> file, for what the script imports.
        requirements: as pip reads them.
        signature: `inputs`, `outputs` and `params` as MLflow's JSON.
        example: rows of an input, and params.

    Raises:
        OSError: the folder for it cannot be written.
    """
    set_mlflow_environment()
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import ModelSignature

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it would say what it checks
    with tempfile.TemporaryDirectory(prefix="cryossl-") as aside:
        for name, path in code.items():
            target = Path(aside, "code", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        folder, weights = Path(aside, "model"), Path(aside, Path(WEIGHTS).name)
        weights.touch()
        rows, params = example
        pyfunc.save_model(
            path=str(folder),
            python_model=str(script),
            artifacts={"model": str(weights)},
            code_paths=[str(path) for path in sorted(Path(aside, "code").iterdir())],
            pip_requirements=list(requirements),
            signature=_signature(ModelSignature, signature),
            input_example=(pd.DataFrame(list(rows)), dict(params)),
        )
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder).as_posix()
                if path.is_file() and name != WEIGHTS and "__pycache__" not in path.parts:
                    archive.write(path, name)
    return content.getvalue()


def complete(
    package: Path, weights: Path, folder: Path, *, model_id: str, run_id: str, location: str
) -> None:
    """Write the folder of a model that the store has given an id and a place.

    Raises OSError or zipfile.BadZipFile if the package cannot be read.
    """
    from mlflow.models import Model

    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    target = folder / WEIGHTS
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(weights, target)
    except OSError:
        shutil.copyfile(weights, target)
    model = Model.load(str(folder))
    model.model_id = model.model_uuid = model_id
    model.model_size_bytes = sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file()
    )
    model.run_id, model.artifact_path = run_id, location
    flavour = model.flavors["python_function"]
    flavour["model_code_path"] = Path(flavour["model_code_path"]).name
    flavour["artifacts"]["model"]["uri"] = WEIGHTS
    model.save(str(folder / "MLmodel"))


def _signature(kind: Any, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    return kind.from_dict({name: json.dumps(list(part)) for name, part in parts.items()})
