"""Network + tiles -> probabilities of whole micrographs, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from cryossl.data.levels import NEUTRAL
from cryossl.data.tiling import Tile
from cryossl.errors import NumericError
from cryossl.network.augment import z_scores
from cryossl.network.batches import cut_into
from cryossl.network.device import Precision, to_device
from cryossl.progress.events import OnProgress, Progress

ProbabilityMap = UInt8[np.ndarray, "height width"]
_Launched = tuple[list[Tile], torch.Tensor, torch.Tensor]


@runtime_checkable
class Pictures(Protocol):
    """What prediction needs of a store: pictures and their tiles."""

    @property
    def tile_px(self) -> int:
        """Side of a tile."""

    def picture(self, micrograph: str) -> UInt8[np.ndarray, "height width"]:
        """The normalised picture of a micrograph."""

    def tiles(self, item: str) -> tuple[Tile, ...]:
        """The windows of a micrograph."""


def predict(
    network: nn.Module,
    store: Pictures,
    ids: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    report: OnProgress,
) -> Iterator[tuple[str, ProbabilityMap]]:
    """The particle probability of every pixel, micrograph by micrograph, in the order of `ids`.

    Memory holds two batches of tiles and the maps of their micrographs, for any number of ids. A
    batch may contain tiles of several micrographs. It always has `batch_size` tiles, so that a map
    does not depend on what else is predicted.

    Args:
        network: logits of PARTICLE; moved to `device`, in evaluation mode until the iterator ends.
        store: pictures and their tiles.
        ids: micrographs.
        batch_size: tiles per forward pass.
        device: where the network runs.
        precision: of the forward pass.
        report: called with ("predict", micrographs done, micrographs, "micrograph").

    Yields:
        id and round(255 p) of the whole micrograph, each pixel from the one tile that owns it.

    Raises:
        NumericError: a logit is not finite; the message names the first micrograph of the batch.
    """
    was_training = network.training
    network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    maps = _Maps(store)
    done = 0
    launched: _Launched | None = None
    try:
        for tiles, windows in _batches(
            store, ids, batch_size=batch_size, pinned=device.type == "cuda"
        ):
            # The device computes this batch while the CPU copies the last one into its maps and
            # cuts the next one.
            following = (tiles, *_forward(network, windows, device=device, precision=precision))
            finished = maps.place(launched) if launched else []
            launched = following
            for item in finished:
                done += 1
                report(Progress("predict", done, len(ids), "micrograph"))
                yield item
        for item in maps.place(launched) if launched else []:
            done += 1
            report(Progress("predict", done, len(ids), "micrograph"))
            yield item
    finally:
        network.train(was_training)


class _Maps:
    """The maps of which tiles are still missing."""

    def __init__(self, store: Pictures) -> None:
        self._store = store
        self._open: dict[str, tuple[ProbabilityMap, int]] = {}

    def place(self, launched: _Launched) -> list[tuple[str, ProbabilityMap]]:
        """Copy a batch's probabilities into their maps, and return the maps that are complete."""
        tiles, probabilities, finite = launched
        if not bool(finite):
            raise NumericError(
                f"the network's output is not finite for a tile of {tiles[0].micrograph}",
                cure="train again with a lower --learning-rate",
            )
        complete = []
        for tile, window in zip(tiles, probabilities.cpu().numpy()[:, 0], strict=False):
            name = tile.micrograph
            if name not in self._open:
                self._open[name] = (
                    np.empty(self._store.picture(name).shape, np.uint8),
                    len(self._store.tiles(name)),
                )
            whole, missing = self._open.pop(name)
            y0, y1, x0, x1 = tile.own
            whole[y0:y1, x0:x1] = window[y0 - tile.y : y1 - tile.y, x0 - tile.x : x1 - tile.x]
            if missing == 1:
                complete.append((name, whole))
            else:
                self._open[name] = (whole, missing - 1)
        return complete


def _batches(
    store: Pictures, ids: Sequence[str], *, batch_size: int, pinned: bool
) -> Iterator[tuple[list[Tile], torch.Tensor]]:
    """The tiles of each batch in order, and their windows, UInt8[batch_size 1 t t].

    The last batch may have fewer tiles; its other windows are NEUTRAL.
    """
    tiles: list[Tile] = []
    windows = _blank(store, batch_size, pinned=pinned)
    for micrograph in ids:
        picture = store.picture(micrograph)
        for tile in store.tiles(micrograph):
            cut_into(windows.numpy()[len(tiles), 0], picture, (tile.y, tile.x), fill=NEUTRAL)
            tiles.append(tile)
            if len(tiles) == batch_size:
                yield tiles, windows
                tiles, windows = [], _blank(store, batch_size, pinned=pinned)
    if tiles:
        yield tiles, windows


def _blank(store: Pictures, batch_size: int, *, pinned: bool) -> torch.Tensor:
    return torch.full(
        (batch_size, 1, store.tile_px, store.tile_px), NEUTRAL, dtype=torch.uint8, pin_memory=pinned
    )


def _forward(
    network: nn.Module, windows: torch.Tensor, *, device: torch.device, precision: Precision
) -> tuple[torch.Tensor, torch.Tensor]:
    """round(255 p) as bytes, and whether all logits are finite; both still on the device."""
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        pictures = z_scores(to_device(windows, device))
        logits = network(pictures.contiguous(memory_format=torch.channels_last)).float()
        return (torch.sigmoid(logits) * 255).round_().to(torch.uint8), torch.isfinite(logits).all()
