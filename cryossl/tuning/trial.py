"""What one trial does: train a strategy with given settings on some seeds, score it on validation.

The test part is never opened. Every step is a durable stage, shared with `run` and `sweep`, so a
trial that is killed goes on from its checkpoint. The baselines of the seeds are a task too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cryossl.config import Config
from cryossl.data.splits import Split
from cryossl.data.store.store import Store
from cryossl.errors import DataError, NumericError, StorageError
from cryossl.evaluation.scores import Evaluation, scores
from cryossl.evaluation.scorings import EIGHT
from cryossl.network import device as devices
from cryossl.network.device import Precision
from cryossl.network.speed import choose_threads
from cryossl.network.training import EpochRecord, steps_for
from cryossl.progress.events import OnProgress, silent
from cryossl.progress.interruption import interruptible
from cryossl.pseudolabels.pool import Selected
from cryossl.pseudolabels.strategies import Recipe, recipe_for, rounds_of
from cryossl.selftraining import prepare as preparation
from cryossl.selftraining.arms import own_counts, passes_gate
from cryossl.selftraining.loop import IterationResult, self_train
from cryossl.selftraining.models import Model, evaluator_by_eight_views
from cryossl.selftraining.stage_code import stage_code
from cryossl.selftraining.steps import Experiment
from cryossl.strategy_names import BASELINE
from cryossl.system.file_lock import shared_as
from cryossl.system.files import write_durably
from cryossl.system.folder_lock import one_at_a_time
from cryossl.system.stages import AbandonedError, Stages
from cryossl.system.user_files import read_json
from cryossl.tuning.rules import POINTS, SHARES, Record, best_at, point_value

TASK, CURVES, RESULT, LOG = "task.json", "curves.json", "result.json", "output.log"
VERB = ("tune-trial",)
State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Task:
    """What a trial has to do.

    Attributes:
        key: names it; a result or a curve of another key is not used.
        config: with the trial's values in it.
        strategy: that is trained; the name of the baseline: nothing but the baselines.
        seeds: one after the other.
        bars: point -> value below which the trial is given up.
    """

    key: str
    config: Config
    strategy: str
    seeds: tuple[int, ...]
    bars: dict[int, float] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write it durably into its folder; returns the file. Raises StorageError."""
        document = {
            **asdict(self),
            "config": self.config.model_dump(mode="json"),
            "bars": {str(point): bar for point, bar in self.bars.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / TASK, document)
        return folder / TASK

    @classmethod
    def read(cls, file: Path) -> Task:
        """The task that `write` wrote. Raises DataError."""
        document: dict[str, Any] = read_json(file)
        try:
            return cls(
                str(document["key"]),
                Config.model_validate(document["config"]),
                str(document["strategy"]),
                tuple(int(seed) for seed in document["seeds"]),
                {int(point): float(bar) for point, bar in document["bars"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(
                f"{file} describes no trial of `cryossl tune`", cure="start that command"
            ) from None


@dataclass
class Result:
    """What came of a trial.

    Attributes:
        key: of its task.
        state: pruned and failed ones have a reason.
        reason: why it is not complete.
        values: seed -> validation F1 of the best student of the loop, accepted or not.
        points: number of a point -> its value, see `rules`.
        teachers: keys of the baselines' trainings.
    """

    key: str
    state: State = "complete"
    reason: str = ""
    values: dict[int, float] = field(default_factory=dict)
    points: dict[int, float] = field(default_factory=dict)
    teachers: list[str] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return sum(self.values.values()) / len(self.values)

    @classmethod
    def read(cls, folder: Path, key: str) -> Result | None:
        """The result of a task in its folder; None if it has none."""
        document = _read(folder / RESULT, key)
        if document is None:
            return None
        try:
            return cls(
                key,
                document["state"],
                document["reason"],
                {int(seed): float(value) for seed, value in document["values"].items()},
                {int(point): float(value) for point, value in document["points"].items()},
                [str(one) for one in document["teachers"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def points_done(folder: Path, key: str) -> int:
    """How many points a trial that runs has passed."""
    seeds = (_read(folder / CURVES, key) or {}).get("seeds", {})
    done = 0
    for curve in seeds.values():
        records = [tuple(one) for one in curve["records"]]
        whole = curve["value"] is not None
        done += POINTS if whole else sum(best_at(records, share)[0] for share in SHARES)
    return done


def run_trial(file: Path) -> None:
    """Do the task of a file, and write its result beside it.

    Raises:
        BusyError: another process does it.
        CryosslError: what stops any run; a trial whose numbers are not finite has a result.
    """
    folder = file.parent
    task = Task.read(file)
    with (
        devices.enough_memory(),
        shared_as(task.config.run.work),
        one_at_a_time(folder),
        interruptible() as interruption,
    ):
        if Result.read(folder, task.key) is None:
            result = evaluated(task, folder, interruption.after(silent))
            _write(folder / RESULT, asdict(result))


def evaluated(task: Task, folder: Path, report: OnProgress) -> Result:
    """Train and score on every seed. Raises CryosslError."""
    result, curves = Result(task.key), _Curves(folder / CURVES, task)
    try:
        ground = Ground(task.config, report)
        for seed in task.seeds:
            place = SeedPlace(ground, seed)
            baseline = place.baseline()
            result.teachers.append(baseline.stage.key)
            if task.strategy == BASELINE:
                value = place.headline(baseline)
            else:
                value = best_student(task.strategy, place, baseline, partial(curves.note, seed))
            curves.end(seed, value)
            result.values[seed] = value
    except _PrunedError as pruned:
        result.state, result.reason = "pruned", str(pruned)
    except NumericError as fault:
        result.state, result.reason = "failed", str(fault)
    result.points = curves.points()
    return result


class _PrunedError(AbandonedError):
    """The trial is given up; the text is the reason."""


class Ground:
    """What all seeds share: data set, store, device and code, as `run` would have them."""

    def __init__(self, config: Config, report: OnProgress) -> None:
        self.dataset = preparation.load(config, report)
        self.store_plan = preparation.sketch(config, self.dataset)
        self.device = devices.resolve(config.training.device)
        self.precision: Precision = devices.resolve_precision(
            config.training.precision, self.device
        )
        devices.prepare(
            device=self.device,
            threads=choose_threads(
                config,
                tile_px=self.store_plan.tile_px,
                device=self.device,
                memory=config.run.threads_file,
            ),
        )
        code = stage_code(config.run.code_file, keep=config.run.keep_stages)
        self.store: Store = preparation.store_of(self.dataset, config, code, report)
        self.stages = Stages(config.run.stages, code=code.present, kept=code.kept)
        self.config, self.report = config, report


class SeedPlace:
    """The experiment of one seed, and its scores on validation."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        tile_px = ground.store_plan.tile_px
        config = ground.config.model_copy(
            update={"split": ground.config.split.model_copy(update={"seed": seed})}
        )
        self._split: Split = preparation.draw(
            config, ground.store_plan.micrographs, tile_px=tile_px
        )
        preparation.check(config, self._split, tile_px=tile_px)
        self.experiment = self._experiment(preparation.with_counted_ratio(config, self._split))

    def _experiment(self, config: Config) -> Experiment:
        ground = self._ground
        return Experiment(
            config,
            ground.store,
            self._split,
            ground.stages,
            device=ground.device,
            precision=ground.precision,
            report=ground.report,
        )

    def baseline(self) -> Model:
        """The supervised baseline, which all trials and all strategies share."""
        return self.experiment.fit(self._split.labelled, None, iteration=0, on_epoch=lambda _: None)

    def own(self, strategy: str) -> tuple[Experiment, Experiment]:
        """The experiment with the strategy's settings, for the first student and for later ones.

        The maps of the baseline serve other trials too; those of later teachers do not.
        """
        first = self.experiment.for_strategy(strategy)
        return first, self._experiment(first.config)

    def headline(self, model: Model) -> float:
        """Validation F1 by the scoring `headline_views`; 0 where it is undefined."""
        config = self.experiment.config
        if config.evaluation.headline_views != EIGHT:
            return _f1(self.experiment.evaluate(model, "validation"))
        ground = self._ground
        evaluator = evaluator_by_eight_views(
            config,
            ground.store,
            ground.stages,
            device=ground.device,
            precision=ground.precision,
            report=ground.report,
        )
        ids, weights = self._split.validation, config.training.model
        return _f1(evaluator.evaluate(model, ids, weights=weights, phase="validation"))


def _f1(evaluation: Evaluation) -> float:
    return scores(evaluation, evaluation.decision_threshold())["f1"] or 0.0


def best_student(
    strategy: str, place: SeedPlace, baseline: Model, note: Callable[[EpochRecord, int], None]
) -> float:
    """Validation F1 of the best student of a strategy's loop, accepted or not.

    Raises _PrunedError where there is none: nothing was kept, or the training collapsed.
    """
    experiment, later = place.own(strategy)
    steps = _Steps(strategy, experiment, later, baseline, note)
    try:
        outcome = self_train(
            experiment.split,
            iterations=rounds_of(strategy, experiment.config.loop.max_iterations),
            fit=steps.fit,
            pseudo_label=steps.pseudo_label,
            evaluate=steps.evaluate,
            accept=steps.accept,
        )
    except (NumericError, AbandonedError):
        later.finish()
        raise
    later.finish()
    students = [one.model for one in outcome.results[1:] if not one.model.collapsed]
    if not students:
        seed = experiment.config.split.seed
        why = "no pseudo-label was kept" if outcome.empty is not None else "the training collapsed"
        raise _PrunedError(f"seed {seed}: {why}")
    return max(map(place.headline, students))


@dataclass(frozen=True)
class _Labels:
    """Selected pseudo-labels, with the teacher that made them and the recipe that it followed."""

    selected: Selected
    teacher: Model
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.selected)


_Step = IterationResult[Model, _Labels, Evaluation]


class _Steps:
    """The steps of `self_train`, as `run` does them, without records and without the test part."""

    def __init__(
        self,
        strategy: str,
        experiment: Experiment,
        later: Experiment,
        baseline: Model,
        note: Callable[[EpochRecord, int], None],
    ) -> None:
        self._strategy, self._experiment, self._later = strategy, experiment, later
        self._baseline, self._note = baseline, note
        self._config = experiment.config

    def pseudo_label(self, teacher: Model, unlabelled: tuple[str, ...], iteration: int) -> _Labels:
        recipe = recipe_for(self._strategy, self._config.selection, iteration=iteration)
        experiment = self._experiment if iteration == 1 else self._later
        return _Labels(experiment.pseudo_label(teacher, unlabelled, recipe), teacher, recipe)

    def fit(self, labelled: tuple[str, ...], labels: _Labels | None, iteration: int) -> Model:
        if labels is None:
            return self._baseline
        items = (*labelled, *labels.selected.ids)
        tiles = sum(len(self._experiment.store.tiles(item)) for item in items)
        steps = steps_for(self._config.training, tiles=tiles, student=True)

        def on_epoch(record: EpochRecord) -> None:
            if iteration == 1:
                self._note(record, steps)

        return self._experiment.fit(
            labelled,
            labels.selected,
            iteration=iteration,
            on_epoch=on_epoch,
            steps=steps,
            learning=labels.recipe.learning,
            teacher=labels.teacher,
        )

    def evaluate(self, model: Model) -> Evaluation:
        return self._experiment.evaluate(model, "validation")

    def accept(self, best: _Step, student: _Step) -> bool:
        if student.model.collapsed:
            return False
        before, after = own_counts(best.validation), own_counts(student.validation)
        return passes_gate(self._config, self._strategy, student.iteration, before, after)


class _Curves:
    """The curves of a trial, kept in a file: a training that goes on does not report them again.

    A point is judged once, when it is known: the trial is given up if its value is below the bar.
    """

    def __init__(self, file: Path, task: Task) -> None:
        self._file, self._task = file, task
        kept = (_read(file, task.key) or {}).get("seeds", {})
        self._records: dict[int, dict[int, Record]] = {seed: {} for seed in task.seeds}
        self._values: dict[int, float | None] = dict.fromkeys(task.seeds)
        self._last_point: int | None = None
        for seed, curve in kept.items():
            for epoch, share, f1 in curve["records"]:
                self._records[int(seed)][epoch] = (epoch, share, f1)

    def note(self, seed: int, record: EpochRecord, steps: int) -> None:
        """Keep the record of an epoch, and judge the points that are known. Raises _PrunedError."""
        entry = (record.epoch, record.step / steps, record.validation_f1)
        if self._records[seed].get(record.epoch) != entry:
            self._records[seed][record.epoch] = entry
            self._save()
        self._judge()

    def end(self, seed: int, value: float) -> None:
        """Keep the value of a seed, and judge it. Raises _PrunedError."""
        self._values[seed] = value
        self._save()
        self._judge()

    def points(self) -> dict[int, float]:
        """The values of all known points, up to the one at which the trial was given up."""
        known = self._known()
        last = self._last_point
        return {point: one for point, one in known.items() if last is None or point <= last}

    def _known(self) -> dict[int, float]:
        found: dict[int, float] = {}
        finished: list[float] = []
        for number, seed in enumerate(self._task.seeds):
            records, value = list(self._records[seed].values()), self._values[seed]
            for place, share in enumerate(SHARES):
                known, best = best_at(records, share)
                if known and best is not None:
                    found[POINTS * number + place] = point_value(finished, best)
            if value is None:
                break
            found[POINTS * (number + 1) - 1] = point_value(finished, value)
            finished.append(value)
        return found

    def _judge(self) -> None:
        for point, value in sorted(self._known().items()):
            bar = self._task.bars.get(point)
            if bar is not None and value < bar:
                self._last_point = point
                raise _PrunedError(
                    f"point {point + 1}: validation F1 {100 * value:.2f}, the median of earlier "
                    f"trials is {100 * bar:.2f}"
                )

    def _save(self) -> None:
        seeds = {
            str(seed): {"records": sorted(records.values()), "value": self._values[seed]}
            for seed, records in self._records.items()
        }
        _write(self._file, {"key": self._task.key, "seeds": seeds})


def _read(file: Path, key: str) -> dict[str, Any] | None:
    """A document of this key; None if there is none, or a broken one."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("key") == key else None


def _write(file: Path, document: dict[str, Any]) -> None:
    try:
        write_durably(file, json.dumps(document).encode())
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}", cure="free space") from None
