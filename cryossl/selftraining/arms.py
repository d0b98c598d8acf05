"""One invocation on one (data set, ratio, seed): the baseline once, then every arm from it.

What it does is told and tracked.

The method is `selftraining.self_train`; here its steps are given their names, and its results to
the recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from cryossl.errors import FailedArmsError, NumericError
from cryossl.evaluation.metrics import Counts
from cryossl.evaluation.scores import Evaluation, Scored
from cryossl.progress.eta import PlannedPhase
from cryossl.progress.narrator import Narrator
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.recipe import Learning
from cryossl.pseudolabels.strategies import Recipe, recipe_for, rounds_of
from cryossl.randomness import generator
from cryossl.selftraining import acceptance as gates
from cryossl.selftraining.loop import IterationResult, follow, self_train
from cryossl.selftraining.models import Model
from cryossl.selftraining.recorder import Recorder, Trained
from cryossl.selftraining.steps import Experiment
from cryossl.strategy_names import BASELINE, CONTROLS, FULL, NOISED
from cryossl.tracking.run import TrackedRun

Result = IterationResult[Model, Evaluation]


def plan(strategies: Sequence[str], *, iterations: int) -> list[PlannedPhase]:
    """The phases of an invocation in order, for the estimate of the time that is left."""
    phases = [
        PlannedPhase("Load the data", share=0.0),
        PlannedPhase(f"{BASELINE}: training", measured_by="train"),
    ]
    for strategy in _ordered(strategies, iterations):
        phases += [
            PlannedPhase(_title(strategy, number), measured_by="train")
            for number in range(1, rounds_of(strategy, iterations) + 1)
        ]
    return phases


class Arms:
    """Runs the arms of one experiment."""

    def __init__(self, experiment: Experiment, recorder: Recorder, narrator: Narrator) -> None:
        self._experiment, self._books, self._narrator = experiment, recorder, narrator
        self._settings = experiment.config
        self._longest_steps = 0

    def run(self) -> None:
        """The baseline, then every strategy; the controls last, for they take the longest student's steps.

        Raises FailedArmsError at the end if strategies came to numbers that are not finite: they do
        not stop the others.
        """
        self._narrator.begin(f"{BASELINE}: training")
        with self._books.iteration(BASELINE, 0) as run:
            model = self._experiment.fit(
                self._experiment.split.labelled, None, iteration=0, on_epoch=self._books.epochs(run)
            )
            baseline = Trained(0, model, self._scored(model), None, run, accepted=True)
            self._books.record(baseline, strategy=BASELINE, baseline=None)
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
        self._experiment.finish()
        if faults:
            raise FailedArmsError(faults, experiment=self._experiment.fingerprint())

    def _arm(self, strategy: str, baseline: Trained) -> None:
        """One strategy: the loop on validation first, then the test part, opened once for all its models."""
        open_runs = ExitStack()
        students: dict[int, _Taught] = {}

        def pseudo_label(
            teacher: Model, unlabelled: tuple[str, ...], *, iteration: int
        ) -> Selected:
            self._narrator.begin(_title(strategy, iteration))
            recipe = recipe_for(strategy, self._settings.selection, iteration=iteration)
            selected = self._experiment.pseudo_label(teacher, unlabelled, recipe)
            students[iteration] = _Taught(teacher, recipe)
            self._books.report_selection(strategy, selected.summary())
            return selected

        def fit(
            labelled: tuple[str, ...], pseudo_labels: Selected | None, *, iteration: int
        ) -> Model:
            if pseudo_labels is None:
                return baseline.model
            taught = students[iteration]
            taught.run = open_runs.enter_context(self._books.iteration(strategy, iteration))
            taught.selected = pseudo_labels
            self._books.selection(
                taught.run,
                iteration,
                pseudo_labels,
                taught.recipe,
                self._experiment.calibration(taught.teacher)
                if taught.recipe.teaching.calibrated
                else None,
            )
            model = self._experiment.fit(
                labelled,
                pseudo_labels,
                iteration=iteration,
                on_epoch=self._books.epochs(taught.run),
                learning=taught.recipe.learning,
                teacher=taught.teacher,
            )
            self._longest_steps = max(self._longest_steps, model.steps)
            return model

        with open_runs:
            arm = open_runs.enter_context(self._books.open_arm(strategy))
            results: list[Result] = []
            outcome = follow(
                self_train(
                    self._experiment.split,
                    iterations=rounds_of(strategy, self._settings.loop.max_iterations),
                    fit=fit,
                    pseudo_label=pseudo_label,
                    accept=self._gate(strategy),
                    evaluate=lambda model: self._experiment.evaluate(model, "validation"),
                ),
                results.append,
            )
            trained = [baseline]
            for result in results[1:]:
                taught = students[result.iteration]
                trained.append(
                    Trained(
                        result.iteration,
                        result.model,
                        self._scored(result.model),
                        taught.selected,
                        taught.run,
                        accepted=result.accepted,
                    )
                )
                self._books.record(trained[-1], strategy=strategy, baseline=baseline)
            if outcome.empty is not None:
                self._books.nothing_selected(
                    arm, len(trained), outcome.empty, students[len(trained)].recipe.selection
                )
            reason = "collapsed" if results[-1].model.collapsed else outcome.stop_reason
            self._books.close_arm(arm, strategy, trained, reason, outcome.empty)

    def _control(self, strategy: str, baseline: Trained) -> None:
        """True labels alone: for as many steps as the longest student, the same under noise, or all labels there are."""
        self._narrator.begin(_title(strategy, 1))
        if strategy == FULL:
            steps, labelled = self._experiment.most_steps(), self._experiment.all_annotated()
        else:
            steps, labelled = (
                self._longest_steps or self._experiment.most_steps(),
                self._experiment.split.labelled,
            )
        # The steps are part of the runs' names: after other students it is another control.
        with (
            self._books.open_arm(strategy, steps) as arm,
            self._books.iteration(strategy, 1, steps) as run,
        ):
            model = self._experiment.fit(
                labelled,
                None,
                iteration=1,
                steps=steps,
                on_epoch=self._books.epochs(run),
                learning=Learning(noised=strategy == NOISED),
            )
            trained = Trained(1, model, self._scored(model), None, run, accepted=True)
            self._books.record(trained, strategy=strategy, baseline=baseline)
            self._books.close_arm(arm, strategy, [baseline, trained], "iterations done", None)

    def _scored(self, model: Model) -> Scored:
        validation = self._experiment.evaluate(model, "validation")
        return Scored(
            validation, self._experiment.evaluate(model, "test"), validation.decision_threshold()
        )

    def _gate(self, strategy: str) -> Callable[[Result, Result], bool]:
        def accept(best: Result, student: Result) -> bool:
            ours, theirs = _counts(best.validation), _counts(student.validation)
            if student.model.collapsed:
                self._books.report_collapse(strategy, student.iteration, student.model.steps)
                return False
            if self._settings.loop.accept == "always":
                accepted = True
            elif self._settings.loop.accept == "improved":
                accepted = gates.improved(ours, theirs)
            else:
                rng = generator(self._settings.split.seed, "gate", strategy, student.iteration)
                accepted = gates.confident(ours, theirs, rng=rng)
            self._books.report_acceptance(
                strategy, student.iteration, ours, theirs, accepted=accepted
            )
            return accepted

        return accept


@dataclass
class _Taught:
    """What a student of one iteration was given, and the run that records it."""

    teacher: Model
    recipe: Recipe
    run: TrackedRun = field(init=False)
    selected: Selected = field(init=False)


def _counts(evaluation: Evaluation) -> dict[str, Counts]:
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


def _title(strategy: str, iteration: int) -> str:
    return f"{strategy}: iteration {iteration}"
