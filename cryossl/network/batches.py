"""Tiles -> batches: the tiles of a step and their pixels depend on the step's number alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from cryossl.data.labels import IGNORE, PARTICLE, LabelMap
from cryossl.data.levels import NEUTRAL
from cryossl.data.tiling import Tile
from cryossl.pseudolabels.pixel_rules import SoftTargets
from cryossl.randomness import generator


@dataclass(frozen=True)
class Example:
    """A tile to learn from.

    Attributes:
        tile: where it lies.
        picture: of its whole micrograph, shared and not copied.
        labels: of its whole micrograph, shared and not copied.
        weight: of its pixels.
        soft: given if the label map is one of soft targets.
        source: of the micrograph.
    """

    tile: Tile
    picture: UInt8[np.ndarray, "height width"]
    labels: LabelMap
    weight: float = 1.0
    soft: SoftTargets | None = None
    source: str = ""


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        pictures: as stored, byte v for the z score v / 25.5 - 5.
        labels: a label map, or a map of soft targets, for each picture.
        weights: of each tile.
        items: ids of the tiles.
        sources: of the tiles.
        tables: target and weight of each value of a map; None if all maps are label maps.
        labelled: how many tiles, the first ones, have true labels; 0 where that is not known.
    """

    pictures: UInt8[torch.Tensor, "batch 1 tile_px tile_px"]
    labels: UInt8[torch.Tensor, "batch 1 tile_px tile_px"]
    weights: Float32[torch.Tensor, " batch"]
    items: tuple[str, ...]
    sources: tuple[str, ...] = ()
    tables: Float32[torch.Tensor, "batch 2 256"] | None = None
    labelled: int = 0


@runtime_checkable
class Batches(Protocol):
    """Step -> batch, without state."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is seen at least once."""

    def digest(self) -> str:
        """sha256 in hex of what decides the order of tiles and their weights, without pixels."""

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""


@dataclass(frozen=True)
class Sampling:
    """How the tiles of a training are drawn.

    Attributes:
        batch_size: tiles per step.
        tile_px: side of a tile.
        seed: of the run.
        iteration: of self-training; part of the counter of the draws.
        purpose: what the training is for; part of the counter.
        shift_px: the greatest shift of a tile's window in each direction, drawn at every step. The
            window stays inside its picture. Pixels of a neighbouring tile have the neighbour's
            label, IGNORE where it has none.
        pinned: whether batches are in page-locked memory, from which a copy to CUDA can overlap
            with work.
    """

    batch_size: int
    tile_px: int
    seed: int
    iteration: int
    purpose: str = "fit"
    shift_px: int = 0
    pinned: bool = False


class TileBatches:
    """The batches of one training: step -> batch, without state.

    Each epoch has its own permutation of the examples, drawn from (seed, purpose, iteration,
    epoch). Every batch has `batch_size` tiles, so that BatchNorm never sees a small batch. The last
    batch of an epoch is filled from the beginning of the epoch's permutation, repeatedly if there
    are fewer examples than `batch_size`. A picture may be shared by many examples.

    Raises:
        ValueError: no example.
    """

    def __init__(self, examples: Sequence[Example], sampling: Sampling) -> None:
        if not examples:
            raise ValueError("batches need at least one example")
        self._examples, self._pinned = examples, sampling.pinned
        self._batch_size, self._tile_px = sampling.batch_size, sampling.tile_px
        self._shift_px = sampling.shift_px
        self._counter = (sampling.seed, sampling.purpose, sampling.iteration)
        self._epoch_order: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is seen at least once."""
        return -(-len(self._examples) // self._batch_size)

    def digest(self) -> str:
        """sha256 in hex of what decides the order of tiles and their weights, without pixels."""
        text = hashlib.sha256(
            repr((self._batch_size, self._tile_px, self._counter, self._shift_px)).encode()
        )
        for example in self._examples:
            text.update(f"{example.tile.id}\n{example.weight!r}\n".encode())
        return text.hexdigest()

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs. Its memory is its own."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        turns = np.arange(within * self._batch_size, (within + 1) * self._batch_size) % len(order)
        chosen = [self._examples[index] for index in order[turns]]
        shape = (self._batch_size, 1, self._tile_px, self._tile_px)
        pictures = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        labels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned)
        places = [
            self._moved(example, by) for example, by in zip(chosen, self._shifts(step), strict=True)
        ]
        for picture, label_map, example, place in zip(
            pictures.numpy(), labels.numpy(), chosen, places, strict=True
        ):
            cut_into(picture[0], example.picture, place, fill=NEUTRAL)
            cut_into(label_map[0], example.labels, place, fill=IGNORE)
        weights = torch.tensor([example.weight for example in chosen], dtype=torch.float32)
        return Batch(
            pictures,
            labels,
            weights,
            tuple(example.tile.id for example in chosen),
            tuple(example.source for example in chosen),
            _tables(chosen),
        )

    def _shifts(self, step: int) -> list[tuple[int, int]]:
        """The shift (down, right) of the window of each tile of a step, in px."""
        seed, purpose, iteration = self._counter
        draws = generator(seed, "shift", purpose, iteration, step)
        return [
            (down, right)
            for down, right in draws.integers(
                -self._shift_px,
                self._shift_px,
                size=(self._batch_size, 2),
                endpoint=True,
            ).tolist()
        ]

    def _moved(self, example: Example, by: tuple[int, int]) -> tuple[int, int]:
        """Origin (y, x) of an example's window, shifted, but kept inside its picture."""
        tile = example.tile
        y, x = (
            min(max(at + move, 0), max(0, length - self._tile_px))
            for at, move, length in zip((tile.y, tile.x), by, example.picture.shape, strict=True)
        )
        return y, x

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch; the latest one is cached."""
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            seed, purpose, iteration = self._counter
            order = generator(seed, "order", purpose, iteration, epoch).permutation(
                len(self._examples)
            )
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]


class MixedBatches:
    """Batches of labelled and other tiles in equal numbers; the labelled ones come first.

    The two kinds have epochs of their own; the kind with fewer tiles is repeated more often. An odd
    batch has one more of the others.

    Args:
        labelled: examples with true labels, at least one.
        others: the other examples, at least one.
        sampling: of both kinds; `batch_size` of a mixed batch is at least 2.
        weight: factor on the others' own weights at the first and at the last step; linear between
            them.
        steps: of the training.

    Raises:
        ValueError: an empty kind, or a batch of one.
    """

    def __init__(
        self,
        labelled: Sequence[Example],
        others: Sequence[Example],
        sampling: Sampling,
        *,
        weight: tuple[float, float] = (1.0, 1.0),
        steps: int = 1,
    ) -> None:
        if sampling.batch_size < 2:
            raise ValueError("a mixed batch needs room for two tiles")
        half, purpose = sampling.batch_size // 2, sampling.purpose
        self._first = TileBatches(
            labelled, replace(sampling, batch_size=half, purpose=f"{purpose} labelled")
        )
        rest = sampling.batch_size - half
        self._second = TileBatches(
            others, replace(sampling, batch_size=rest, purpose=f"{purpose} others")
        )
        self._examples, self._batch_size = len(labelled) + len(others), sampling.batch_size
        self._weight, self._steps = weight, steps

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which `TileBatches` would show every example of both kinds at least once.

        Strategies with either kind of batches are thus compared at equal steps.
        """
        return -(-self._examples // self._batch_size)

    def digest(self) -> str:
        """sha256 in hex of what decides the order of tiles and their weights, without pixels."""
        parts = (self._first.digest(), self._second.digest(), self._weight, self._steps)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        first, second = self._first.batch(step), self._second.batch(step)
        start, end = self._weight
        ramp = start + (end - start) * step / max(1, self._steps - 1)
        tables = None
        if first.tables is not None or second.tables is not None:
            tables = torch.cat(
                [
                    plain_tables(len(part.items)) if part.tables is None else part.tables
                    for part in (first, second)
                ]
            )
        return Batch(
            torch.cat((first.pictures, second.pictures)),
            torch.cat((first.labels, second.labels)),
            torch.cat((first.weights, second.weights * ramp)),
            first.items + second.items,
            first.sources + second.sources,
            tables,
            labelled=len(first.items),
        )


def plain_tables(count: int) -> Float32[torch.Tensor, "count 2 256"]:
    """Target and weight of each value of a label map, `count` times."""
    tables = torch.zeros(count, 2, 256)
    tables[:, 0, PARTICLE] = 1
    tables[:, 1] = 1
    tables[:, 1, IGNORE] = 0
    return tables


def _tables(chosen: Sequence[Example]) -> Float32[torch.Tensor, "batch 2 256"] | None:
    """Tables of the examples; None where every map is a label map, which needs none."""
    if all(example.soft is None for example in chosen):
        return None
    tables = plain_tables(len(chosen))
    for table, example in zip(tables, chosen, strict=True):
        if example.soft is not None:
            table[0] = torch.arange(256) / 255
            table[1] = torch.from_numpy(example.soft.weights)
            table[1, IGNORE] = 0
    return tables


def cut_into(
    window: UInt8[np.ndarray, "tile_px tile_px"],
    array: UInt8[np.ndarray, "height width"],
    origin: tuple[int, int],
    *,
    fill: int,
) -> None:
    """Copy a window of a picture or label map into given memory.

    Args:
        window: is overwritten.
        array: the picture or label map.
        origin: first pixel (y, x) of the window, never negative.
        fill: value beyond the lower and the right edge of the array.
    """
    side = window.shape[0]
    y, x = origin
    piece = array[y : y + side, x : x + side]
    if piece.shape != window.shape:
        window.fill(fill)
    window[: piece.shape[0], : piece.shape[1]] = piece
