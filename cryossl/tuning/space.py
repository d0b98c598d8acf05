"""The space that is searched: the settings of each strategy that are tuned, and their values. Pure.

A space is a document: settings at the top level, which each strategy tunes for itself, and below
the name of a strategy settings of that one alone. A setting has `{low, high}` with `log` or `step`
where wanted, or a list of choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from cryossl.config import Config, fields
from cryossl.errors import ConfigError, nearest
from cryossl.setting import Section, allowed_text, value_text
from cryossl.strategy_names import meant_strategies
from cryossl.strategy_settings import config_of_strategy, own_names

FIXED = {"validations": "trials are compared at equal shares of their validations"}
"""Settings of a strategy that are not tuned, each with the reason."""
_KEYS = ("low", "high", "log", "step")
_GRID_ERROR = 1e-9


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them; `step` None: all of them."""

    name: str
    low: float
    high: float
    integer: bool
    log: bool = False
    step: float | None = None

    def holds(self, text: str) -> bool:
        """Whether the value, as text, is one of them."""
        try:
            value = float(text)
        except ValueError:
            return False
        return self.low <= value <= self.high and _on_grid(value - self.low, self.step)

    def text(self, value: float) -> str:
        """A value as it is typed: whole, on the grid, or of four digits within the range."""
        if self.integer:
            return str(round(value))
        digits = 4 if self.step is None else 10
        return value_text(min(self.high, max(self.low, float(f"{value:.{digits}g}"))))

    def __str__(self) -> str:
        more = [*(["log"] if self.log else []), *([f"step {self.step:g}"] if self.step else [])]
        return ", ".join([f"{self.low:g} to {self.high:g}", *more])


@dataclass(frozen=True)
class Choices:
    """Values as they are typed."""

    name: str
    values: tuple[str, ...]

    def holds(self, text: str) -> bool:
        """Whether the value, as text, is one of them."""
        return text in self.values

    def __str__(self) -> str:
        return ", ".join(self.values)


Dimension = Range | Choices
Space = Mapping[str, tuple[Dimension, ...]]
"""Strategy -> its dimensions, by the name of the setting."""
Values = Mapping[str, str]
"""Setting -> value as it is typed."""


def space_of(document: object, config: Config, *, name: str) -> Space:
    """The space of each strategy of a config.

    Args:
        document: as read from YAML.
        config: names the strategies; its values must lie in the space, for they are the first
            trial.
        name: what messages call the document.

    Raises:
        ConfigError: the document is no space, names a setting that cannot be tuned, or holds a
            value that the setting cannot have.
    """
    try:
        shared, own = _parts(document)
        found = {}
        for strategy in config.selection.strategies:
            dimensions = {**shared, **own.get(strategy, {})}
            if not dimensions:
                raise ConfigError(f"nothing of {strategy} is tuned", cure="give it a setting")
            found[strategy] = tuple(dimensions[one] for one in sorted(dimensions))
            _require_present(strategy, found[strategy], present_values(config, strategy))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.cause}", cure=error.cure) from None
    return found


def present_values(config: Config, strategy: str) -> dict[str, str]:
    """The values that a strategy has without tuning, of all settings that could be its own."""
    own = config_of_strategy(config, strategy)
    return {
        name: value_text(getattr(getattr(own, fields()[name][0]), name)) for name in own_names()
    }


def as_json(space: Space) -> dict[str, list[dict[str, Any]]]:
    """The space in JSON's types."""
    return {strategy: [asdict(one) for one in space[strategy]] for strategy in sorted(space)}


def _parts(document: object) -> tuple[dict[str, Dimension], dict[str, dict[str, Dimension]]]:
    """The dimensions that all strategies tune, and those of each strategy alone."""
    if not isinstance(document, dict) or not document:
        raise ConfigError("it must hold `setting: values` lines", cure="see presets/space.yaml")
    shared: dict[str, Dimension] = {}
    own: dict[str, dict[str, Dimension]] = {}
    for key, content in document.items():
        name = str(key)
        if name.replace("-", "_") in fields():
            _add(shared, name, content, where="")
            continue
        strategy = _strategy(name)
        if strategy in own:
            raise ConfigError(f"{strategy} is there twice")
        if not isinstance(content, dict) or not content:
            raise ConfigError(f"{strategy} must hold `setting: values` lines")
        own[strategy] = {}
        for setting, values in content.items():
            _add(own[strategy], str(setting), values, where=f"{strategy}.")
    return shared, own


def _strategy(name: str) -> str:
    try:
        (strategy,) = meant_strategies((name,))
    except ValueError as error:
        known = nearest(name, own_names())
        raise ConfigError(
            f"{name!r:.80} is neither a setting nor a strategy: {error}", cure=known.strip()
        ) from None
    return strategy


def _add(found: dict[str, Dimension], name: str, content: object, *, where: str) -> None:
    name = name.replace("-", "_")
    place = f"{where}{name:.80}"
    if name in FIXED:
        raise ConfigError(f"{place} cannot be tuned: {FIXED[name]}")
    if name not in own_names():
        known = [one for one in own_names() if one not in FIXED]
        reason = "all arms share it" if name in fields() else "there is no such setting"
        raise ConfigError(
            f"{place} cannot be tuned: {reason}",
            cure=f"{nearest(name, known)}tunable are {', '.join(known)}",
        )
    if name in found:
        raise ConfigError(f"{place} is there twice")
    if isinstance(content, dict):
        found[name] = _range(name, content, place)
    elif isinstance(content, list):
        found[name] = _choices(name, content, place)
    else:
        raise ConfigError(
            f"{place}: {content!r:.80} is neither {{low: NUMBER, high: NUMBER}} nor a list"
        )


def _range(name: str, content: Mapping[Any, Any], place: str) -> Range:
    field = fields()[name][1]
    if field.annotation not in (int, float):
        raise ConfigError(
            f"{place} is no number alone, it may be {allowed_text(field)}",
            cure="give a list of choices",
        )
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{place}: unknown {unknown[0]!r:.80}", cure="known: " + ", ".join(_KEYS))
    if not {"low", "high"} <= set(content):
        raise ConfigError(f"{place} needs low and high")
    integer = field.annotation is int
    low, high = (_number(content[key], f"{place}.{key}", integer=integer) for key in _KEYS[:2])
    log = content.get("log", False)
    step = content.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"{place}.log: {log!r:.80} is neither true nor false")
    if step is not None:
        step = _number(step, f"{place}.step", integer=integer)
    for value in (low, high):
        _require_allowed(name, int(value) if integer else value, place)
    _require_order(place, low, high, log=log, step=step)
    return Range(name, low, high, integer, log, step)


def _require_order(place: str, low: float, high: float, *, log: bool, step: float | None) -> None:
    if not low < high:
        raise ConfigError(f"{place}: low {low:g} is not below high {high:g}")
    if log and step is not None:
        raise ConfigError(f"{place}: log and step exclude each other", cure="leave one out")
    if log and low <= 0:
        raise ConfigError(f"{place}: log needs a low above 0, not {low:g}")
    if step is not None and (step <= 0 or not _on_grid(high - low, step)):
        raise ConfigError(
            f"{place}: from {low:g} no whole number of steps of {step:g} leads to {high:g}",
            cure="change step or high",
        )


def _choices(name: str, content: Sequence[Any], place: str) -> Choices:
    texts = []
    for value in content:
        kept = _require_allowed(name, value, place)
        texts.append(value_text(getattr(kept, name)))
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise ConfigError(f"{place}: a list needs two or more values, each once")
    return Choices(name, tuple(texts))


def _require_allowed(name: str, value: object, place: str) -> Section:
    """The section with this value of a setting. Raises ConfigError if it is not allowed."""
    section, field = fields()[name]
    model = type(getattr(Config(), section))
    fault = ConfigError(f"{place}: {value!r:.80} is not allowed, it may be {allowed_text(field)}")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise fault
    try:
        found: Section = model.model_validate({name: value})
    except ValidationError:
        raise fault from None
    return found


def _number(value: object, place: str, *, integer: bool) -> float:
    """A number of the document; YAML takes 1e-3 for text."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        number = float(value)
        if not math.isfinite(number) or (integer and number != round(number)):
            raise ValueError
    except (ValueError, OverflowError):
        kind = "whole number" if integer else "number"
        raise ConfigError(f"{place}: {value!r:.80} is no {kind}") from None
    return number


def _on_grid(distance: float, step: float | None) -> bool:
    if step is None:
        return True
    steps = distance / step
    return abs(steps - round(steps)) <= _GRID_ERROR * max(1.0, abs(steps))


def _require_present(
    strategy: str, dimensions: Sequence[Dimension], present: Mapping[str, str]
) -> None:
    for one in dimensions:
        if not one.holds(present[one.name]):
            raise ConfigError(
                f"{strategy} has {one.name}={present[one.name]} now, which is not among {one}",
                cure="widen the space: the first trial is what the strategy has without tuning",
            )
