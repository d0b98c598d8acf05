"""The model that MLflow loads and serves: grey pictures in, a table of picks out.

MLflow runs this file from the folder of a logged model, where the modules that it imports lie
beside it; nothing here imports it. docs/picking.md says what to send.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from cryossl.config import InputSettings
from cryossl.data.images import read_picture
from cryossl.errors import CryosslError, DataError
from cryossl.evaluation.picking import FULL_SCORE
from cryossl.network import device as devices
from cryossl.network.picking_model import picks_of, probabilities, read, seen
from cryossl.picking.choice import Choice, threshold_of
from cryossl.picking.coordinates import Coordinates

_BATCH_TILES = 8
_COLUMNS = ("picture", "x_px", "y_px", "score")


class PickingService(PythonModel):
    """Picks with one model, on a GPU if there is one."""

    def load_context(self, context: Any) -> None:
        """Read the model. Raises DataError if its file is none."""
        self._model = read(Path(context.artifacts["model"]))
        self._device = devices.resolve("auto")
        self._precision = devices.resolve_precision("auto", self._device)
        self._network = self._model.network().to(self._device).eval()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The picks of each row's picture that reach the threshold, best first.

        Args:
            context: not used.
            model_input: a row per picture, with `path` of a file or `picture`, its rows.
            params: `threshold` in [0, 1], `diameter_px` in px of the file, `source`.

        Returns:
            `picture`, the row of the input from 0; `x_px` and `y_px`, the index of the pixel, which
            may be a fraction; `score` in [0, 1].

        Raises:
            MlflowException: a row or a parameter cannot be used; a server answers 400.
        """
        del context
        try:
            tables = [
                self._picks(number, row, params or {})
                for number, row in enumerate(model_input.to_dict("records"))
            ]
        except CryosslError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.concat([pd.DataFrame(columns=list(_COLUMNS), dtype=float), *tables]).astype(
            {"picture": "int64"}
        )

    def _picks(
        self, number: int, row: Mapping[Any, Any], params: Mapping[str, Any]
    ) -> pd.DataFrame:
        description = self._model.description
        threshold, diameter_px = params.get("threshold"), params.get("diameter_px")
        if threshold is not None and not 0 <= threshold <= 1:
            raise DataError(f"threshold {threshold:g} is not in [0, 1]", cure="give a score")
        if diameter_px is not None and not 0 < diameter_px < math.inf:
            raise DataError(f"diameter_px {diameter_px:g} is no width", cure="give px of the file")
        picture, name = _picture(number, row)
        height_px, width_px = picture.shape
        scale = self._model.scale_of(
            height_px=height_px,
            width_px=width_px,
            name=name,
            source=params.get("source"),
            diameter_px=diameter_px,
        )
        ((_, p8),) = probabilities(
            self._network,
            {name: seen(picture, scale)},
            tile_px=description.tile_px,
            batch_size=_BATCH_TILES,
            device=self._device,
            precision=self._precision,
        )
        chosen = description.pick_threshold16 if threshold is None else threshold_of(threshold)
        picks = Choice(chosen).of(
            picks_of(p8, description, scale), diameter_px=scale.diameter_px / scale.scale
        )
        places = Coordinates(name, picks.centres.astype(np.float64))
        values = (number, places.x_index, places.y_index, picks.scores / FULL_SCORE)
        return pd.DataFrame(dict(zip(_COLUMNS, values, strict=True)))


def _picture(
    number: int, row: Mapping[Any, Any]
) -> tuple[Float32[np.ndarray, "height width"], str]:
    """The grey values of a row, and the name of its file."""
    path, rows = (row.get(name) for name in ("path", "picture"))
    given = [isinstance(path, str), isinstance(rows, (list, np.ndarray))]
    if sum(given) != 1:
        raise DataError(
            f"row {number} has {'both' * all(given) or 'neither'} of `path` and `picture`",
            cure="give one of them",
        )
    if isinstance(path, str):
        limit = float(InputSettings().max_megapixels)
        return read_picture(Path(path), max_megapixels=limit), Path(path).name
    try:
        picture = np.asarray([np.asarray(one, np.float32) for one in rows], np.float32)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        picture = np.empty(0, np.float32)
    if picture.ndim != 2 or not picture.size or not np.isfinite(picture).all():
        raise DataError(
            f"picture {number} is no grid of finite grey values",
            cure="give a list of rows of the same length",
        )
    return picture, f"picture {number}"


set_model(PickingService())
