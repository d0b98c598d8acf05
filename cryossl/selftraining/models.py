"""Trained networks by reference: loaded, calibrated, applied to micrographs, and scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from cryossl.config import Config
from cryossl.data.store.store import Store
from cryossl.evaluation.metrics import Histogram, histogram
from cryossl.evaluation.picking import Picks, inside, pick
from cryossl.evaluation.scores import Evaluation, Picked
from cryossl.evaluation.scorings import EIGHT
from cryossl.network import architecture as networks
from cryossl.network.calibration import (
    COMPRESSION,
    Tempered,
    Views,
    expected_calibration_error,
    fit_temperature,
)
from cryossl.network.checkpoints import load_weights
from cryossl.network.device import Precision
from cryossl.network.prediction import predict
from cryossl.network.training import EpochRecord, Watch
from cryossl.progress.events import OnProgress, Progress, silent
from cryossl.pseudolabels.pool import Pool, Selected
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.recipe import Teaching
from cryossl.system.files import write_durably
from cryossl.system.stages import Stage, Stages

WATCHED_MICROGRAPHS = 8
HEALTHY = (0.25, 4.0)
"""Share of likely particle pixels, relative to the prior, of a network that has not collapsed."""

WeightsName = Literal["last", "best", "first_third", "second_third"]


@dataclass(frozen=True)
class Model:
    """A trained network, by reference, and the history of its training.

    `collapsed`: the collapse alarm ended the training.
    """

    stage: Stage
    steps: int
    best_step: int
    history: tuple[EpochRecord, ...]
    collapsed: bool

    @property
    def seconds(self) -> float:
        """Time spent on training steps and validations, interruptions left out."""
        return sum(record.seconds for record in self.history)

    @property
    def of_other_code(self) -> bool:
        """Whether other code than the present one trained it."""
        return self.stage.of_other_code

    @property
    def members(self) -> tuple[Model, ...]:
        """The networks that predict: itself."""
        return (self,)


@dataclass(frozen=True)
class Committee:
    """Several trained networks whose mean probability is the prediction.

    `members`: two or more. The first is the supervised baseline, which every arm starts from, so
    that steps and time are those of the others.
    """

    members: tuple[Model, ...]
    collapsed: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of all members but the baseline."""
        return sum(member.steps for member in self.members[1:])

    @property
    def best_step(self) -> None:
        """None: each member has its own."""
        return None

    @property
    def seconds(self) -> float:
        """Time spent on the training of all members but the baseline."""
        return sum(member.seconds for member in self.members[1:])

    @property
    def of_other_code(self) -> bool:
        """Whether other code than the present one trained a member."""
        return any(member.of_other_code for member in self.members)


Predictor = Model | Committee
"""What is scored and picks."""


@dataclass(frozen=True)
class Calibration:
    """A model's temperature, from one half of validation, and its calibration error on the other.

    The errors are None where there is no other half.
    """

    temperature: float
    error_before: float | None
    error_after: float | None


class Inference:
    """The networks of one experiment on one device.

    It reads true labels of validation micrographs alone.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        stages: Stages,
        *,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self._config, self._store, self._stages = config, store, stages
        self.device, self.precision = device, precision

    def arithmetic(self) -> dict[str, Any]:
        """What decides the last bits: on a CPU, sums over two threads round differently."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        return {
            "device": self.device.type,
            "precision": self.precision,
            "threads": threads,
        }

    def inputs(self, model: Predictor, weights: WeightsName) -> dict[str, Any]:
        """What the predictions of these weights depend on, besides the micrographs."""
        if isinstance(model, Committee):
            return {"members": [self.inputs(member, weights) for member in model.members]}
        same = weights == "best" and model.best_step == model.steps
        return {
            "train": model.stage.key,
            "weights": "last" if same else weights,
            **self.arithmetic(),
        }

    def load(self, model: Predictor, weights: WeightsName) -> torch.nn.Module:
        """The network with these weights, on the device; of several networks their mean."""
        loaded = []
        for member in model.members:
            network = networks.build(self._config.network, seed=self._config.split.seed)
            network.load_state_dict(load_weights(member.stage.folder / f"{weights}.safetensors"))
            loaded.append(network.to(self.device))
        return networks.together(loaded)

    def scored(self, model: Predictor, weights: WeightsName) -> torch.nn.Module:
        """The network as it is scored: with the mean over `evaluation.views` orientations."""
        network, views = self.load(model, weights), self._config.evaluation.views
        return network if views == 1 else Views(network, views)

    def predict(
        self, network: torch.nn.Module, ids: Sequence[str]
    ) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        """p8 maps of whole micrographs, in the order of ids."""
        return predict(
            network,
            self._store,
            ids,
            batch_size=self._config.training.batch_size,
            device=self.device,
            precision=self.precision,
            report=silent,
        )

    def histogram(self, network: torch.nn.Module, ids: Sequence[str]) -> Histogram:
        """Valid pixels of micrographs by (true class, p8), the unlabelled border left out."""
        total = np.zeros((2, 256), np.int64)
        for name, probabilities in self.predict(network, ids):
            total += histogram(probabilities, self._store.truth(name, border=True))
        return total

    def calibration(self, model: Model, validation: Sequence[str]) -> Calibration:
        """A model's temperature, fitted on every other validation micrograph of each source."""
        weights = self._config.training.model
        ids = self._by_source(validation)
        halves = ids[::2], ids[1::2]

        def fit(folder: Path) -> None:
            network = self.load(model, weights)
            temperature = fit_temperature(self.histogram(Tempered(network, COMPRESSION), halves[0]))
            errors = [
                expected_calibration_error(self.histogram(one, halves[1]))
                for one in (network, Tempered(network, temperature))
            ]
            write_durably(folder / "calibration.json", json.dumps([temperature, *errors]).encode())

        inputs = {**self.inputs(model, weights), "halves": [list(half) for half in halves]}
        stage = self._stages.once("calibrate", inputs, fit)
        return Calibration(*json.loads((stage.folder / "calibration.json").read_text()))

    def predictor(
        self,
        model: Model,
        weights: WeightsName,
        teaching: Teaching,
        *,
        temperature: float | None,
        pool: Pool,
        report: Callable[..., None],
    ) -> Callable[[Path], None]:
        """A function that writes the p8 maps of a pool into a folder.

        `teaching` and `temperature` say how the teacher predicts.
        """

        def predict_pool(folder: Path) -> None:
            network = self.load(model, weights)
            if temperature is not None:
                network = Tempered(network, temperature)
            if teaching.views != 1:
                network = Views(network, teaching.views)
            pool.predict(folder, lambda ids: self.predict(network, ids), report=report)

        return predict_pool

    def watch(self, selected: Selected, pool: Pool, priors: Priors) -> Watch:
        """The collapse alarm: the particle share of a fixed part of the pool against the priors."""
        names = self._by_source(pool.micrographs)
        watched = names[:: max(1, len(names) // WATCHED_MICROGRAPHS)][:WATCHED_MICROGRAPHS]

        def collapsed(network: torch.nn.Module) -> bool:
            found = expected = 0.0
            for name, probabilities in self.predict(network, watched):
                source = pool.source(name)
                found += int(np.count_nonzero(probabilities >= selected.prior_cutoffs[source]))
                expected += priors.of(source) * probabilities.size
            return not HEALTHY[0] <= found / expected <= HEALTHY[1]

        return collapsed

    def _by_source(self, micrographs: Sequence[str]) -> list[str]:
        """Sorted by source and id, so that every second one is half of each source."""
        return sorted(micrographs, key=lambda name: (self._store.micrographs[name].source, name))


class Evaluator:
    """Scores the models of one experiment against true labels."""

    def __init__(
        self, config: Config, store: Store, stages: Stages, inference: Inference, report: OnProgress
    ) -> None:
        self._config, self._store, self._stages = config, store, stages
        self._inference, self._report = inference, report

    def evaluate(
        self, model: Predictor, ids: Sequence[str], *, weights: WeightsName, phase: str
    ) -> Evaluation:
        """Probability histograms and picks of a model on annotated micrographs, a durable stage.

        `phase` names the progress.
        """
        inputs = {
            **self._inference.inputs(model, weights),
            **self.inputs(ids),
            "micrographs": list(ids),
        }
        stage = self._stages.once(
            "evaluate", inputs, lambda folder: self._evaluate(folder, model, weights, ids, phase)
        )
        with np.load(stage.folder / "histograms.npz", allow_pickle=False) as arrays:
            histograms = arrays["histograms"]
        with np.load(stage.folder / "picks.npz", allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["counts"])[:-1]
            centres, scores = np.split(arrays["centres"], ends), np.split(arrays["scores"], ends)
        picked = tuple(
            self._picked(name, Picks(*picks))
            for name, *picks in zip(ids, centres, scores, strict=True)
        )
        return Evaluation(
            tuple(ids),
            tuple(self._store.micrographs[name].source for name in ids),
            histograms,
            picked,
        )

    def inputs(self, ids: Sequence[str]) -> dict[str, Any]:
        """What decides scores besides probabilities: the store's key lacks only the diameters."""
        diameters = {
            self._store.micrographs[name].source: self._store.diameter_px(name)
            / self._store.micrographs[name].scale
            for name in ids
        }
        return {
            "diameters_px": diameters,
            "views": self._config.evaluation.views,
        }

    def _evaluate(
        self, folder: Path, model: Predictor, weights: WeightsName, ids: Sequence[str], phase: str
    ) -> None:
        rows, picks = [], []
        for name, probabilities in self._inference.predict(
            self._inference.scored(model, weights), ids
        ):
            rows.append(
                [
                    histogram(probabilities, self._store.truth(name, border=border))
                    for border in (True, False)
                ]
            )
            radius_px = (
                self._config.input.particle_radius_fraction * self._store.diameter_px(name) / 2
            )
            picks.append(pick(probabilities, radius_px=radius_px))
            self._report(Progress(f"score {phase}", len(rows), len(ids), "micrograph"))
        np.savez(
            folder / "histograms.npz", histograms=np.array(rows, np.int64).reshape(-1, 2, 2, 256)
        )
        np.savez(
            folder / "picks.npz",
            counts=np.array([len(one.scores) for one in picks], np.int64),
            centres=np.concatenate([np.zeros((0, 2), np.float32), *(one.centres for one in picks)]),
            scores=np.concatenate([np.zeros(0, np.uint16), *(one.scores for one in picks)]),
        )

    def _picked(self, name: str, picks: Picks) -> Picked:
        """The picks of a micrograph and its particles, without those in the unlabelled border."""
        stored = self._store.micrographs[name]
        truths = self._store.centres(name)
        limits = {
            "height_px": stored.height_px,
            "width_px": stored.width_px,
            "border_px": stored.border_px,
        }
        return Picked(
            picks.within(**limits),
            truths[inside(truths, **limits)],
            self._config.evaluation.match_distance * self._store.diameter_px(name),
        )


def evaluator_by_eight_views(
    config: Config,
    store: Store,
    stages: Stages,
    *,
    device: torch.device,
    precision: Precision,
    report: OnProgress,
) -> Evaluator:
    """Scores models by the mean over eight views; its stages are those that `views=8` makes."""
    evaluation = config.evaluation.model_copy(update={"views": EIGHT})
    averaging = config.model_copy(update={"evaluation": evaluation})
    inference = Inference(averaging, store, stages, device=device, precision=precision)
    return Evaluator(averaging, store, stages, inference, report)
