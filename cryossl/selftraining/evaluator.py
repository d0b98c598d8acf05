"""What a trained network finds on annotated micrographs: histograms of its probabilities, and its picks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryossl.config import Config
from cryossl.data.store.store import Store
from cryossl.evaluation.metrics import histogram
from cryossl.evaluation.picking import Picks, inside, pick
from cryossl.evaluation.scores import Evaluation, Picked
from cryossl.progress.events import Progress, Report
from cryossl.selftraining.models import Inference, Model, Weights
from cryossl.system.stages import Stages

EVALUATION = 2
"""Raised whenever the same model would be given other numbers: trainings stay what they are."""


class Evaluator:
    """Scores the models of one experiment against true labels."""

    def __init__(
        self, config: Config, store: Store, stages: Stages, inference: Inference, report: Report
    ) -> None:
        self._config, self._store, self._stages, self._inference, self._report = (
            config,
            store,
            stages,
            inference,
            report,
        )

    def evaluate(
        self, model: Model, ids: Sequence[str], *, weights: Weights, phase: str
    ) -> Evaluation:
        """Probability histograms and picks of a model on annotated micrographs, a durable stage;

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
        """What decides picks, beside the probabilities: the store's key holds all but the diameters."""
        diameters = {
            self._store.micrographs[name].source: self._store.diameter_px(name)
            / self._store.micrographs[name].scale
            for name in ids
        }
        return {
            "evaluation": EVALUATION,
            "diameters_px": diameters,
            "views": self._config.evaluation.views,
        }

    def _evaluate(
        self, folder: Path, model: Model, weights: Weights, ids: Sequence[str], phase: str
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
        """The picks of a micrograph and its particles, those in the band that nobody annotated left out of both."""
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
