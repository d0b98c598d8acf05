"""Which runs `--where SETTING=VALUE` leaves: those of certain values of their settings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.runs.chosen_settings import ChosenSetting, Value, chosen_setting, shown_value
from analysis.runs.names import listed
from analysis.runs.tidy import recorded_settings
from cryossl.config import deciding, fields
from cryossl.errors import ConfigError
from cryossl.strategy_names import BASELINES, meant_strategies

NAMES = tuple(
    name
    for name, (section, _) in fields().items()
    if f"{section}.{name}" not in deciding("nothing") and name != "strategy_settings"
)
"""The settings that runs record."""


@dataclass(frozen=True)
class Condition:
    """A setting, and the values of which a run must have one."""

    setting: ChosenSetting
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.setting.name}={' or '.join(map(shown_value, self.values)):.200}"


def conditions_of(typed: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions that `--where` gives; values of one setting are alternatives.

    Raises ConfigError for an entry that is not SETTING=VALUE, an unknown setting, or a value that
    it cannot have.
    """
    found: dict[ChosenSetting, list[Value]] = {}
    for entry in typed:
        name, equals, text = entry.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise ConfigError(
                f"--where: {entry!r:.100} is not SETTING=VALUE",
                cure="e.g. --where encoder=resnet34",
            )
        setting = chosen_setting(name, allowed=NAMES, option="--where")
        found.setdefault(setting, []).extend(_values(setting, text))
    return tuple(Condition(setting, tuple(values)) for setting, values in found.items())


def _values(setting: ChosenSetting, text: str) -> Sequence[Value]:
    """The values of an entry: one, but of strategies as many as are named."""
    if setting.setting != "strategies":
        return [setting.typed(text, option="--where")]
    if not text.strip(" ,"):
        raise ConfigError("--where strategies: no strategy is named", cure="e.g. strategies=naive")
    try:
        return meant_strategies(tuple(part.strip() for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise ConfigError(f"--where strategies: {error}") from None


def restricted(frame: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The tracked runs that meet all conditions.

    The runs of an experiment count with its settings. `strategies` keeps the baselines too, for
    gains are counted from them, and `seed`, `ratio` and `strategies` leave single runs of an
    experiment.

    Args:
        frame: tracked runs of any kind, as `cryossl.tracking.reader.read_runs` gives them.
        conditions: of `conditions_of`.

    Raises ConfigError where no run is left.
    """
    if not conditions or not len(frame):
        return frame
    rows = recorded_settings(frame)
    values = [[one.setting.value_in(row) for row in rows] for one in conditions]
    met = np.array(
        [
            [_meets(one, value) for value in column]
            for one, column in zip(conditions, values, strict=True)
        ]
    )
    asked = [value for one in conditions if _of_strategies(one) for value in one.values]
    own = np.array([not asked or row.get("cryossl.strategy") in asked for row in rows])
    for one, column, hits in zip(conditions, values, met, strict=True):
        if not (hits & own).any():
            there = sorted({*column} - {None}, key=one.setting.order)
            raise ConfigError(
                f"--where: no run has {one}",
                cure=f"there are: {', '.join(map(shown_value, there)) or 'none'}",
            )
    kept = met.all(axis=0)
    if not (kept & own).any():
        raise ConfigError(
            f"--where: no run has {listed(map(str, conditions))} at once",
            cure="`cryossl compare --group list` lists what there is",
        )
    return frame.iloc[np.flatnonzero(kept)].reset_index(drop=True)


def _of_strategies(condition: Condition) -> bool:
    return condition.setting.setting == "strategies"


def _meets(condition: Condition, value: Value) -> bool:
    """Whether a run has one of the values; of strategies, baselines and runs of none do too."""
    if _of_strategies(condition) and (value is None or value in BASELINES):
        return True
    return value in condition.values
