"""The steps of one experiment (one data set, ratio and seed), each a durable stage: train, predict, select, evaluate.

What a step depends on goes into its stage's key, so a finished step is found again by any later start, and two
strategies that share a teacher share its predictions. True labels are read here in three places only: the labelled
part for training, validation and test for scores, and the hidden part for the audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from cryossl import network as networks
from cryossl import training
from cryossl.batches import Example, TileBatches
from cryossl.canonical import digest
from cryossl.checkpoints import Checkpoint, load_weights, save_weights
from cryossl.config import Config
from cryossl.device import Precision
from cryossl.durable import write_durably
from cryossl.errors import DataError
from cryossl.labels import IGNORE, LabelMap
from cryossl.metrics import best_threshold, counts_at, histogram
from cryossl.picking import Picks, inside, pick
from cryossl.prediction import predict
from cryossl.progress import Progress, Report, silent
from cryossl.pseudolabels import Pool, Selected
from cryossl.scorecard import Evaluation, Picked
from cryossl.selection import Selection
from cryossl.splits import Split
from cryossl.stages import Stage, Stages, key_of
from cryossl.store import Store
from cryossl.tiling import micrograph_of

METHOD = 1
"""Raised whenever the same inputs would give other numbers: finished stages of an older version are not taken for them."""
EVALUATION = 2
"""The same for what is counted of a finished model: trainings stay what they are."""

Part = Literal["validation", "test"]
Weights = Literal["last", "best"]
OnEpoch = Callable[[training.EpochRecord], None]


@dataclass(frozen=True)
class Model:
    """A trained network, by reference, and the story of its training."""

    stage: Stage
    steps: int
    best_step: int
    history: tuple[training.EpochRecord, ...]

    @property
    def seconds(self) -> float:
        """Time spent on training steps and validations, interruptions left out."""
        return sum(record.seconds for record in self.history)


class Experiment:
    """One data set, ratio and seed. Every method returns a finished stage, computed now or long ago."""

    def __init__(self, config: Config, store: Store, split: Split, stages: Stages, *, device: torch.device,
                 precision: Precision, report: Report) -> None:
        self.config, self.store, self.split = config, store, split
        self._stages, self._device, self._precision, self._report = stages, device, precision, report
        self.pool = Pool(store, split.unlabelled)
        self._predicted: set[str] = set()
        given = config.selection.target_particle_ratio
        self.target_ratio = store.particle_ratio(split.labelled) if given == "measured" else float(given)
        if self.target_ratio == 0:
            raise DataError("the labelled part has no particle pixel at this scale",
                            cure="label more, or give --target-particle-ratio a number")

    def fingerprint(self) -> str:
        """Names all that decides a number, except which strategies are run: equal fingerprints can be compared."""
        selection = self.config.selection.model_dump(mode="json", exclude={"strategies"})
        return digest({**self._training_inputs(), "selection": selection, "evaluation": self._evaluation_inputs(),
                       "match_distance": self.config.evaluation.match_distance, "split": self.split.digest(),
                       "loop": self.config.loop.model_dump(mode="json", exclude={"audit"}),
                       "epochs": [self.config.training.baseline_epochs, self.config.training.student_epochs],
                       "model": self.config.training.model})[:20]

    def fit(self, labelled: Sequence[str], selected: Selected | None, *, iteration: int, steps: int | None = None,
            on_epoch: OnEpoch) -> Model:
        """Train from the seed's initial weights on labelled items and pseudo-labels.

        Args:
            labelled: item ids.
            selected: pseudo-labels, or None for training on labels alone.
            iteration: 0 is the baseline, trained for `baseline_epochs`; students take `student_epochs`.
            steps: optimiser steps, in place of epochs.
            on_epoch: hears each epoch, also those of a training that was finished earlier.
        """
        examples = self._examples(labelled, self._labelled_maps(labelled))
        if selected is not None:
            examples += self._examples(selected.ids, selected.maps)
        batches = self._batches(examples, iteration)
        settings = self.config.training
        epochs = settings.baseline_epochs if iteration == 0 else settings.student_epochs
        steps = steps or epochs * batches.steps_per_epoch
        inputs = {**self._training_inputs(), "labelled": list(labelled), "iteration": iteration, "steps": steps,
                  "pseudo": selected.stage.key if selected else None, "validation": list(self.split.validation)}
        heard: set[int] = set()

        def hear(record: training.EpochRecord) -> None:
            heard.add(record.epoch)
            on_epoch(record)

        stage = self._stages.once("train", inputs, lambda folder: self._train(folder, batches, steps=steps,
                                                                              iteration=iteration, on_epoch=hear))
        record = json.loads((stage.folder / "training.json").read_text())
        history = tuple(training.EpochRecord(**entry) for entry in record["history"])
        for entry in history:
            if entry.epoch not in heard:
                on_epoch(entry)
        return Model(stage, steps, record["best_step"], history)

    def pseudo_label(self, teacher: Model, unlabelled: Sequence[str], selection: Selection) -> Selected:
        """Let the teacher label items of the pool, and select by the rules of a strategy. Sees no true label."""
        pool = Pool(self.store, unlabelled)
        labelled_count = len(self.split.labelled)
        teaching = {**self._weights_inputs(teacher, self.config.training.model), "pool": list(pool.micrographs)}
        # Also maps that an interrupted start left behind are removed at the end, though nothing here may need them again.
        self._predicted.add(key_of("predict", teaching))
        inputs = {"predicted": key_of("predict", teaching), "items": list(pool.items), "labelled": labelled_count,
                  "selection": {**asdict(selection), "keep": repr(selection.keep)}, "target": self.target_ratio}

        def predict_pool(folder: Path) -> None:
            network = self._loaded(teacher, self.config.training.model)
            pool.predict(folder, lambda ids: self._predict(network, ids), report=self._report)

        def choose(folder: Path) -> None:
            # Only here, for the maps are removed at the end of a run: a finished selection does not need them again.
            # Held, for another run below this work folder may share the teacher and end meanwhile.
            with self._stages.held("predict", teaching, predict_pool) as predicted:
                pool.select(predicted.folder, folder, selection, target_ratio=self.target_ratio,
                            labelled_count=labelled_count, report=self._report)

        return pool.selected(self._stages.once("select", inputs, choose))

    def evaluate(self, model: Model, part: Part, *, weights: Weights | None = None) -> Evaluation:
        """Probability histograms and picks of a model on validation or test; `weights` of the config unless given."""
        weights = weights or self.config.training.model
        ids = self.split.validation if part == "validation" else self.split.test
        inputs = {**self._weights_inputs(model, weights), **self._evaluation_inputs(), "micrographs": list(ids)}
        stage = self._stages.once("evaluate", inputs,
                                  lambda folder: self._evaluate(folder, model, weights, ids, phase=part))
        with np.load(stage.folder / "histograms.npz", allow_pickle=False) as arrays:
            histograms = arrays["histograms"]
        with np.load(stage.folder / "picks.npz", allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["counts"])[:-1]
            centres, scores = np.split(arrays["centres"], ends), np.split(arrays["scores"], ends)
        picked = tuple(self._picked(name, Picks(*picks)) for name, *picks in zip(ids, centres, scores, strict=True))
        return Evaluation(ids, tuple(self.store.micrographs[name].source for name in ids), histograms, picked)

    def probabilities(self, model: Model, ids: Sequence[str]) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        """p8 maps of a model, to be looked at."""
        return self._predict(self._loaded(model, self.config.training.model), ids)

    def most_steps(self) -> int:
        """Optimiser steps of a student that learns from the labelled part and the whole pool."""
        tiles = sum(len(self.store.tiles(item)) for item in (*self.split.labelled, *self.split.unlabelled))
        return self.config.training.student_epochs * -(-tiles // self.config.training.batch_size)

    def finish(self) -> None:
        """Remove what only served selections: the probability maps of the pool."""
        for key in self._predicted:
            self._stages.discard("predict", key)

    def _training_inputs(self) -> dict[str, Any]:
        settings = self.config.training
        return {"store": self.store.key, "network": self.config.network.model_dump(mode="json"),
                "seed": self.config.split.seed, "unit": self.config.split.label_unit,
                "training": settings.model_dump(mode="json", include={"batch_size", "learning_rate", "weight_decay",
                                                                      "validations"}),
                **self._arithmetic()}

    def _arithmetic(self) -> dict[str, Any]:
        """What decides the last bits: on the CPU sums over two threads round otherwise than over one."""
        threads = torch.get_num_threads() if self._device.type == "cpu" else None
        return {"method": METHOD, "torch": torch.__version__, "device": self._device.type, "precision": self._precision,
                "threads": threads}

    def _weights_inputs(self, model: Model, weights: Weights) -> dict[str, Any]:
        same = weights == "best" and model.best_step == model.steps
        return {"train": model.stage.key, "weights": "last" if same else weights, **self._arithmetic()}

    def _evaluation_inputs(self) -> dict[str, Any]:
        """What decides picks, beside the probabilities: the store's key holds all but the diameters."""
        diameters = {self.store.micrographs[name].source: self.store.diameter_px(name) / self.store.micrographs[name].scale
                     for name in (*self.split.validation, *self.split.test)}
        return {"evaluation": EVALUATION, "diameters_px": diameters}

    def _labelled_maps(self, items: Sequence[str]) -> dict[str, LabelMap]:
        """Micrograph -> its true label map, IGNORE wherever no labelled item answers and in the unannotated band."""
        maps: dict[str, LabelMap] = {}
        for item in items:
            micrograph = micrograph_of(item)
            truth = self.store.truth(micrograph, border=True)
            if item == micrograph:
                maps[micrograph] = truth
                continue
            whole = maps.setdefault(micrograph, np.full_like(truth, IGNORE))
            self.pool.cut(item, whole)[...] = self.pool.cut(item, truth)
        return maps

    def _examples(self, items: Sequence[str], maps: Mapping[str, LabelMap]) -> list[Example]:
        return [Example(tile, self.store.picture(tile.micrograph), maps[tile.micrograph])
                for item in items for tile in self.store.tiles(item)]

    def _batches(self, examples: Sequence[Example], iteration: int) -> TileBatches:
        return TileBatches(examples, batch_size=self.config.training.batch_size, tile_px=self.store.tile_px,
                           seed=self.config.split.seed, purpose="fit", iteration=iteration,
                           pinned=self._device.type == "cuda")

    def _train(self, folder: Path, batches: TileBatches, *, steps: int, iteration: int, on_epoch: OnEpoch) -> None:
        settings = self.config.training
        network = networks.build(self.config.network, seed=self.config.split.seed)
        checkpoint = Checkpoint(folder / "checkpoint", every_seconds=self.config.run.checkpoint_seconds)
        fitted = training.fit(
            network, batches, steps=steps, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            seed=self.config.split.seed, iteration=iteration, device=self._device, precision=self._precision,
            checkpoint=checkpoint, validate=self._validation_f1, validations=settings.validations, report=self._report,
            on_epoch=on_epoch)
        save_weights(fitted.last, folder / "last.safetensors")
        save_weights(fitted.best, folder / "best.safetensors")
        record = {"best_step": fitted.best_step, "history": [asdict(entry) for entry in fitted.history]}
        write_durably(folder / "training.json", json.dumps(record).encode())
        checkpoint.discard()

    def _validation_f1(self, network: torch.nn.Module) -> float | None:
        """Pooled F1 on validation at the threshold that is best there; None where it is undefined."""
        total = np.zeros((2, 256), np.int64)
        for name, probabilities in self._predict(network, self.split.validation):
            total += histogram(probabilities, self.store.truth(name, border=True))
        return counts_at(total, best_threshold(total)).scores().f1

    def _evaluate(self, folder: Path, model: Model, weights: Weights, ids: Sequence[str], *, phase: str) -> None:
        rows, picks = [], []
        for name, probabilities in self._predict(self._loaded(model, weights), ids):
            rows.append([histogram(probabilities, self.store.truth(name, border=border)) for border in (True, False)])
            radius_px = self.config.input.particle_radius_fraction * self.store.diameter_px(name) / 2
            picks.append(pick(probabilities, radius_px=radius_px))
            self._report(Progress(f"score {phase}", len(rows), len(ids), "micrograph"))
        np.savez(folder / "histograms.npz", histograms=np.array(rows, np.int64).reshape(-1, 2, 2, 256))
        np.savez(folder / "picks.npz", counts=np.array([len(one.scores) for one in picks], np.int64),
                 centres=np.concatenate([np.zeros((0, 2), np.float32), *(one.centres for one in picks)]),
                 scores=np.concatenate([np.zeros(0, np.uint16), *(one.scores for one in picks)]))

    def _picked(self, name: str, picks: Picks) -> Picked:
        """The picks of a micrograph and its particles, those in the band that nobody annotated left out of both."""
        stored = self.store.micrographs[name]
        truths = self.store.centres(name)
        limits = {"height_px": stored.height_px, "width_px": stored.width_px, "border_px": stored.border_px}
        return Picked(picks.within(**limits), truths[inside(truths, **limits)],
                      self.config.evaluation.match_distance * self.store.diameter_px(name))

    def _loaded(self, model: Model, weights: Weights) -> torch.nn.Module:
        network = networks.build(self.config.network, seed=self.config.split.seed)
        network.load_state_dict(load_weights(model.stage.folder / f"{weights}.safetensors"))
        return network.to(self._device)

    def _predict(self, network: torch.nn.Module,
                 ids: Sequence[str]) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        return predict(network, self.store, ids, batch_size=self.config.training.batch_size, device=self._device,
                       precision=self._precision, report=silent)
