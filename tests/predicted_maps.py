"""The map that a network predicts of one picture, through the code that scores models."""

from __future__ import annotations

import numpy as np
import torch

from cryossl.data.tiling import Tile, tile_grid
from cryossl.network.prediction import predict
from cryossl.progress.events import silent

TILE_PX = 16


class Shown:
    """One picture as prediction needs it."""

    tile_px = TILE_PX

    def __init__(self, picture: np.ndarray) -> None:
        self._picture = picture

    def picture(self, micrograph: str) -> np.ndarray:
        assert micrograph == "m"
        return self._picture

    def tiles(self, item: str) -> tuple[Tile, ...]:
        height, width = self._picture.shape
        return tile_grid(micrograph=item, height_px=height, width_px=width, tile_px=TILE_PX)


def predicted(network: torch.nn.Module, picture: np.ndarray) -> np.ndarray:
    """The p8 map of a picture whose sides are multiples of TILE_PX."""
    ((_, p8),) = predict(
        network,
        Shown(np.ascontiguousarray(picture)),
        ["m"],
        batch_size=2,
        device=torch.device("cpu"),
        precision="fp32",
        report=silent,
    )
    return p8
