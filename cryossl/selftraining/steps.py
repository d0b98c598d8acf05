"""The steps of one experiment, each a durable stage: train, predict, select, evaluate.

An experiment is one data set, ratio and seed.

What a step depends on goes into its stage's key, so a finished step is found again by any later
start, and two strategies that share a teacher share its predictions. True labels are read here in
three places only: the labelled part for training, validation and test for scores, and the hidden
part for the audit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from cryossl.config import Config
from cryossl.data.splits import Split
from cryossl.data.store.store import Store
from cryossl.data.tiling import micrograph_of
from cryossl.errors import DataError
from cryossl.evaluation.scores import Evaluation
from cryossl.network import architecture as networks
from cryossl.network import training
from cryossl.network.batches import Sampling
from cryossl.network.device import Precision
from cryossl.network.examples import student_batches
from cryossl.network.objectives.objective import Objective
from cryossl.progress.events import OnProgress
from cryossl.pseudolabels.pool import Pool, Selected
from cryossl.pseudolabels.priors import shrunk_priors
from cryossl.pseudolabels.recipe import Learning, Teaching
from cryossl.pseudolabels.strategies import Recipe
from cryossl.randomness import seed_of
from cryossl.selftraining.models import (
    Calibration,
    Evaluator,
    Inference,
    Model,
    Predictor,
    WeightsName,
)
from cryossl.selftraining.training_stage import OnEpoch, objective_of, train_into
from cryossl.strategy_settings import config_of_strategy
from cryossl.system.digest import digest
from cryossl.system.stages import Code, Stages

Part = Literal["validation", "test"]


class Experiment:
    """One data set, ratio and seed.

    Every method returns a finished stage, computed now or long ago.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        split: Split,
        stages: Stages,
        *,
        device: torch.device,
        precision: Precision,
        report: OnProgress,
    ) -> None:
        self.config, self.store, self.split = config, store, split
        self._stages, self._report = stages, report
        self._inference = Inference(config, store, stages, device=device, precision=precision)
        self._evaluator = Evaluator(config, store, stages, self._inference, report)
        self.pool = Pool(store, split.unlabelled)
        self._predicted: dict[str, str] = {}  # key of maps -> key of their teacher's training
        given = config.selection.target_particle_ratio
        self.target_ratio = (
            store.particle_ratio(split.labelled) if given == "measured" else float(given)
        )
        if self.target_ratio == 0:
            raise DataError(
                "the labelled part has no particle pixel at this scale",
                cure="label more, or give --target-particle-ratio a number",
            )
        by_source: dict[str, list[str]] = {}
        for item in split.labelled:
            by_source.setdefault(store.micrographs[micrograph_of(item)].source, []).append(item)
        self.priors = shrunk_priors(
            self.target_ratio,
            labelled={source: len(items) for source, items in by_source.items()},
            ratios={source: store.particle_ratio(items) for source, items in by_source.items()},
        )

    def for_strategy(self, strategy: str) -> Experiment:
        """The same experiment with the settings that a strategy has for itself."""
        config = config_of_strategy(self.config, strategy)
        if config == self.config:
            return self
        device, precision = self._inference.device, self._inference.precision
        return Experiment(
            config,
            self.store,
            self.split,
            self._stages,
            device=device,
            precision=precision,
            report=self._report,
        )

    def fingerprint(self) -> str:
        """Names all that decides a number, except which strategies run.

        Experiments with equal fingerprints can be compared.
        """
        return digest(
            {
                **self._training_inputs(),
                **self.config.values_deciding("result"),
                **self._evaluator.inputs((*self.split.validation, *self.split.test)),
                "split": self.split.digest(),
                "code": dict(self._stages.code),
                "kept_code": [dict(code) for code in self._stages.kept],
            }
        )[:20]

    def data_digest(self) -> str:
        """Names the data set, and the labelled list where one decides the split.

        Seeds and ratios of one data set have the same; settings and code do not matter.
        """
        listed = self.split.labelled if self.config.split.labelled is not None else None
        return digest({"data": self.store.data_digest, "labelled": listed})[:20]

    def fit(
        self,
        labelled: Sequence[str],
        selected: Selected | None,
        *,
        iteration: int,
        on_epoch: OnEpoch,
        steps: int | None = None,
        learning: Learning | None = None,
        teacher: Model | None = None,
        member: int = 0,
    ) -> Model:
        """Train on labelled items and pseudo-labels.

        Args:
            labelled: item ids.
            selected: pseudo-labels, or None for training on labels alone.
            iteration: of self-training; 0 is the baseline.
            on_epoch: called with each epoch, also with those of a training that finished earlier.
            steps: optimiser steps, in place of what `training.steps_for` says.
            learning: how the student learns; like the baseline unless given.
            teacher: whose weights a warm start takes; without one, the seed's initial weights.
            member: of an ensemble; each number has initial weights of its own, 0 has the seed's.
        """
        learning = learning or Learning()
        settings = self.config.training
        items = labelled if selected is None else (*labelled, *selected.ids)
        steps = steps or training.steps_for(
            settings, tiles=self._tiles(items), student=iteration > 0
        )
        sampling = Sampling(
            settings.batch_size,
            self.store.tile_px,
            seed=self.config.split.seed,
            iteration=iteration,
            shift_px=round(settings.tile_shift * self.store.tile_px),
            pinned=self._inference.device.type == "cuda",
        )
        batches = student_batches(
            self.store, labelled, selected, learning, sampling=sampling, steps=steps
        )
        objective = self._objective(learning, iteration)
        warm = teacher if learning.warm_start else None
        inputs = {
            **self._training_inputs(),
            "labelled": list(labelled),
            "iteration": iteration,
            "steps": steps,
            "pseudo": selected.stage.key if selected else None,
            "validation": list(self.split.validation),
            "learning": asdict(learning),
            "objective": objective.identity(),
            "warm_start": None if warm is None else self._inference.inputs(warm, settings.model),
            **({"member": member} if member else {}),
        }
        reported: set[int] = set()

        def report_epoch(record: training.EpochRecord) -> None:
            reported.add(record.epoch)
            on_epoch(record)

        stage = self._stages.once(
            "train",
            inputs,
            lambda folder: train_into(
                folder,
                self._initial(warm, member),
                batches,
                objective,
                config=self.config,
                inference=self._inference,
                validation=self.split.validation,
                steps=steps,
                iteration=iteration,
                on_epoch=report_epoch,
                watch=None
                if selected is None
                else self._inference.watch(selected, self.pool, self.priors),
                report=self._report,
            ),
        )
        record = json.loads((stage.folder / "training.json").read_text())
        history = tuple(training.EpochRecord(**entry) for entry in record["history"])
        for entry in history:
            if entry.epoch not in reported:
                on_epoch(entry)
        return Model(
            stage, record["steps"], record["best_step"], history, collapsed=record["collapsed"]
        )

    def pseudo_label(self, teacher: Model, unlabelled: Sequence[str], recipe: Recipe) -> Selected:
        """Label items of the pool by the teacher, and select by the recipe of a strategy.

        No true label is read here.
        """
        pool = Pool(self.store, unlabelled)
        model = self.config.training.model
        times: tuple[WeightsName, ...] = (
            ("first_third", "second_third", model) if recipe.teaching.snapshots else (model,)
        )
        predictions = [
            self._prediction_inputs(teacher, weights, recipe.teaching, pool) for weights in times
        ]
        # Maps that an interrupted start left behind are removed at the end too.
        self._predicted |= {
            self._stages.key_of("predict", each): teacher.stage.key for each in predictions
        }

        def inputs(code: Code) -> dict[str, Any]:
            return {
                "predicted": [self._stages.key_of("predict", each, code) for each in predictions],
                "items": list(pool.items),
                "selection": {**asdict(recipe.selection), "keep": repr(recipe.selection.keep)},
                "priors": asdict(self.priors),
            }

        def choose(folder: Path) -> None:
            # The maps are removed at the end of a run, and a finished selection does not need them,
            # so they are made here. They are held, because another run in this work folder may
            # share the teacher and end meanwhile.
            with ExitStack() as stack:
                *earlier, predicted = [
                    stack.enter_context(
                        self._stages.held(
                            "predict",
                            each,
                            self._inference.predictor(
                                teacher,
                                weights,
                                recipe.teaching,
                                temperature=each["temperature"],
                                pool=pool,
                                report=self._report,
                            ),
                        )
                    )
                    for each, weights in zip(predictions, times, strict=True)
                ]
                pool.select(
                    predicted.folder,
                    folder,
                    recipe.selection,
                    priors=self.priors,
                    report=self._report,
                    earlier=[stage.folder for stage in earlier],
                )

        return pool.selected(self._stages.once("select", inputs, choose))

    def calibration(self, model: Model) -> Calibration:
        """A model's temperature and calibration error, on halves of validation."""
        return self._inference.calibration(model, self.split.validation)

    def evaluate(
        self, model: Predictor, part: Part, *, weights: WeightsName | None = None
    ) -> Evaluation:
        """Probability histograms and picks of a model on validation or test.

        `weights`: those that the config names, unless given.
        """
        ids = self.split.validation if part == "validation" else self.split.test
        return self._evaluator.evaluate(
            model, ids, weights=weights or self.config.training.model, phase=part
        )

    def probabilities(
        self, model: Predictor, ids: Sequence[str]
    ) -> Iterator[tuple[str, UInt8[np.ndarray, "height width"]]]:
        """p8 maps of a model, for pictures."""
        return self._inference.predict(
            self._inference.scored(model, self.config.training.model), ids
        )

    def most_steps(self) -> int:
        """Optimiser steps of a student that learns from the labelled part and the whole pool."""
        tiles = self._tiles((*self.split.labelled, *self.split.unlabelled))
        return training.steps_for(self.config.training, tiles=tiles, student=True)

    def all_annotated(self) -> tuple[str, ...]:
        """What `full` learns from: the labelled items, and the annotated ones of the pool."""
        hidden = (
            item
            for item in self.split.unlabelled
            if self.store.micrographs[micrograph_of(item)].annotated
        )
        return (*self.split.labelled, *hidden)

    def finish(self, *, but_of: Model | None = None) -> None:
        """Remove what only served selections: the probability maps of the pool.

        `but_of`: the teacher whose maps stay, because other runs may select from them.
        """
        for key, teacher in self._predicted.items():
            if but_of is None or teacher != but_of.stage.key:
                self._stages.discard("predict", key)

    def _tiles(self, items: Sequence[str]) -> int:
        return sum(len(self.store.tiles(item)) for item in items)

    def _training_inputs(self) -> dict[str, Any]:
        return {
            "store": self.store.key,
            "seed": self.config.split.seed,
            "unit": self.config.split.label_unit,
            **self.config.values_deciding("training"),
            **self._inference.arithmetic(),
        }

    def _prediction_inputs(
        self, teacher: Model, weights: WeightsName, teaching: Teaching, pool: Pool
    ) -> dict[str, Any]:
        """What a teacher's maps of the pool depend on."""
        temperature = self.calibration(teacher).temperature if teaching.calibrated else None
        return {
            **self._inference.inputs(teacher, weights),
            "pool": list(pool.micrographs),
            "views": teaching.views,
            "temperature": temperature,
        }

    def _objective(self, learning: Learning, iteration: int) -> Objective:
        return objective_of(self.config, learning, self.priors, iteration=iteration)

    def _initial(self, warm: Model | None, member: int) -> torch.nn.Module:
        """The network that a training starts from."""
        if warm is not None:
            return self._inference.load(warm, self.config.training.model)
        seed = self.config.split.seed
        drawn = seed_of(seed, "member", member) if member else seed
        return networks.build(self.config.network, seed=drawn)
