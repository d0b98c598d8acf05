"""One invocation on one data set, ratio and seed: the baseline once, then every strategy from it.

The method is `loop.self_train`. Here its steps get their names, and every result is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from cryossl.config import Config
from cryossl.data.splits import Split, chosen_on
from cryossl.data.store.store import Store
from cryossl.errors import FailedArmsError, NumericError
from cryossl.evaluation.metrics import Counts
from cryossl.evaluation.scores import Evaluation, Scored
from cryossl.evaluation.scorings import Scorings
from cryossl.network.device import Precision
from cryossl.progress.eta import PlannedPhase
from cryossl.progress.events import OnProgress
from cryossl.progress.narrator import Narrator
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.recipe import Learning
from cryossl.pseudolabels.strategies import Recipe, recipe_for, rounds_of
from cryossl.randomness import generator
from cryossl.selftraining import acceptance
from cryossl.selftraining.loop import IterationResult, self_train
from cryossl.selftraining.models import (
    Committee,
    Evaluator,
    Model,
    Predictor,
    evaluator_by_eight_views,
)
from cryossl.selftraining.records import messages
from cryossl.selftraining.records.recorder import Recorder, Trained
from cryossl.selftraining.stage_code import StageCode
from cryossl.selftraining.steps import Experiment, Part
from cryossl.strategy_names import (
    BASELINE,
    CONTROLS,
    ENSEMBLE,
    FULL,
    NOISED,
    without_pseudo_labels,
)
from cryossl.system.stages import Stages
from cryossl.tracking.run import TrackedRun

_PARTS: tuple[Part, Part] = ("validation", "test")
TEST_SHARE = 0.05
"""Cost of the scores on the test part beside that of a training, where nothing better is known."""


def plan(
    strategies: Sequence[str], *, iterations: int, ensemble_networks: int = 2
) -> list[PlannedPhase]:
    """The phases of an invocation in order, for the estimate of the time that is left."""
    phases = [PlannedPhase("Load the data", share=0.0)]
    for strategy in (BASELINE, *_ordered(strategies, iterations)):
        phases += [
            PlannedPhase(phase_title(strategy, number), measured_by="train")
            for number in _numbers(strategy, iterations, ensemble_networks)
        ]
        if not without_pseudo_labels(strategy):
            phases.append(PlannedPhase(phase_title(strategy, None), share=TEST_SHARE))
    return phases


def phase_title(strategy: str, iteration: int | None) -> str:
    """The title of the phase of an iteration; None: of the models' scores on the test part.

    An ensemble has a phase for each network after the first, counted from 1.
    """
    if strategy == ENSEMBLE and iteration is not None:
        return f"{strategy}: network {iteration + 1}"
    if without_pseudo_labels(strategy):
        return strategy
    return f"{strategy}: " + ("test part" if iteration is None else f"iteration {iteration}")


def left_out(strategies: Sequence[str], *, iterations: int) -> str:
    """A sentence on the strategies that no iteration means; "" if there is one."""
    if iterations or not strategies:
        return ""
    return (
        "max_iterations is 0: the supervised baseline alone is trained, without "
        f"{', '.join(strategies)}"
    )


def _numbers(strategy: str, iterations: int, ensemble_networks: int) -> range:
    if strategy == BASELINE:
        return range(1)
    if strategy == ENSEMBLE:
        return range(1, ensemble_networks)
    return range(1, rounds_of(strategy, iterations) + 1)


class Scoring:
    """Scores the trained models of one experiment, by the setting `views` and by eight views.

    The gate and the choice of a training's best step do not see the second scoring, which reports
    alone.
    """

    def __init__(
        self,
        experiment: Experiment,
        stages: Stages,
        *,
        device: torch.device,
        precision: Precision,
        report: OnProgress,
    ) -> None:
        self._experiment = experiment
        self._eight: Evaluator | None = None
        config, store = experiment.config, experiment.store
        if config.evaluation.eight_views:
            self._eight = evaluator_by_eight_views(
                config, store, stages, device=device, precision=precision, report=report
            )

    def score(self, model: Predictor) -> Scorings:
        """Both scorings of a model, each with thresholds of its own, chosen on validation."""
        single = _scored(*(self._experiment.evaluate(model, part) for part in _PARTS))
        if self._eight is None:
            return Scorings(single)
        split, weights = self._experiment.split, self._experiment.config.training.model
        ids = {"validation": split.validation, "test": split.test}
        return Scorings(
            single,
            _scored(
                *(
                    self._eight.evaluate(
                        model, ids[part], weights=weights, phase=f"{part}, eight views"
                    )
                    for part in _PARTS
                )
            ),
        )


def experiment_of(
    config: Config,
    store: Store,
    split: Split,
    code: StageCode,
    *,
    device: torch.device,
    precision: Precision,
    report: OnProgress,
    notice: Callable[[str], None],
) -> tuple[Experiment, Scoring]:
    """The experiment of a config, and the scoring of its models, on the same stages.

    `notice` is called with a line for each damaged stage.
    """
    stages = Stages(config.run.stages, code=code.present, kept=code.kept, notice=notice)
    experiment = Experiment(
        config, store, split, stages, device=device, precision=precision, report=report
    )
    scoring = Scoring(experiment, stages, device=device, precision=precision, report=report)
    return experiment, scoring


class Arms:
    """Runs the arms of one experiment."""

    def __init__(
        self, experiment: Experiment, scoring: Scoring, recorder: Recorder, narrator: Narrator
    ) -> None:
        self._experiment, self._recorder, self._narrator = experiment, recorder, narrator
        self._scoring = scoring
        self._settings = experiment.config
        self._longest_steps = 0
        self._experiments = [experiment]

    def run(self) -> None:
        """Train the baseline, then every strategy, then the controls.

        The controls come last because they take as many steps as the longest student. Raises
        FailedArmsError at the end if strategies reached numbers that are not finite; the other
        strategies run all the same.
        """
        self._narrator.begin(phase_title(BASELINE, 0))
        with self._recorder.iteration(BASELINE, 0) as run:
            model = self._experiment.fit(
                self._experiment.split.labelled,
                None,
                iteration=0,
                on_epoch=self._recorder.epochs(run),
            )
            baseline = Trained(0, model, self._scoring.score(model), None, run, accepted=True)
            self._recorder.record(baseline, strategy=BASELINE, baseline=None)
        faults: dict[str, NumericError] = {}
        for strategy in _ordered(
            self._settings.selection.strategies, self._settings.loop.max_iterations
        ):
            try:
                if strategy in CONTROLS:
                    self._control(strategy, baseline)
                else:
                    self._arm(strategy, baseline)
            except NumericError as fault:
                faults[strategy] = fault
                self._narrator.say(f"❌ {strategy} failed: {fault}")
        self._recorder.judge_arms()
        kept = model if self._settings.run.keep_maps else None
        for experiment in self._experiments:
            experiment.finish(but_of=kept)
        if faults:
            raise FailedArmsError(faults, experiment=self._experiment.fingerprint())

    def _arm(self, strategy: str, baseline: Trained) -> None:
        """Run one strategy: first the loop on validation, then the test part for all its models."""
        experiment = self._experiment_of(strategy)
        with ExitStack() as open_runs:
            arm = open_runs.enter_context(self._recorder.open_arm(strategy))
            steps = _Steps(
                strategy, baseline, experiment, self._recorder, self._narrator, open_runs
            )
            try:
                outcome = self_train(
                    self._experiment.split,
                    iterations=rounds_of(strategy, self._settings.loop.max_iterations),
                    fit=steps.fit,
                    pseudo_label=steps.pseudo_label,
                    evaluate=steps.evaluate,
                    accept=steps.accept,
                )
            finally:
                self._longest_steps = max(self._longest_steps, steps.longest)
            self._narrator.begin(phase_title(strategy, None))
            models = [baseline]
            for result in outcome.results[1:]:
                student, learned = result.model, result.pseudo_labels
                models.append(
                    Trained(
                        result.iteration,
                        student.model,
                        self._scoring.score(student.model),
                        learned.selected if learned else None,
                        student.run,
                        accepted=result.accepted,
                    )
                )
                self._recorder.record(models[-1], strategy=strategy, baseline=baseline)
            empty = None
            if outcome.empty is not None:
                empty = outcome.empty.selected.summary
                self._recorder.nothing_selected(
                    arm, len(models), empty, outcome.empty.recipe.selection
                )
            reason = "collapsed" if models[-1].model.collapsed else outcome.stop_reason
            self._recorder.close_arm(arm, strategy, models, reason, empty)

    def _control(self, strategy: str, baseline: Trained) -> None:
        """True labels alone.

        Either for as many steps as the longest student, or the same under noise, or several times,
        or with all labels that there are.
        """
        experiment = self._experiment_of(strategy)
        if strategy == FULL:
            steps, labelled = experiment.most_steps(), experiment.all_annotated()
        else:
            steps = self._longest_steps or experiment.most_steps()
            labelled = experiment.split.labelled
        # The steps are part of the runs' names: after other students it is another control.
        with (
            self._recorder.open_arm(strategy, steps) as arm,
            self._recorder.iteration(strategy, 1, steps) as run,
        ):
            model: Predictor
            if strategy == ENSEMBLE:
                model = self._ensemble(experiment, baseline, run, steps=steps)
            else:
                self._narrator.begin(phase_title(strategy, 1))
                model = experiment.fit(
                    labelled,
                    None,
                    iteration=1,
                    steps=steps,
                    on_epoch=self._recorder.epochs(run),
                    learning=Learning(noised=strategy == NOISED),
                )
            trained = Trained(1, model, self._scoring.score(model), None, run, accepted=True)
            self._recorder.record(trained, strategy=strategy, baseline=baseline)
            self._recorder.close_arm(arm, strategy, [baseline, trained], "iterations done", None)

    def _ensemble(
        self, experiment: Experiment, baseline: Trained, run: TrackedRun, *, steps: int
    ) -> Committee:
        """The baseline and further networks that learn from the labels alone.

        They differ in their initial weights and in the draws of their trainings. The epochs of one
        are counted on from those of the one before it.
        """
        members = list(baseline.model.members)
        epochs = 0
        for number in range(1, self._settings.loop.ensemble_networks):
            self._narrator.begin(phase_title(ENSEMBLE, number))
            model = experiment.fit(
                experiment.split.labelled,
                None,
                iteration=number,
                steps=steps,
                on_epoch=self._recorder.epochs(run, after=epochs),
                member=number,
            )
            members.append(model)
            epochs += len(model.history)
        return Committee(tuple(members))

    def _experiment_of(self, strategy: str) -> Experiment:
        """The experiment with the settings that a strategy has for itself."""
        own = self._experiment.for_strategy(strategy)
        if own is not self._experiment:
            self._experiments.append(own)
        return own


@dataclass(frozen=True)
class _Student:
    """A trained model and the run that records it."""

    model: Model
    run: TrackedRun


@dataclass(frozen=True)
class _PseudoLabels:
    """Selected pseudo-labels, with the teacher that made them and the recipe that it followed."""

    selected: Selected
    teacher: Model
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.selected)


_Result = IterationResult[_Student, _PseudoLabels, Evaluation]


class _Steps:
    """The steps of `self_train` for one strategy; `longest`: most optimiser steps of a student."""

    def __init__(
        self,
        strategy: str,
        baseline: Trained,
        experiment: Experiment,
        recorder: Recorder,
        narrator: Narrator,
        open_runs: ExitStack,
    ) -> None:
        self._strategy, self._baseline, self._experiment = strategy, baseline, experiment
        self._recorder, self._narrator, self._open_runs = recorder, narrator, open_runs
        self._settings = experiment.config
        self.longest = 0

    def pseudo_label(
        self, teacher: _Student, unlabelled: tuple[str, ...], iteration: int
    ) -> _PseudoLabels:
        """The teacher labels the pool, and the strategy's recipe selects."""
        self._narrator.begin(phase_title(self._strategy, iteration))
        recipe = recipe_for(self._strategy, self._settings.selection, iteration=iteration)
        selected = self._experiment.pseudo_label(teacher.model, unlabelled, recipe)
        messages.report_selection(self._narrator, self._strategy, selected.summary)
        return _PseudoLabels(selected, teacher.model, recipe)

    def fit(
        self, labelled: tuple[str, ...], pseudo_labels: _PseudoLabels | None, iteration: int
    ) -> _Student:
        """Train a student on labels and pseudo-labels; the baseline is trained already."""
        if pseudo_labels is None:
            (model,) = self._baseline.model.members
            return _Student(model, self._baseline.run)
        teacher, recipe = pseudo_labels.teacher, pseudo_labels.recipe
        run = self._open_runs.enter_context(self._recorder.iteration(self._strategy, iteration))
        calibration = self._experiment.calibration(teacher) if recipe.teaching.calibrated else None
        self._recorder.selection(run, iteration, pseudo_labels.selected, recipe, calibration)
        model = self._experiment.fit(
            labelled,
            pseudo_labels.selected,
            iteration=iteration,
            on_epoch=self._recorder.epochs(run),
            learning=recipe.learning,
            teacher=teacher,
        )
        self.longest = max(self.longest, model.steps)
        return _Student(model, run)

    def evaluate(self, student: _Student) -> Evaluation:
        """Scores on validation."""
        return self._experiment.evaluate(student.model, "validation")

    def accept(self, best: _Result, student: _Result) -> bool:
        """Whether the student is the next teacher; one that collapsed never is."""
        before, after = own_counts(best.validation), own_counts(student.validation)
        model, iteration = student.model.model, student.iteration
        if model.collapsed:
            messages.report_collapse(self._narrator, self._strategy, iteration, model.steps)
            return False
        accepted = passes_gate(self._settings, self._strategy, iteration, before, after)
        messages.report_acceptance(
            self._narrator,
            self._strategy,
            iteration,
            before,
            after,
            chosen_on=chosen_on(self._settings.flat()),
            accepted=accepted,
        )
        return accepted


def passes_gate(
    config: Config,
    strategy: str,
    iteration: int,
    best: Mapping[str, Counts],
    student: Mapping[str, Counts],
) -> bool:
    """Whether the rule `accept` takes a student; `best` and `student` as for `acceptance`."""
    if config.loop.accept == "always":
        return True
    if config.loop.accept == "improved":
        return acceptance.improved(best, student)
    rng = generator(config.split.seed, "gate", strategy, iteration)
    return acceptance.confident(best, student, rng=rng)


def own_counts(evaluation: Evaluation) -> dict[str, Counts]:
    """Validation micrograph -> counts at the model's own threshold."""
    return dict(
        zip(
            evaluation.ids,
            evaluation.micrograph_counts(evaluation.decision_threshold()),
            strict=True,
        )
    )


def _ordered(strategies: Sequence[str], iterations: int) -> list[str]:
    return sorted(strategies, key=lambda name: name in CONTROLS) if iterations else []


def _scored(validation: Evaluation, test: Evaluation) -> Scored:
    return Scored(validation, test, validation.decision_threshold())
