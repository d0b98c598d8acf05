"""The models of an experiment as its runs keep them: files that pick, and MLflow's models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryossl.evaluation.metrics import Numbers
from cryossl.evaluation.scorings import RANKING
from cryossl.network.picking_model import MODEL_FILE, PickingModel
from cryossl.selftraining.steps import Experiment
from cryossl.system.digest import digest
from cryossl.tracking.run import TrackedRun


class LoggedModels:
    """What is kept of the trained models of one experiment."""

    def __init__(self, experiment: Experiment, package: Callable[[], bytes]) -> None:
        """Connect with an experiment.

        Args:
            experiment: that trains the models.
            package: gives what MLflow needs to load a model besides its file.
        """
        self._experiment, self._package = experiment, package
        self._accepted: list[tuple[TrackedRun, Numbers]] = []

    def keep(self, run: TrackedRun, model: PickingModel) -> None:
        """Keep a model as a file of its run."""
        run.binary(model.to_bytes(), MODEL_FILE)

    def log(self, run: TrackedRun, name: str, numbers: Numbers, *, iteration: int) -> None:
        """Log a kept model as MLflow loads it: the baseline, or what an arm accepted.

        Args:
            run: of the model.
            name: of its strategy.
            numbers: its scores.
            iteration: of the model.
        """
        config, store = self._experiment.config, self._experiment.store
        self._accepted.append((run, numbers))
        run.model(
            name,
            MODEL_FILE,
            self._package,
            facts={
                key: value
                for key, value in config.flat().items()
                if key.startswith(("network.", "evaluation."))
            },
            dataset=(Path(config.input.data).name or "data", store.key),
            step=iteration,
        )

    def register(self) -> None:
        """Register the logged model that is best on validation, if the settings name it.

        Particles decide where all models were scored by them, else pixels; eight views where all
        were scored so, else one. Of equals it is the first one, which took the least. The data, the
        validation part and the metric are in the digest with which a version says what its score is
        of.
        """
        config = self._experiment.config
        for metric in RANKING:
            scored = [
                (score, run)
                for run, numbers in self._accepted
                if (score := numbers.get(metric)) is not None
            ]
            if config.run.register_as and scored and len(scored) == len(self._accepted):
                score, best = max(scored, key=lambda pair: pair[0])
                scored_on = {
                    "data": self._experiment.data_digest(),
                    "validation": sorted(self._experiment.split.validation),
                    "metric": metric,
                    "match_distance": config.evaluation.match_distance,
                }
                best.register(config.run.register_as, score=score, scored_on=digest(scored_on)[:16])
                best.finish()
                return
