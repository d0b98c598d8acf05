"""Optimiser steps on a GPU: with and without a CUDA graph, by objective and by size of network.

`python -m benchmarks gpu_step` takes less than ten minutes on one data-centre GPU, and measures
nothing where there is none. All trainings take turns in one process; each time is the mean over
the steps after the first twenty, up to a wait for the GPU. The plain loop of `training_speed` is
the alternative.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_speed import LARGE, STUDY, Scale, plain_in_memory, write_micrographs
from cryossl.config import NetworkSettings
from cryossl.data.tiling import tile_grid
from cryossl.network import device as devices
from cryossl.network.architecture import build
from cryossl.network.batches import Batches, Example, MixedBatches, Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint, StateDict
from cryossl.network.objectives.objective import Objective
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.network.training import Hyperparameters, fit
from cryossl.progress.events import Progress
from cryossl.pseudolabels.recipe import Consistency

NOTE = Scale(
    tile_px=512,
    batch_size=8,
    device="cuda",
    network=NetworkSettings(encoder="resnet34", encoder_depth=5, decoder_width=16),
)
SCALES = {"STUDY": STUDY, "LARGE": LARGE, "NOTE": NOTE}
STEPS, FIRST, ROUNDS = 120, 20, 3
MICROGRAPHS, MICROGRAPH_PX = 6, 1024
NOTE_STEPS = {5: 258 * 100 // 8 + 3 * 774 * 50 // 8, 10: 517 * 100 // 8 + 3 * 1551 * 50 // 8}
"""Steps of the note's baseline and three students, at 5% and 10% of 5,172 micrographs."""


@dataclass(frozen=True)
class Kind:
    """A kind of training step."""

    name: str
    objective: Callable[[], Objective]
    mixed: bool = False
    captured: bool = False


def _teacher() -> Objective:
    return OnlineTeacher(
        seed=0,
        iteration=0,
        loss="weighted",
        settings=Consistency(),
        priors={},
        prior=0.05,
    )


KINDS = tuple(
    Kind(name + (", graph" if captured else ""), objective, mixed, captured)
    for captured in (False, True)
    for name, objective, mixed in (
        ("labels", lambda: Supervised(seed=0, iteration=0), False),
        ("labels under noise", lambda: Supervised(seed=0, iteration=0, noise=True), False),
        ("ema_consistency", _teacher, True),
    )
)


def main() -> dict[str, Any]:
    """Print the tables; return milliseconds per step and ratios of each scale."""
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return {"measured": False}
    print(torch.cuda.get_device_name())
    devices.prepare(threads=devices.usable_cores(), device=torch.device("cuda"))
    found: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    for name, scale in SCALES.items():
        found[name] = _measured(name, scale)
    hours = {
        ratio: steps * found["NOTE"]["milliseconds"]["labels, graph"] / 3.6e6
        for ratio, steps in NOTE_STEPS.items()
    }
    print(f"steps of the note's experiment: {hours[5]:.2f} h at 5%, {hours[10]:.2f} h at 10%")
    return {**found, "note_hours": hours, "apart": _apart()}


def _measured(name: str, scale: Scale) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in ("plain loop", *(k.name for k in KINDS))}
    with tempfile.TemporaryDirectory() as folder:
        write_micrographs(Path(folder))
        for _ in range(ROUNDS):
            tiles = plain_in_memory(Path(folder), scale, 30, devices.usable_cores())
            times["plain loop"].append(1000 * scale.batch_size / tiles)
            for kind in KINDS:
                times[kind.name].append(1000 * _step_seconds(scale, kind))
    medians = {label: statistics.median(values) for label, values in times.items()}
    plain = medians["plain loop"]
    print(f"\n{name}: {scale.network.encoder}, {scale.batch_size} tiles of {scale.tile_px} px")
    for label, each in medians.items():
        print(f"  {label:<28} {each:8.2f} ms a step, plain / this {plain / each:.2f}")
    base = medians["labels, graph"]
    others = ("labels under noise", "ema_consistency")
    extra = {other: medians[f"{other}, graph"] / base for other in others}
    print(f"  cost over labels, with graphs: {extra} (at most 1.3)")
    return {"milliseconds": medians, "all": times, "cost_over_labels": extra}


def _step_seconds(scale: Scale, kind: Kind) -> float:
    moments: list[float] = []

    def note(event: Progress) -> None:
        if event.done in (FIRST, FIRST + STEPS):
            torch.cuda.synchronize()
            moments.append(time.perf_counter())

    _trained(scale, kind, steps=FIRST + STEPS, report=note)
    return (moments[1] - moments[0]) / STEPS


def _apart() -> float:
    """The largest difference of a weight between a replayed training and one of single launches."""
    single, replayed = (
        _trained(STUDY, KINDS[at], steps=40, report=lambda _: None, precision="fp32")
        for at in (0, 3)
    )
    largest = max(
        float((single[name].float() - replayed[name].float()).abs().max())
        for name in single
        if "running_" not in name
    )
    print(f"largest difference of weights after 40 steps, replayed or not: {largest:.1e}")
    return largest


def _trained(
    scale: Scale,
    kind: Kind,
    *,
    steps: int,
    report: Callable[[Progress], None],
    precision: devices.Precision | None = None,
) -> StateDict:
    device = torch.device(scale.device)
    with tempfile.TemporaryDirectory() as folder:
        return fit(
            build(scale.network, seed=0),
            _batches(scale, mixed=kind.mixed),
            Hyperparameters(
                steps=steps,
                learning_rate=1e-3,
                weight_decay=1e-2,
                seed=0,
                iteration=0,
                precision=precision or devices.resolve_precision("auto", device),
                validations=1,
            ),
            device=device,
            checkpoint=Checkpoint(Path(folder), every_seconds=3600),
            validate=lambda _network: None,
            report=report,
            on_epoch=lambda _record: None,
            objective=kind.objective(),
            captured=kind.captured,
        ).last


def _batches(scale: Scale, *, mixed: bool) -> Batches:
    draws = np.random.default_rng(0)
    examples = []
    for index in range(MICROGRAPHS):
        shape = (MICROGRAPH_PX, MICROGRAPH_PX)
        picture = draws.normal(128, 25, shape).clip(0, 255).astype(np.uint8)
        labels = (draws.random(shape) < 0.05).astype(np.uint8)
        examples += [
            Example(tile, picture, labels)
            for tile in tile_grid(
                micrograph=str(index),
                height_px=MICROGRAPH_PX,
                width_px=MICROGRAPH_PX,
                tile_px=scale.tile_px,
            )
        ]
    sampling = Sampling(scale.batch_size, scale.tile_px, seed=0, iteration=0, pinned=True)
    if mixed:
        half = len(examples) // 2
        return MixedBatches(examples[:half], examples[half:], sampling)
    return TileBatches(examples, sampling)
