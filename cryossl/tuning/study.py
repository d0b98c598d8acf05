"""The trials of each strategy as Optuna studies, and what is tried next. Only here is Optuna used.

Each strategy has a study of its own, all in one database. A trial is written with its values in one
transaction, and is told once. What is tried next is drawn in memory by a sampler that is seeded for
each trial anew, so that it depends on the trials before and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from cryossl.errors import ConfigError, StorageError, one_line
from cryossl.randomness import seed_of
from cryossl.setting import value_text
from cryossl.system.files import publish
from cryossl.tuning.space import Dimension, Range, Values
from cryossl.tuning.trial import Result

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import FrozenTrial, TrialState, create_trial
except ImportError as error:
    raise ConfigError(
        f"tune needs Optuna, which is not installed ({one_line(error)})",
        cure="pip install -e .[tune]",
    ) from None

State = Literal["running", "complete", "pruned", "failed"]
_STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_OF_STATE = {state: theirs for theirs, state in _STATES.items()}
_BUSY_SECONDS = 60
_URL_CHARACTERS = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Trial:
    """A trial of one strategy as the study has it.

    `value` is the mean validation F1 of a complete one; `by_seed` has what is known of each seed.
    """

    number: int
    values: Values
    state: State
    value: float | None = None
    reason: str = ""
    by_seed: Mapping[str, float] = field(default_factory=dict)
    points: Mapping[int, float] = field(default_factory=dict)


class Studies:
    """The studies of a tuning in one database. One process at a time may use it."""

    def __init__(self, path: Path, space: Mapping[str, Sequence[Dimension]]) -> None:
        """Open the database, which is made if it is not there.

        Raises:
            StorageError: it is damaged, or cannot be written.
        """
        self._path, self._space = path, space
        with self._open():
            if not path.exists():
                self._make()
            storage = _storage(path)
            self._studies = {
                strategy: optuna.create_study(
                    study_name=strategy,
                    storage=storage,
                    direction="maximize",
                    load_if_exists=True,
                )
                for strategy in space
            }

    def trials(self, strategy: str) -> list[Trial]:
        """All trials of a strategy by number."""
        with self._open():
            found = self._studies[strategy].get_trials(deepcopy=False)
        return [_trial(one, self._space[strategy]) for one in found]

    def begin(self, strategy: str, values: Values) -> None:
        """Write the next trial of a strategy, which runs from now on."""
        dimensions = self._space[strategy]
        begun = create_trial(
            state=TrialState.RUNNING,
            params=_params(dimensions, values),
            distributions=_distributions(dimensions),
        )
        with self._open():
            self._studies[strategy].add_trial(begun)

    def tell(self, strategy: str, number: int, result: Result) -> None:
        """Write what came of a trial that runs."""
        study = self._studies[strategy]
        with self._open():
            begun = study.get_trials(deepcopy=False)[number]
            told = optuna.trial.Trial(study, begun._trial_id)
            for point, value in sorted(result.points.items()):
                if point not in begun.intermediate_values:  # those of a start that was killed are
                    told.report(value, point)
            told.set_user_attr("reason", result.reason)
            told.set_user_attr("by_seed", {str(one): f1 for one, f1 in result.values.items()})
            complete = result.state == "complete"
            study.tell(
                number,
                values=result.value if complete else None,
                state=_OF_STATE[result.state],
            )

    def _make(self) -> None:
        """Make the database aside: what a killed start leaves is no database."""
        half = self._path.with_name(f".{self._path.name}.half")
        half.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            half.with_name(f"{half.name}-journal").unlink()
        storage = _storage(half)
        storage.engine.dispose()
        publish(half, self._path)

    @contextmanager
    def _open(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as fault:
            raise StorageError(
                f"the study {self._path} cannot be used: {one_line(fault):.300}",
                cure="check disk and permissions; a damaged one has to be removed with its folder",
            ) from None


def proposed(
    dimensions: Sequence[Dimension],
    known: Sequence[Trial],
    *,
    pending: Sequence[Values],
    seed: int,
    strategy: str,
    number: int,
) -> dict[str, str]:
    """The values that are tried next, by a tree-structured Parzen estimator.

    Args:
        dimensions: what is tuned.
        known: trials that have ended. Failed ones, and pruned ones without a point, count as worst.
        pending: the values of trials whose end is not known; they count as worst, so that another
            place is tried.
        seed: of the tuning; with strategy and number it decides the draw.
        strategy: whose trial it is.
        number: of the trial.
    """
    distributions = _distributions(dimensions)
    drawn = seed_of(seed, "tune", strategy, number) % 2**32
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=drawn)
    )
    worst = [Trial(0, values, "pruned") for values in pending]
    for one in (*known, *worst):
        complete = one.state == "complete"
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                value=one.value if complete else None,
                params=_params(dimensions, one.values),
                distributions=distributions,
                intermediate_values={} if one.state == "failed" else dict(one.points),
            )
        )
    params = study.ask(distributions).params
    return {one.name: _rounded(one, params[one.name]) for one in dimensions}


def _storage(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(
        f"sqlite:///{str(path.absolute()).translate(_URL_CHARACTERS)}",
        engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}},
    )


def _trial(found: FrozenTrial, dimensions: Sequence[Dimension]) -> Trial:
    state = _STATES.get(found.state, "failed")
    return Trial(
        found.number,
        {one.name: value_text(found.params[one.name]) for one in dimensions},
        state,
        found.value if state == "complete" else None,
        str(found.user_attrs.get("reason", "")),
        dict(found.user_attrs.get("by_seed", {})),
        dict(found.intermediate_values),
    )


def _distributions(dimensions: Sequence[Dimension]) -> dict[str, BaseDistribution]:
    return {one.name: _distribution(one) for one in dimensions}


def _distribution(one: Dimension) -> BaseDistribution:
    if not isinstance(one, Range):
        return CategoricalDistribution(one.values)
    if one.integer:
        step = 1 if one.step is None else round(one.step)
        return IntDistribution(round(one.low), round(one.high), log=one.log, step=step)
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _params(dimensions: Sequence[Dimension], values: Values) -> dict[str, float | int | str]:
    return {one.name: _param(one, values[one.name]) for one in dimensions}


def _param(one: Dimension, text: str) -> float | int | str:
    if not isinstance(one, Range):
        return text
    return int(text) if one.integer else float(text)


def _rounded(one: Dimension, param: float | int | str) -> str:
    return one.text(float(param)) if isinstance(one, Range) else str(param)
