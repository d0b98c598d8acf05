"""The models of an experiment as its runs keep them: files that pick, and MLflow's models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryossl.evaluation.best_model import best_of
from cryossl.evaluation.metrics import Numbers
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
        self._accepted: list[tuple[TrackedRun, str, Numbers]] = []

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
        self._accepted.append((run, name, numbers))
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

    def register(self) -> str:
        """Register the logged model that `best_of` chooses, if the settings name it.

        The data, the validation part and the metric are in the digest with which a version says
        what its score is of.

        Returns what a user should know, or nothing: that `full` scored higher and was passed over.
        """
        config = self._experiment.config
        best = best_of(
            [(name, numbers) for _, name, numbers in self._accepted],
            fitted=config.split.validation_from == "labelled",
        )
        if not config.run.register_as or best is None:
            return ""
        scored_on = {
            "data": self._experiment.data_digest(),
            "validation": sorted(self._experiment.split.validation),
            "metric": best.metric,
            "match_distance": config.evaluation.match_distance,
        }
        run, name, _ = self._accepted[best.number]
        run.register(config.run.register_as, score=best.score, scored_on=digest(scored_on)[:16])
        run.finish()
        if best.passed_over is None:
            return ""
        other = self._accepted[best.passed_over][1]
        return (
            f"{other} scored higher on validation than {name}, and is not registered: it learned "
            "from the labels that the experiment hides"
        )
