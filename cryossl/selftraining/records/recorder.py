"""What is tracked, printed and filed of each step of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryossl.data.splits import chosen_on
from cryossl.errors import CryosslError
from cryossl.evaluation.answer import Found, answer_metrics, answer_rows, answer_text, found_of
from cryossl.evaluation.metrics import Numbers
from cryossl.evaluation.scorings import (
    EIGHT,
    WORDS,
    Scorings,
    Views,
    accepted_by_scoring,
    f1_text,
    gains_by_scoring,
    judged_by,
    summary_by_eight,
)
from cryossl.evaluation.verdict import Verdict
from cryossl.network.training import EpochRecord
from cryossl.progress.narrator import Narrator
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.selection import Selection
from cryossl.pseudolabels.strategies import Recipe, rules_by_iteration
from cryossl.pseudolabels.summary import SelectionSummary, selection_numbers
from cryossl.selftraining.models import Calibration, Predictor
from cryossl.selftraining.prepare import data_sets
from cryossl.selftraining.records import pictures
from cryossl.selftraining.records.export import exported, numbers_of
from cryossl.selftraining.records.logged_models import LoggedModels
from cryossl.selftraining.records.messages import percent_text
from cryossl.selftraining.records.result_files import write_arm, write_summary
from cryossl.selftraining.steps import Experiment
from cryossl.strategy_names import (
    BASELINE,
    BASELINES,
    CONTROLS,
    without_pseudo_labels,
)
from cryossl.strategy_settings import config_of_strategy
from cryossl.tracking.run import TrackedRun
from cryossl.tracking.tracker import Tracker


@dataclass(frozen=True)
class Trained:
    """A trained model, its scores, the pseudo-labels that it learned from, and its tracked run."""

    iteration: int
    model: Predictor
    scorings: Scorings
    selected: Selected | None
    run: TrackedRun
    accepted: bool


@dataclass(frozen=True)
class _Recorded:
    """A recorded model without its scorings and pseudo-labels, which take memory by micrograph."""

    iteration: int
    run: TrackedRun
    accepted: bool


@dataclass(frozen=True)
class _ClosedArm:
    """An arm whose loop has stopped: what its verdict is made from."""

    arm: TrackedRun
    strategy: str
    models: tuple[_Recorded, ...]
    best: _Recorded
    stop_reason: str
    empty: SelectionSummary | None


class Recorder:
    """Tracks, prints and files the results of one experiment, below one parent run.

    It decides nothing.
    """

    def __init__(
        self,
        experiment: Experiment,
        tracker: Tracker,
        parent: TrackedRun,
        narrator: Narrator,
        *,
        tags: Mapping[str, str],
        models: LoggedModels,
        params: Mapping[str, object],
    ) -> None:
        """`tags` and `params` are those of every run."""
        self._models = models
        self._params = dict(params)
        self._found: list[Found] = []
        self._failed: list[str] = []
        self._experiment, self._tracker = experiment, tracker
        self._parent, self._narrator = parent, narrator
        self._config = experiment.config
        self._headline: Views = experiment.config.evaluation.headline_views
        self._chosen_on = chosen_on(self._config.flat())
        self._fingerprint = experiment.fingerprint()
        self._tags = dict(tags)
        self._numbers: dict[str, Numbers] = {}
        self._baselines: dict[str, Numbers] = {}
        self._all_baselines = {BASELINE, *set(BASELINES) & set(self._config.selection.strategies)}
        self._unjudged: list[_ClosedArm] = []

    @contextmanager
    def open_arm(self, strategy: str, steps: int | None = None) -> Iterator[TrackedRun]:
        """Open the tracked run of a strategy; a fault that ends the block is recorded.

        `steps`: optimiser steps, where the settings do not decide them.
        """
        with self._run(
            strategy, _part("arm", steps), "arm", name=f"{strategy} {self._short()}"
        ) as run:
            try:
                yield run
            except CryosslError as fault:
                self._failed.append(strategy)
                run.tags({"cryossl.failure": fault})
                raise

    def iteration(self, strategy: str, iteration: int, steps: int | None = None) -> TrackedRun:
        """Open the tracked run of one trained model; `steps` as for `open_arm`."""
        name = f"{strategy} {self._short()}" + (f" it{iteration}" if strategy != BASELINE else "")
        return self._run(
            strategy,
            _part(f"iteration-{iteration}", steps),
            "iteration",
            name=name,
            iteration=iteration,
        )

    def epochs(self, run: TrackedRun, *, after: int = 0) -> Callable[[EpochRecord], None]:
        """The function that a training calls with each epoch; `after`: epochs of the run so far."""

        def track(record: EpochRecord) -> None:
            run.metrics(
                {
                    "epoch/loss": record.loss,
                    "epoch/learning_rate": record.learning_rate,
                    "epoch/validation_f1": record.validation_f1,
                    "epoch/seconds": record.seconds,
                },
                step=after + record.epoch,
            )
            score = (
                ""
                if record.validation_f1 is None
                else f"  F1 on {self._chosen_on} {percent_text(record.validation_f1)}"
            )
            self._narrator.note(f"epoch {after + record.epoch}  loss {record.loss:.4f}{score}")

        return track

    def selection(
        self,
        run: TrackedRun,
        iteration: int,
        selected: Selected,
        recipe: Recipe,
        calibration: Calibration | None,
    ) -> None:
        """Record the pseudo-labels of an iteration before the student is trained."""
        audit = self._experiment.pool.audit(selected) if self._config.loop.audit else None
        self._numbers[run.key] = selection_numbers(selected.summary, recipe.selection, audit)
        if run.finished:
            return
        run.results(self._numbers[run.key])
        if calibration is not None:
            run.results(
                {f"calibration/{name}": value for name, value in asdict(calibration).items()}
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
            pictures.selection_sheet(self._experiment, selected),
            key="pseudo_labels",
            step=iteration,
        )

    def nothing_selected(
        self, arm: TrackedRun, iteration: int, summary: SelectionSummary, selection: Selection
    ) -> None:
        """Record a selection that kept nothing on the arm's run, because there is no student."""
        self._narrator.result("no pseudo-label was kept, there is no further student")
        self._numbers[arm.key] = selection_numbers(summary, selection, None)
        arm.metrics(self._numbers[arm.key], step=iteration)

    def record(self, trained: Trained, *, strategy: str, baseline: Trained | None) -> None:
        """Record all numbers and pictures of a trained model.

        The numbers of its pseudo-labels are those that `selection` has recorded.
        """
        numbers = numbers_of(self._experiment, trained.model, trained.scorings) | self._numbers.get(
            trained.run.key, {}
        )
        self._numbers[trained.run.key] = numbers
        if baseline is not None:
            numbers |= gains_by_scoring(numbers, self._numbers[baseline.run.key])
        run = trained.run
        run.tags(
            {
                "cryossl.accepted": trained.accepted,
                "cryossl.collapsed": trained.model.collapsed,
                "cryossl.kept_stages": trained.model.of_other_code,
            }
        )
        run.results(numbers)
        run.json(trained.scorings.counts(), "counts.json")
        self._models.keep(
            run,
            exported(
                self._experiment,
                trained.model,
                trained.scorings,
                numbers=numbers,
                facts={
                    "run_key": run.key,
                    "strategy": strategy,
                    "iteration": trained.iteration,
                    "code_digest": self._tags["cryossl.code_digest"],
                },
            ),
        )
        if strategy == BASELINE:
            self._log_model(trained, strategy)
            self._found.append(found_of(BASELINE, 0, {0: numbers}, views=self._headline))
        if not run.finished:
            for place, picture in pictures.prediction_pictures(
                self._experiment, trained.model, trained.scorings.single
            ).items():
                run.image(picture, key=f"validation_{place}", step=trained.iteration)
        iteration = f" iteration {trained.iteration}" if trained.iteration else ""
        self._narrator.detail(f"   {strategy}{iteration}: {f1_text(numbers)}")
        f1, gain = numbers["test/f1"], numbers.get("gain/f1")
        short = "" if gain is None else f" ({100 * gain:+.2f})"
        what = "test" if without_pseudo_labels(strategy) else f"iteration {trained.iteration}"
        self._narrator.result(f"{what} F1 {percent_text(f1)}{short}")
        run.describe(self._description(trained, strategy, numbers))

    def close_arm(
        self,
        arm: TrackedRun,
        strategy: str,
        models: Sequence[Trained],
        stop_reason: str,
        empty: SelectionSummary | None,
    ) -> None:
        """Record the curve of an arm by iteration; its verdict too, if all baselines are there.

        Args:
            arm: the run of the arm.
            strategy: its name.
            models: the baseline and every student, in the order of iterations.
            stop_reason: why the loop stopped.
            empty: the selection that found nothing, if that is why.
        """
        recorded = tuple(_Recorded(one.iteration, one.run, one.accepted) for one in models)
        best = [model for model in recorded if model.accepted][-1]
        for model in recorded:
            arm.metrics(self._numbers[model.run.key], step=model.iteration)
        arm.results(accepted_by_scoring(self._numbers[best.run.key]))
        arm.tags({"cryossl.best_iteration": best.iteration, "cryossl.stop_reason": stop_reason})
        if best.iteration:
            self._log_model(best, strategy)
        self._baselines.setdefault(BASELINE, self._numbers[models[0].run.key])
        if strategy in BASELINES:
            self._baselines[strategy] = self._numbers[best.run.key]
        self._unjudged.append(_ClosedArm(arm, strategy, recorded, best, stop_reason, empty))
        if self._all_baselines <= self._baselines.keys():
            self.judge_arms()

    def _log_model(self, trained: Trained | _Recorded, strategy: str) -> None:
        numbers = self._numbers[trained.run.key]
        self._models.log(trained.run, strategy, numbers, iteration=trained.iteration)

    def judge_arms(self) -> None:
        """Record the verdict on every arm that has none yet, and write its result files.

        Gains are counted from the best baseline of this invocation, as in the tables. So an arm
        waits for the controls among the baselines, which are trained last.
        """
        while self._unjudged:
            self._judge(self._unjudged.pop(0))

    def _judge(self, closed: _ClosedArm) -> None:
        settings = self._config.evaluation
        headline = self._headline
        verdict, reference = self._verdict(closed, headline)
        tags = {"cryossl.verdict": verdict.outcome, "cryossl.verdict_reference": reference}
        beside = ""
        if settings.eight_views and settings.views != EIGHT:
            words: Mapping[Views, str] = {1: WORDS[settings.views], EIGHT: WORDS[EIGHT]}
            other: Views = 1 if headline == EIGHT else EIGHT
            second, over = self._verdict(closed, other)
            tags |= {
                f"cryossl.verdict_views{other}": second.outcome,
                f"cryossl.verdict_reference_views{other}": over,
            }
            beside = (
                f"The verdict is by {words[headline]}. By {words[other]}, against {over}, it is "
                f"{second.outcome}: {second.sentence}\n\n"
            )
        closed.arm.tags(tags)
        closed.arm.describe(
            f"**{closed.strategy}**, {self._where()}, against {reference}: {verdict.sentence}\n\n"
            f"{beside}{self._rules(closed.strategy)}"
            f"The loop stopped: {closed.stop_reason}.\n\n{verdict.next_steps}"
        )
        self._file(closed, verdict, reference)
        models = {one.iteration: self._numbers[one.run.key] for one in closed.models}
        found = found_of(closed.strategy, closed.best.iteration, models, views=headline)
        self._found.append(replace(found, verdict=verdict, reference=reference))

    def answer(self) -> None:
        """Record on the invocation's run what its arms found: text, table, picture and numbers."""
        subject = f"{Path(self._config.input.data).name or 'data'}, {self._where()}"
        self._parent.describe(answer_text(self._found, subject=subject, failed=self._failed))
        if not self._found:
            return
        self._parent.results(answer_metrics(self._found))
        self._parent.table(answer_rows(self._found), "comparison.json")
        self._parent.image(pictures.curves_picture(self._found), key="f1_by_iteration", step=0)

    def _verdict(self, closed: _ClosedArm, views: Views) -> tuple[Verdict, str]:
        last = self._numbers[closed.models[-1].run.key]
        return judged_by(
            views,
            strategy=closed.strategy,
            ratio_percent=self._config.split.ratio,
            final=self._numbers[closed.best.run.key],
            accepted_iteration=closed.best.iteration,
            tried=last if closed.models[-1].iteration else self._numbers.get(closed.arm.key, {}),
            baselines=self._baselines,
        )

    def _rules(self, strategy: str) -> str:
        if strategy in CONTROLS:
            return ""
        iterations = self._config.loop.max_iterations
        settings = config_of_strategy(self._config, strategy).selection
        return f"{rules_by_iteration(strategy, settings, iterations=iterations)}\n\n"

    def _file(self, closed: _ClosedArm, verdict: Verdict, reference: str) -> None:
        split, best = self._experiment.split, closed.best
        numbers = {model.iteration: self._numbers[model.run.key] for model in closed.models}
        arm = {
            "summary": {
                "labelled": len(split.labelled),
                "unlabelled": len(split.unlabelled),
                "baseline_f1": numbers[0]["test/f1"],
                "f1": numbers[best.iteration]["test/f1"],
                "gain_f1": numbers[best.iteration].get("gain/f1", 0.0),
                "best_iteration": best.iteration,
                "stop_reason": closed.stop_reason,
                "verdict": verdict.outcome,
                "verdict_reference": reference,
                "headline_views": self._headline,
                **summary_by_eight(numbers[0], numbers[best.iteration]),
            },
            "verdict": asdict(verdict),
            "iterations": [
                {
                    "iteration": model.iteration,
                    "accepted": model.accepted,
                    "mlflow_run_id": model.run.run_id,
                    "numbers": numbers[model.iteration],
                }
                for model in closed.models
            ],
            "empty_selection": None if closed.empty is None else asdict(closed.empty),
            "fingerprint": self._fingerprint,
            "split_sha256": split.digest(),
            "code_digest": self._tags["cryossl.code_digest"],
            "settings": self._config.flat(),
        }
        folder = self._config.run.folder
        write_arm(
            folder,
            strategy=closed.strategy,
            ratio_percent=self._config.split.ratio,
            seed=self._config.split.seed,
            arm=arm,
        )
        write_summary(folder, strategy=closed.strategy)

    def _description(self, trained: Trained, strategy: str, numbers: Numbers) -> str:
        if trained.selected is None:
            learned = f"{len(self._experiment.split.labelled)} labelled items"
        else:
            summary = trained.selected.summary
            learned = (
                f"{summary.labelled_count} labelled items and {summary.count} pseudo-labels of "
                f"{summary.pool} "
                f"(particle ratio {percent_text(summary.particle_ratio)}%, target "
                f"{percent_text(summary.target_ratio)}%)"
            )
        decided = ""
        if not without_pseudo_labels(strategy):
            accepted = "accepted" if trained.accepted else "not accepted"
            decided = f" The student was {accepted} on {self._chosen_on}."
        count = len(trained.model.members)
        networks = f"the mean of {count} networks, the baseline and more, " if count > 1 else ""
        return (
            f"**{strategy}**, {self._where()}, iteration {trained.iteration}: {networks}trained "
            f"for {trained.model.steps} steps on "
            f"{learned}. **{f1_text(numbers)}**.{decided}"
        )

    def _run(
        self, strategy: str, part: str, kind: str, *, name: str, iteration: int | None = None
    ) -> TrackedRun:
        tags = {  # MLflow shows them in this order
            "cryossl.kind": kind,
            "cryossl.strategy": strategy,
            **({} if iteration is None else {"cryossl.iteration": str(iteration)}),
            "cryossl.arm": f"{strategy} {self._config.split.ratio:g}%",
            **self._tags,
            "cryossl.experiment_fingerprint": self._fingerprint,
        }
        run = self._tracker.run(
            f"{self._fingerprint}-{strategy}-{part}", name=name, parent=self._parent, tags=tags
        )
        if not run.finished:
            named = ("strategy", "ratio_percent", "seed", "iteration")
            own = {one: tags[f"cryossl.{one}"] for one in named if f"cryossl.{one}" in tags}
            run.params({**own, **self._params, **self._own_params(strategy)})
            data_sets(run, self._config, self._experiment.store, self._experiment.split)
        return run

    def _own_params(self, strategy: str) -> dict[str, object]:
        """The params that differ from those of the experiment, under their own names."""
        shared, own = self._config.flat(), config_of_strategy(self._config, strategy).flat()
        return {name: value for name, value in own.items() if value != shared[name]}

    def _where(self) -> str:
        return f"{self._config.split.ratio:g}% seed {self._config.split.seed}"

    def _short(self) -> str:
        """As `_where`, so short that MLflow's list of runs does not cut it off."""
        return f"{self._config.split.ratio:g}% s{self._config.split.seed}"


def _part(name: str, steps: int | None) -> str:
    return name if steps is None else f"{name}-{steps}-steps"
