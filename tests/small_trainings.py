"""Trainings of a second: small networks that learn bright squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryossl.config import NetworkSettings
from cryossl.data.tiling import Tile
from cryossl.network.architecture import build
from cryossl.network.batches import Example, MixedBatches, Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint, StateDict
from cryossl.network.training import Fitted, Hyperparameters, fit
from cryossl.progress.events import silent

TILE_PX = 32
CPU = torch.device("cpu")
SMALL = NetworkSettings(decoder_width=4)
WITH_DROPOUT = NetworkSettings(architecture="fpn", decoder_width=4)


class Stopped(Exception):
    """Stands for any exception that ends a run."""


def examples(count: int, *, source: str = "") -> list[Example]:
    """Bright squares on dark noise, each where another seed puts it."""
    drawn = []
    for index in range(count):
        random = np.random.default_rng(index)
        picture, labels = (
            random.integers(90, 130, (TILE_PX, TILE_PX), np.uint8),
            np.zeros((TILE_PX, TILE_PX), np.uint8),
        )
        y, x = random.integers(0, TILE_PX - 10, 2)
        picture[y : y + 10, x : x + 10] += 60
        labels[y : y + 10, x : x + 10] = 1
        drawn.append(
            Example(
                Tile(f"m{index}", 0, 0, (0, TILE_PX, 0, TILE_PX)), picture, labels, source=source
            )
        )
    return drawn


def mixed(*, steps: int) -> MixedBatches:
    """Five labelled and five other tiles, the latter of two sources."""
    tiles = examples(10, source="a")
    return MixedBatches(
        tiles[:5],
        tiles[5:8] + examples(10, source="b")[8:],
        Sampling(batch_size=4, tile_px=TILE_PX, seed=0, purpose="train", iteration=0),
        weight=(0.25, 1.0),
        steps=steps,
    )


def train(
    folder: Path,
    *,
    settings: NetworkSettings = SMALL,
    tiles: list[Example] | None = None,
    **changes: object,
) -> Fitted:
    """A training of 12 steps from fresh weights."""
    batches = TileBatches(
        tiles or examples(10),
        Sampling(batch_size=4, tile_px=TILE_PX, seed=0, purpose="train", iteration=0),
    )
    hyperparameters = {
        "steps": 12,
        "learning_rate": 3e-3,
        "weight_decay": 1e-2,
        "seed": 0,
        "iteration": 0,
        "precision": "fp32",
        "validations": 3,
        "patience": 0,
    }
    hyperparameters |= {name: changes.pop(name) for name in hyperparameters if name in changes}
    arguments = {
        "batches": batches,
        "device": CPU,
        "checkpoint": Checkpoint(folder, every_seconds=3600),
        "validate": lambda _: 0.5,
        "report": silent,
        "on_epoch": lambda _: None,
    } | changes
    return fit(
        build(settings, seed=0), hyperparameters=Hyperparameters(**hyperparameters), **arguments
    )


def equal(first: StateDict, second: StateDict) -> bool:
    """Whether two networks have the same weights, bit for bit."""
    return set(first) == set(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def weight_score(network) -> float:
    """A validation score in [0, 1) that any change of the first weights changes."""
    return float(next(network.parameters()).sum().abs().item() % 1)


def interrupted_after(step: int):
    """A report that is interrupted behind a step."""

    def stop(progress) -> None:
        if progress.done == step:
            raise KeyboardInterrupt

    return stop
