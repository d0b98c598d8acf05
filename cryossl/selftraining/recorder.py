"""What is said, tracked and filed of each step: tracked runs, key messages, and the files of the results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from cryossl.data.splits import chosen_on
from cryossl.errors import CryosslError
from cryossl.evaluation.metrics import Counts, pooled
from cryossl.evaluation.scores import Numbers, Scored, accepted_numbers, checkpoint_numbers, gains
from cryossl.evaluation.verdict import Verdict, from_metrics, health, judge
from cryossl.network.training import EpochRecord
from cryossl.progress.narrator import Narrator
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.selection import Selection
from cryossl.pseudolabels.strategies import Recipe, rules_by_iteration
from cryossl.pseudolabels.summary import SelectionSummary, selection_numbers
from cryossl.selftraining import pictures as portraits
from cryossl.selftraining.models import Calibration, Model
from cryossl.selftraining.result_files import write_arm, write_summary
from cryossl.selftraining.steps import Experiment
from cryossl.strategy_names import BASELINE, CONTROLS, fixes_its_count, without_pseudo_labels
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.tracker import Tracker


@dataclass(frozen=True)
class Trained:
    """A trained model with its scores, the pseudo-labels it learned from, and the run that records it."""

    iteration: int
    model: Model
    scored: Scored
    selected: Selected | None
    run: TrackedRun
    accepted: bool


class Recorder:
    """Keeps the books of one experiment under one parent run. Decides nothing."""

    def __init__(
        self,
        experiment: Experiment,
        tracker: Tracker,
        parent: TrackedRun,
        narrator: Narrator,
        *,
        tags: Mapping[str, str],
    ) -> None:
        self._experiment, self._tracker, self._parent, self._narrator = (
            experiment,
            tracker,
            parent,
            narrator,
        )
        self._config = experiment.config
        self._judge = chosen_on(self._config.flat())
        self._fingerprint = experiment.fingerprint()
        self._tags = dict(tags)
        self._numbers: dict[str, Numbers] = {}

    @contextmanager
    def open_arm(self, strategy: str, steps: int | None = None) -> Iterator[TrackedRun]:
        """The run of a strategy: its metrics by iteration, and what made it fail.

        `steps` where the settings do not decide.
        """
        with self._run(
            strategy, _part("arm", steps), "arm", name=f"{strategy} {self._where()}"
        ) as run:
            run.params(self._config.flat())
            try:
                yield run
            except CryosslError as fault:
                run.tags({"cryossl.failure": fault})
                raise

    def iteration(self, strategy: str, iteration: int, steps: int | None = None) -> TrackedRun:
        """The run of one trained model. `steps` where they are not decided by the settings."""
        name = f"{strategy} {self._where()}" + (
            f" iteration {iteration}" if strategy != BASELINE else ""
        )
        run = self._run(
            strategy,
            _part(f"iteration-{iteration}", steps),
            "iteration",
            name=name,
            iteration=iteration,
        )
        run.params(self._config.flat())
        return run

    def epochs(self, run: TrackedRun) -> Callable[[EpochRecord], None]:
        """A listener that tracks every epoch of a training."""

        def track(record: EpochRecord) -> None:
            run.metrics(
                {
                    "epoch/loss": record.loss,
                    "epoch/learning_rate": record.learning_rate,
                    "epoch/validation_f1": record.validation_f1,
                    "epoch/seconds": record.seconds,
                },
                step=record.epoch,
            )
            score = (
                ""
                if record.validation_f1 is None
                else f"  F1 on {self._judge} {_percent(record.validation_f1)}"
            )
            self._narrator.note(f"epoch {record.epoch}  loss {record.loss:.4f}{score}")

        return track

    def report_selection(self, strategy: str, summary: SelectionSummary) -> None:
        """The note's key messages and health signs."""
        kind = "class-balanced" if strategy.startswith("class_balanced") else strategy
        self._narrator.say(
            f"✅ Generated {summary.count} {kind} pseudo-labels of {summary.pool} "
            f"({summary.per_labelled:.1f} per labelled)"
        )
        if summary.particle_ratio is None:
            return
        self._narrator.say(
            f"   Average particle ratio: {_percent(summary.particle_ratio)}% "
            f"(target: {_percent(summary.target_ratio)}%)"
        )
        signs = health(
            summary.particle_ratio / summary.target_ratio,
            None if fixes_its_count(strategy) else summary.per_labelled,
            None,
        )
        for sign in signs:
            if sign.good is not None:
                self._narrator.say(f"   {'✅' if sign.good else '❌'} {sign.name}: {sign.text}")

    def report_acceptance(
        self,
        strategy: str,
        iteration: int,
        best: Mapping[str, Counts],
        student: Mapping[str, Counts],
        *,
        accepted: bool,
    ) -> None:
        """What the gate saw and decided."""
        before, after = (pooled(counts.values()).scores().f1 for counts in (best, student))
        decision = "✅ accepted" if accepted else "❌ not accepted, the loop stops"
        self._narrator.say(
            f"   {strategy} iteration {iteration}: F1 on {self._judge} {_percent(before)} → "
            f"{_percent(after)}: {decision}"
        )

    def report_collapse(self, strategy: str, iteration: int, steps: int) -> None:
        """That the watch ended a training."""
        self._narrator.say(
            f"❌ {strategy} iteration {iteration} collapsed: twice in a row its particle share of "
            "the pool was "
            f"far from the labelled part's; ended at step {steps}, the last accepted model stays"
        )

    def selection(
        self,
        run: TrackedRun,
        iteration: int,
        selected: Selected,
        recipe: Recipe,
        calibration: Calibration | None,
    ) -> None:
        """The pseudo-labels of an iteration, before the student is trained: numbers, table, and the best and worst of them."""
        audit = self._experiment.pool.audit(selected) if self._config.loop.audit else None
        self._numbers[run.key] = selection_numbers(selected.summary(), recipe.selection, audit)
        if run.finished:
            return
        run.metrics(self._numbers[run.key], step=iteration)
        if calibration is not None:
            run.metrics(
                {f"calibration/{name}": value for name, value in asdict(calibration).items()},
                step=iteration,
            )
        chosen = set(selected.ids)
        run.table(
            [
                {"item": item, "selected": item in chosen, **asdict(one)}
                for item, one in sorted(
                    selected.assessments.items(), key=lambda pair: -pair[1].quality
                )
            ],
            "selection.json",
        )
        run.image(
            portraits.selection_sheet(self._experiment, selected),
            key="pseudo_labels",
            step=iteration,
        )

    def nothing_selected(
        self, arm: TrackedRun, iteration: int, summary: SelectionSummary, selection: Selection
    ) -> None:
        """The numbers of a selection that kept nothing: on the arm's run, for there is no student to hold them."""
        self._numbers[arm.key] = selection_numbers(summary, selection, None)
        arm.metrics(self._numbers[arm.key], step=iteration)

    def record(self, trained: Trained, *, strategy: str, baseline: Trained | None) -> None:
        """All numbers and pictures of a trained model, with those of its pseudo-labels, which `selection` has measured."""
        numbers = self._numbers_of(trained.model, trained.scored) | self._numbers.get(
            trained.run.key, {}
        )
        self._numbers[trained.run.key] = numbers
        if baseline is not None:
            numbers |= gains(numbers, self._numbers[baseline.run.key])
        run = trained.run
        run.tags(
            {"cryossl.accepted": trained.accepted, "cryossl.collapsed": trained.model.collapsed}
        )
        run.metrics(numbers, step=trained.iteration)
        run.json(trained.scored.counts(), "counts.json")
        run.file(
            trained.model.stage.folder / f"{self._config.training.model}.safetensors",
            folder="model",
        )
        if not run.finished:
            for place, picture in portraits.prediction_pictures(
                self._experiment, trained.model, trained.scored
            ).items():
                run.image(picture, key=f"validation_{place}", step=trained.iteration)
        f1, gain = numbers["test/f1"], numbers.get("gain/f1")
        change = "" if gain is None else f" ({100 * gain:+.2f} over the baseline)"
        self._narrator.say(
            f"   {strategy}{f' iteration {trained.iteration}' if trained.iteration else ''}: "
            f"test F1 {_percent(f1)}{change}"
        )
        run.describe(self._description(trained, strategy, numbers))

    def close_arm(
        self,
        arm: TrackedRun,
        strategy: str,
        models: Sequence[Trained],
        stop_reason: str,
        empty: SelectionSummary | None,
    ) -> None:
        """The arm's curve by iteration, its verdict, and its result files."""
        best = [model for model in models if model.accepted][-1]
        for model in models:
            arm.metrics(self._numbers[model.run.key], step=model.iteration)
        arm.metrics(accepted_numbers(self._numbers[best.run.key]), step=best.iteration)
        measured = {
            name: value
            for name, value in self._numbers[models[-1].run.key].items()
            if value is not None
        }
        accepted = {
            name: value for name, value in self._numbers[best.run.key].items() if value is not None
        }
        nothing = {
            name: value
            for name, value in self._numbers.get(arm.key, {}).items()
            if value is not None
        }
        no_student = {} if best.iteration else {"gain/f1": 0.0, "gain/recall": 0.0, **nothing}
        verdict = judge(
            [
                from_metrics(
                    {**measured, **accepted, **no_student}, accepted_iteration=best.iteration
                )
            ],
            strategy=strategy,
            ratio_percent=self._config.split.ratio,
        )
        arm.tags(
            {
                "cryossl.best_iteration": best.iteration,
                "cryossl.stop_reason": stop_reason,
                "cryossl.verdict": verdict.outcome,
            }
        )
        arm.describe(
            f"**{strategy}**, {self._where()}: {verdict.sentence}\n\n{self._rules(strategy)}"
            f"The loop stopped: {stop_reason}.\n\n{verdict.next_steps}"
        )
        self._file(strategy, models, best, verdict, stop_reason, empty)

    def _rules(self, strategy: str) -> str:
        if strategy in CONTROLS:
            return ""
        iterations = self._config.loop.max_iterations
        return f"{rules_by_iteration(strategy, self._config.selection, iterations=iterations)}\n\n"

    def _file(
        self,
        strategy: str,
        models: Sequence[Trained],
        best: Trained,
        verdict: Verdict,
        stop_reason: str,
        empty: SelectionSummary | None,
    ) -> None:
        split = self._experiment.split
        numbers = {model.iteration: self._numbers[model.run.key] for model in models}
        arm = {
            "summary": {
                "labelled": len(split.labelled),
                "unlabelled": len(split.unlabelled),
                "baseline_f1": numbers[0]["test/f1"],
                "f1": numbers[best.iteration]["test/f1"],
                "gain_f1": numbers[best.iteration].get("gain/f1", 0.0),
                "best_iteration": best.iteration,
                "stop_reason": stop_reason,
                "verdict": verdict.outcome,
            },
            "verdict": asdict(verdict),
            "iterations": [
                {
                    "iteration": model.iteration,
                    "accepted": model.accepted,
                    "mlflow_run_id": model.run.run_id,
                    "numbers": numbers[model.iteration],
                }
                for model in models
            ],
            "empty_selection": None if empty is None else asdict(empty),
            "fingerprint": self._fingerprint,
            "split_sha256": split.digest(),
            "settings": self._config.flat(),
        }
        folder = self._config.run.folder
        write_arm(
            folder,
            strategy=strategy,
            ratio_percent=self._config.split.ratio,
            seed=self._config.split.seed,
            arm=arm,
        )
        write_summary(folder, strategy=strategy)

    def _numbers_of(self, model: Model, scored: Scored) -> Numbers:
        return {
            **scored.numbers(),
            "train/steps": model.steps,
            "time/seconds": model.seconds,
            **checkpoint_numbers(
                self._experiment.evaluate(model, "validation", weights="best"),
                self._experiment.evaluate(model, "test", weights="best"),
                step=model.best_step,
            ),
        }

    def _description(self, trained: Trained, strategy: str, numbers: Numbers) -> str:
        if trained.selected is None:
            learned = f"{len(self._experiment.split.labelled)} labelled items"
        else:
            told = trained.selected.summary()
            learned = (
                f"{told.labelled_count} labelled items and {told.count} pseudo-labels of "
                f"{told.pool} "
                f"(particle ratio {_percent(told.particle_ratio)}%, target "
                f"{_percent(told.target_ratio)}%)"
            )
        gain = numbers.get("gain/f1")
        change = "" if gain is None else f", {100 * gain:+.2f} points over the supervised baseline"
        decided = (
            ""
            if without_pseudo_labels(strategy)
            else (
                f" The student was {'' if trained.accepted else 'not '}accepted on {self._judge}."
            )
        )
        return (
            f"**{strategy}**, {self._where()}, iteration {trained.iteration}: trained for "
            f"{trained.model.steps} steps on "
            f"{learned}. Test F1 **{_percent(numbers['test/f1'])}**{change}.{decided}"
        )

    def _run(
        self, strategy: str, part: str, kind: str, *, name: str, iteration: int | None = None
    ) -> TrackedRun:
        tags = {
            **self._tags,
            "cryossl.kind": kind,
            "cryossl.strategy": strategy,
            "cryossl.experiment_fingerprint": self._fingerprint,
        }
        if iteration is not None:
            tags["cryossl.iteration"] = str(iteration)
        return self._tracker.run(
            f"{self._fingerprint}-{strategy}-{part}", name=name, parent=self._parent, tags=tags
        )

    def _where(self) -> str:
        return f"{self._config.split.ratio:g}% seed {self._config.split.seed}"


def _part(name: str, steps: int | None) -> str:
    return name if steps is None else f"{name}-{steps}-steps"


def _percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.2f}"
