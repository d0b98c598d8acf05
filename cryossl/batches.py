"""Tiles -> batches: which tiles a step sees, and their pixels, as a pure function of the step's number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from cryossl.images import NEUTRAL
from cryossl.labels import IGNORE, LabelMap
from cryossl.randomness import generator
from cryossl.tiling import Tile


@dataclass(frozen=True)
class Example:
    """A tile to learn from: its micrograph's picture and label map (not copied, not cut), and its pixels' weight."""

    tile: Tile
    picture: UInt8[np.ndarray, "height width"]
    labels: LabelMap
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """What one step learns from: pictures as stored, a label map and a weight for each, and the tiles' names."""

    pictures: UInt8[torch.Tensor, "batch 1 tile_px tile_px"]
    labels: UInt8[torch.Tensor, "batch 1 tile_px tile_px"]
    weights: Float32[torch.Tensor, " batch"]
    items: tuple[str, ...]


class TileBatches:
    """The batches of one training: step -> batch, without state.

    Each epoch goes through a fresh permutation of the examples, drawn from (seed, purpose, iteration, epoch). Every
    batch has `batch_size` tiles, so that BatchNorm never sees a rump: the last batch of an epoch is filled up from the
    beginning of the epoch's own permutation, several times over if there are fewer examples than `batch_size`.

    Args:
        examples: at least one; a picture may be shared by many.
        batch_size: tiles per step.
        tile_px: side of a tile.
        seed: of the run.
        purpose: what the training is for; part of the counter.
        iteration: of self-training; part of the counter.
        pinned: whether batches are laid into page-locked memory, from which a copy to CUDA can overlap with work.

    Raises:
        ValueError: no example.
    """

    def __init__(self, examples: Sequence[Example], *, batch_size: int, tile_px: int, seed: int, purpose: str,
                 iteration: int, pinned: bool = False) -> None:
        if not examples:
            raise ValueError("batches need at least one example")
        self._examples = examples
        self._batch_size = batch_size
        self._tile_px = tile_px
        self._counter = (seed, purpose, iteration)
        self._pinned = pinned
        self._epoch_order: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is seen at least once."""
        return -(-len(self._examples) // self._batch_size)

    def digest(self) -> str:
        """sha256 in hex of what decides the order of tiles; pixels are not in it."""
        text = hashlib.sha256(repr((self._batch_size, self._tile_px, self._counter)).encode())
        for example in self._examples:
            text.update(f"{example.tile.id}\n{example.weight!r}\n".encode())
        return text.hexdigest()

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs. Its memory is its own."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        places = np.arange(within * self._batch_size, (within + 1) * self._batch_size) % len(order)
        chosen = [self._examples[index] for index in order[places]]
        shape = (self._batch_size, 1, self._tile_px, self._tile_px)
        pictures = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        labels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        for picture, label_map, example in zip(pictures.numpy(), labels.numpy(), chosen, strict=True):
            cut_into(picture[0], example.picture, example.tile, fill=NEUTRAL)
            cut_into(label_map[0], example.labels, example.tile, fill=IGNORE)
        weights = torch.tensor([example.weight for example in chosen], dtype=torch.float32)
        return Batch(pictures, labels, weights, tuple(example.tile.id for example in chosen))

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch. The latest one is kept: a cache, not a state."""
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            seed, purpose, iteration = self._counter
            order = generator(seed, "order", purpose, iteration, epoch).permutation(len(self._examples))
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]


def cut_into(window: UInt8[np.ndarray, "tile_px tile_px"], array: UInt8[np.ndarray, "height width"], tile: Tile, *,
             fill: int) -> None:
    """Write a tile's window of a picture or label map into memory that is already there; beyond the edge it is `fill`.

    The window of a tile may run over the lower and right edge only: its origin is never negative.
    """
    side = window.shape[0]
    piece = array[tile.y:tile.y + side, tile.x:tile.x + side]
    if piece.shape != window.shape:
        window.fill(fill)
    window[:piece.shape[0], :piece.shape[1]] = piece
