"""The stage of one training: its objective, the training, and the files that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from cryossl.config import Config
from cryossl.evaluation.metrics import best_threshold, counts_at
from cryossl.network import training
from cryossl.network.batches import Batches
from cryossl.network.checkpoints import Checkpoint, save_weights
from cryossl.network.objectives.averaged import Averaged
from cryossl.network.objectives.objective import Objective
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.progress.events import OnProgress
from cryossl.pseudolabels.priors import Priors
from cryossl.pseudolabels.recipe import Learning
from cryossl.selftraining.models import Inference, WeightsName
from cryossl.system.files import write_durably

OnEpoch = Callable[[training.EpochRecord], None]


def objective_of(
    config: Config, learning: Learning, priors: Priors, *, iteration: int
) -> Objective:
    """What a training minimises, by the settings and by how a strategy learns."""
    settings, seed = config.training, config.split.seed
    any_angle = settings.augment == "any"
    objective: Objective
    if learning.consistency is None:
        objective = Supervised(
            seed=seed,
            iteration=iteration,
            loss=learning.loss,
            prior=priors.ratio,
            noise=learning.noised,
            any_angle=any_angle,
        )
    else:
        objective = OnlineTeacher(
            seed=seed,
            iteration=iteration,
            loss=learning.loss,
            settings=learning.consistency,
            priors=priors.by_source,
            prior=priors.ratio,
            any_angle=any_angle,
        )
    decay = settings.average_decay
    return Averaged(objective, decay=decay) if decay else objective


def train_into(  # noqa: PLR0913
    folder: Path,
    network: torch.nn.Module,
    batches: Batches,
    objective: Objective,
    *,
    config: Config,
    inference: Inference,
    validation: Sequence[str],
    steps: int,
    iteration: int,
    on_epoch: OnEpoch,
    watch: training.Watch | None,
    report: OnProgress,
) -> None:
    """Train, and write the weights and `training.json`; an interrupted training goes on.

    Args:
        folder: of the stage; its checkpoint is removed at the end.
        network: the weights to start from.
        batches: step -> tiles.
        objective: what a step minimises.
        config: its training settings and seed.
        inference: device and number format, and the predictions on validation.
        validation: item ids.
        steps: optimiser steps.
        iteration: of self-training; 0 is the baseline.
        on_epoch: called with each epoch.
        watch: whether a network seems to have collapsed; None without pseudo-labels.
        report: called with the progress.
    """
    settings = config.training

    def validation_f1(scored: torch.nn.Module) -> float | None:
        """Pooled F1 at the threshold that is best on validation, or None if undefined."""
        total = inference.histogram(scored, validation)
        return counts_at(total, best_threshold(total)).scores().f1

    checkpoint = Checkpoint(folder / "checkpoint", every_seconds=config.run.checkpoint_seconds)
    fitted = training.fit(
        network,
        batches,
        training.Hyperparameters(
            steps=steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            seed=config.split.seed,
            iteration=iteration,
            precision=inference.precision,
            validations=settings.validations,
            patience=settings.patience,
        ),
        device=inference.device,
        checkpoint=checkpoint,
        validate=validation_f1,
        report=report,
        on_epoch=on_epoch,
        objective=objective,
        watch=watch,
        captured=settings.cuda_graph and inference.device.type == "cuda",
    )
    named: dict[WeightsName, Mapping[str, torch.Tensor]] = {
        "last": fitted.last,
        "best": fitted.best,
    }
    named |= dict(zip(("first_third", "second_third"), fitted.snapshots, strict=False))
    for name, weights in named.items():
        save_weights(weights, folder / f"{name}.safetensors")
    record = {
        "steps": fitted.history[-1].step,
        "best_step": fitted.best_step,
        "collapsed": fitted.collapsed,
        "history": [asdict(entry) for entry in fitted.history],
    }
    write_durably(folder / "training.json", json.dumps(record).encode())
    checkpoint.discard()
