"""`tune`: search the settings of each strategy, by validation F1 on seeds that no table uses.

The study, its identity and the folders of the trials lie in the results folder. A start over an
unfinished tuning goes on; over a finished one it prints the result again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryossl.config import Config
from cryossl.errors import ConfigError, StorageError
from cryossl.network import device as devices
from cryossl.progress.eta import PlannedPhase
from cryossl.progress.events import Progress
from cryossl.progress.narrator import Narrator, narrated
from cryossl.progress.terminal import echo
from cryossl.selftraining import prepare as preparation
from cryossl.strategy_names import BASELINE
from cryossl.strategy_settings import with_own
from cryossl.sweep.executors import Executor
from cryossl.sweep.planning import (
    Place,
    PreparedCells,
    choose_place,
    prepare_cells,
    share_gpus,
)
from cryossl.system.digest import digest
from cryossl.system.files import write_durably
from cryossl.system.folder_lock import one_at_a_time
from cryossl.system.stages import Stages
from cryossl.tracking.tracker import Tracker, lacking_text
from cryossl.tuning.outcome import (
    TUNED,
    Found,
    Provenance,
    next_command,
    remarks,
    table,
    tuned_text,
    write_tuned,
)
from cryossl.tuning.plan import Plan, costliest, require_test_part
from cryossl.tuning.records import Records, recorded
from cryossl.tuning.rules import POINTS, bars, next_number
from cryossl.tuning.schedule import Schedule, Work, in_order
from cryossl.tuning.space import as_json, present_values
from cryossl.tuning.study import Studies, Trial, proposed
from cryossl.tuning.trial import Result, Task

SCHEMA = "cryossl-tuning/1"
STATE, STUDY, TRIALS = "tuning.json", "tuning.db", "trials"
_WORDS = {
    "space": "another space or other strategies",
    "seeds": "other seeds",
    "settings": "other settings",
    "data": "other data",
    "code": "other code",
}


def tune(plan: Plan, executor: Executor) -> None:
    """Run the trials that are missing; print and write what was found.

    Raises:
        ConfigError: the results folder holds a tuning of something else, or more trials.
        CryosslError: a trial could not be done; the same command goes on.
    """
    config, folder = plan.config, plan.config.run.folder
    phases = [
        PlannedPhase("Prepare", share=0.0),
        PlannedPhase("Baselines", share=len(plan.seeds), measured_by="baselines"),
        PlannedPhase(
            "Trials",
            share=len(plan.seeds) * plan.trials * len(plan.space),
            measured_by="tune",
        ),
    ]
    with (
        devices.enough_memory(),
        one_at_a_time(folder),
        narrated(folder, name=config.run.name, plan=phases) as narrator,
    ):
        narrator.begin("Prepare")
        prepared = prepare_cells(plan.cells, narrator, on_note=narrator.say)
        first = prepared.cells[0]
        require_test_part(config, first.store_plan.micrographs)
        for strategy in plan.space:
            extreme = costliest(config, strategy, plan.space[strategy])
            preparation.check(extreme, first.split, tile_px=first.store_plan.tile_px)
        state = _State(folder / STATE)
        place = state.place or choose_place(
            config, first.store_plan, executor, jobs=plan.jobs, threads_before=None
        )
        identity = _identity(plan, prepared, narrator)
        state.keep(identity, place, window=plan.window)
        studies = Studies(folder / STUDY, plan.space)
        tuning = _Tuning(plan, studies, state, place, narrator)
        tuning.require_trials()
        jobs = share_gpus(place, prepared, executor, narrator, jobs=plan.jobs)
        tracker = Tracker(config.run.tracking_uri, config.run.experiment, config.run.journals)
        provenance = _provenance(plan, identity)
        with recorded(config, tracker, provenance, trials=plan.trials) as records:
            tuning.run(executor, records, jobs=jobs)
            found = tuning.found()
            text = tuned_text(config, found, provenance)
            write_tuned(folder / TUNED, text)
            records.outcome(found, text)
        if missing := tracker.sync():
            narrator.say(lacking_text(missing))
        _discard_maps(config, prepared, tuning.teachers())
    _print(config, found, provenance, baselines=tuning.baselines())


class _Tuning:
    """The trials of one tuning: which is next, and what came of each."""

    def __init__(
        self, plan: Plan, studies: Studies, state: _State, place: Place, narrator: Narrator
    ) -> None:
        self._plan, self._studies, self._state = plan, studies, state
        self._narrator = narrator
        training = plan.config.training.model_copy(
            update={"device": place.device, "threads": place.threads}
        )
        self._config = plan.config.model_copy(update={"training": training})
        self._folder = plan.config.run.folder / TRIALS
        self._going: set[tuple[str, int]] = set()
        self._ended = 0

    def require_trials(self) -> None:
        """Raise ConfigError if a strategy has more trials than are asked for."""
        for strategy in self._plan.space:
            there = len(self._studies.trials(strategy))
            if there > self._plan.trials:
                raise ConfigError(
                    f"{self._plan.config.run.folder} has {there} trials of {strategy}, and "
                    f"--trials is {self._plan.trials}",
                    cure=f"give --trials {there} or more, or another --name",
                )

    def run(self, executor: Executor, records: Records, *, jobs: int) -> None:
        """Run the baselines and the trials that are missing, and record every trial once."""
        plan = self._plan
        for strategy in plan.space:
            for trial in self._studies.trials(strategy):
                if trial.state != "running":
                    records.trial(strategy, trial)
                    self._ended += 1
        narrator, every = self._narrator, plan.trials * len(plan.space)
        narrator.say(
            f"{every} trials of {', '.join(plan.space)}, {self._ended} of them finished; "
            f"{jobs} at a time"
        )
        if self._ended == every:
            return
        narrator.begin("Baselines")
        works = [self._baseline(seed) for seed in plan.seeds]
        there = [Result.read(work.folder, work.task.key) for work in works]
        self._schedule(executor, jobs, self._report_baselines).run(
            in_order([work for work, result in zip(works, there, strict=True) if result is None]),
            lambda _work, _result: None,
        )
        for work in works:
            self._note_baseline(work)
        narrator.begin("Trials")

        def on_result(work: Work, result: Result) -> None:
            self._end(work, result, records)

        self._schedule(executor, jobs, self._report_trials).run(self._next, on_result)
        self._report_trials(0)

    def found(self) -> list[Found]:
        """What was found for each strategy."""
        return [Found(one, tuple(self._studies.trials(one))) for one in self._plan.space]

    def baselines(self) -> list[float]:
        """The values of the baselines that are known; empty unless all are."""
        known = [one.value for one in self._baseline_results() if one.values]
        return known if len(known) == len(self._plan.seeds) else []

    def teachers(self) -> set[str]:
        """The keys of the baselines' trainings."""
        return {key for one in self._baseline_results() for key in one.teachers}

    def _baseline_results(self) -> list[Result]:
        works = [self._baseline(seed) for seed in self._plan.seeds]
        found = (Result.read(work.folder, work.task.key) for work in works)
        return [one for one in found if one is not None]

    def _schedule(self, executor: Executor, jobs: int, report: Any) -> Schedule:
        return Schedule(executor, jobs=jobs, say=self._narrator.say, report=report)

    def _baseline(self, seed: int) -> Work:
        selection = self._config.selection.model_copy(update={"strategy_settings": ()})
        config = self._config.model_copy(update={"selection": selection})
        key = digest({"tuning": self._state.digest, "baseline": seed})[:20]
        task = Task(key, config, BASELINE, (seed,))
        return Work(f"baseline seed {seed}", self._folder / f"baseline_{seed}", task)

    def _note_baseline(self, work: Work) -> None:
        result = Result.read(work.folder, work.task.key)
        if result is None or result.state != "complete":
            raise ConfigError(
                f"{work.title} failed: {result.reason if result else 'it has no result'}",
                cure="lower --learning-rate",
            )
        self._narrator.detail(f"   {work.title}: validation F1 {100 * result.value:.2f}")

    def _next(self) -> Work | None:
        """The next trial: one that was interrupted, else the lowest number that may begin."""
        every = {strategy: self._studies.trials(strategy) for strategy in self._plan.space}
        for strategy, trials in every.items():
            for one in trials:
                if one.state == "running" and (strategy, one.number) not in self._going:
                    return self._work(strategy, one, trials)
        numbers = {}
        for strategy, trials in every.items():
            number = next_number(
                done=[one.number for one in trials if one.state != "running"],
                begun=len(trials),
                trials=self._plan.trials,
                window=self._state.window,
            )
            if number is not None:
                numbers[strategy] = number
        if not numbers:
            return None
        strategy = min(numbers, key=lambda one: numbers[one])
        number = numbers[strategy]
        self._studies.begin(strategy, self._values(strategy, number, every[strategy]))
        trials = self._studies.trials(strategy)
        return self._work(strategy, trials[number], trials)

    def _values(self, strategy: str, number: int, trials: list[Trial]) -> Mapping[str, str]:
        dimensions = self._plan.space[strategy]
        if number == 0:
            present = present_values(self._plan.config, strategy)
            return {one.name: present[one.name] for one in dimensions}
        known = self._known(trials, number)
        return proposed(
            dimensions,
            known,
            pending=[one.values for one in trials[len(known) : number]],
            seed=self._plan.seeds[0],
            strategy=strategy,
            number=number,
        )

    def _known(self, trials: list[Trial], number: int) -> list[Trial]:
        """The trials whose ends a trial may know."""
        return trials[: max(0, number - self._state.window + 1)]

    def _work(self, strategy: str, trial: Trial, trials: list[Trial]) -> Work:
        self._going.add((strategy, trial.number))
        complete = [
            one.points for one in self._known(trials, trial.number) if one.state == "complete"
        ]
        selection = self._config.selection.model_copy(update={"strategies": (strategy,)})
        config = with_own(
            self._config.model_copy(update={"selection": selection}), strategy, trial.values
        )
        key = digest([self._state.digest, strategy, trial.number, dict(trial.values)])[:20]
        task = Task(
            key,
            config,
            strategy,
            tuple(self._plan.seeds),
            bars(complete, seeds=len(self._plan.seeds)),
        )
        folder = self._folder / f"{strategy}_{trial.number:04d}"
        return Work(f"{strategy} trial {trial.number}", folder, task, trial.number)

    def _end(self, work: Work, result: Result, records: Records) -> None:
        strategy, number = work.task.strategy, work.number
        self._studies.tell(strategy, number, result)
        records.trial(strategy, self._studies.trials(strategy)[number])
        self._ended += 1
        every = self._plan.trials * len(self._plan.space)
        mark = {"complete": "✅", "pruned": "✂", "failed": "❌"}[result.state]
        what = (
            f"validation F1 {100 * result.value:.2f}"
            if result.state == "complete"
            else f"{result.state}: {result.reason}"
        )
        self._narrator.detail(f"{mark} {work.title}: {what} [{self._ended}/{every}]")

    def _report_baselines(self, points: int) -> None:
        seeds = len(self._plan.seeds)
        self._narrator(Progress("baselines", min(points // POINTS, seeds), seeds, "baseline"))

    def _report_trials(self, points: int) -> None:
        each = POINTS * len(self._plan.seeds)
        every = self._plan.trials * len(self._plan.space) * each
        self._narrator(Progress("tune", min(every, self._ended * each + points), every, "point"))


class _State:
    """The file that says what a results folder tunes. The caller holds the folder's lock.

    It is kept apart from the study, so that another tuning is refused before the study is opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            self._known: dict[str, Any] | None = {
                "identity": dict(document["identity"]),
                "device": str(document["device"]),
                "threads": int(document["threads"]),
                "window": int(document["window"]),
            }
        except FileNotFoundError:
            self._known = None
        except (OSError, ValueError, KeyError, TypeError):
            raise StorageError(
                f"{path} is damaged or of another version", cure="choose another --name"
            ) from None

    @property
    def place(self) -> Place | None:
        """Device and threads of every trial, as the first start chose them."""
        known = self._known
        return None if known is None else Place(known["device"], known["threads"])

    @property
    def window(self) -> int:
        """How many trials of a strategy may be under way, as the first start chose it."""
        return int(self._known["window"]) if self._known else 1

    @property
    def digest(self) -> str:
        """Names what is tuned, 12 hex digits."""
        return _digest(self._known["identity"]) if self._known else ""

    def keep(self, identity: Mapping[str, str], place: Place, *, window: int) -> None:
        """Write what is tuned; a later start must tune the same. Raises ConfigError."""
        if self._known is None:
            self._known = {
                "schema": SCHEMA,
                "identity": dict(identity),
                "device": place.device,
                "threads": place.threads,
                "window": window,
            }
            try:
                write_durably(self._path, json.dumps(self._known, indent=1).encode())
            except OSError as error:
                raise StorageError(
                    f"cannot write {self._path}: {error.strerror}", cure="free space"
                ) from None
        before = self._known["identity"]
        other = [words for part, words in _WORDS.items() if before.get(part) != identity[part]]
        if other:
            raise ConfigError(
                f"{self._path.parent} holds a tuning of {', '.join(other)}",
                cure="choose another --name, or give what it began with",
            )


@dataclass(frozen=True)
class _Parts:
    """Parts of what decides a tuning, each as a digest."""

    space: str
    seeds: str
    settings: str
    data: str
    code: str


def _identity(plan: Plan, prepared: PreparedCells, narrator: Narrator) -> dict[str, str]:
    """What decides the trials: part -> digest. The store of all trials is decoded here."""
    config = plan.config
    first = prepared.cells[0]
    store = preparation.store_of(first.dataset, config, prepared.code, narrator)
    settings = config.values_deciding("training", "result", "cell", "machine")
    settings["evaluation.headline_views"] = config.evaluation.headline_views
    for name in ("selection.strategies", "split.seed"):
        del settings[name]
    listed = first.split.labelled if config.split.labelled is not None else None
    parts = _Parts(
        space=digest(as_json(plan.space)),
        seeds=f"{plan.seeds[0]}-{plan.seeds[-1]}",
        settings=digest(settings),
        data=digest([store.key, listed]),
        code=digest(dict(prepared.code.present)),
    )
    return {name: text[:20] for name, text in vars(parts).items()}


def _digest(identity: Mapping[str, str]) -> str:
    return digest(dict(identity))[:12]


def _provenance(plan: Plan, identity: Mapping[str, str]) -> Provenance:
    return Provenance(
        plan.config.run.name,
        _digest(identity),
        plan.seeds,
        plan.space,
        {f"{name}_digest": text for name, text in identity.items() if name != "seeds"},
    )


def _discard_maps(config: Config, prepared: PreparedCells, teachers: set[str]) -> None:
    """Remove the baselines' probability maps of the pool, which all trials have shared."""
    stages = Stages(config.run.stages, code=prepared.code.present)
    for key in stages.keys("predict", lambda inputs: inputs.get("train") in teachers):
        stages.discard("predict", key)


def _print(
    config: Config, found: list[Found], provenance: Provenance, *, baselines: list[float]
) -> None:
    file = config.run.folder / TUNED
    for line in (*table(found), "", *remarks(found, provenance, baselines=baselines)):
        echo(line)
    echo(f"\n{file} has the tuned arms. Next:\n  {next_command(config, file)}")
