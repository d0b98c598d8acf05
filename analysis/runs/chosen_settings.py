"""A setting that a user names, and its value in a tracked run. Pure.

`particle_threshold` and `selection.particle_threshold` are the setting of a run,
`class_balanced.particle_threshold` is what it is for that strategy, `ratio` the labelled part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from pydantic import ValidationError

from analysis.runs.tidy import is_absent, number_in
from cryossl.config import deciding, fields, sections
from cryossl.errors import ConfigError, nearest
from cryossl.setting import allowed_text, choices_of, value_text
from cryossl.strategy_settings import called_setting, logged_settings, require_own

Value = str | int | float | bool | tuple[str, ...] | None
"""A value of a setting in its own type; None where the setting has none."""

OWN_PARAM = "selection.strategy_settings"
# A cell of the grid is told by the tags of its runs, not by a param.
_TAGS = {
    "ratio": ("ratio_percent", "cryossl.ratio_percent", "split.ratio"),
    "seed": ("seed", "cryossl.seed", "split.seed"),
    "strategies": ("strategy", "cryossl.strategy"),
}


@dataclass(frozen=True)
class ChosenSetting:
    """A setting by its field name; `strategy` where that strategy's own value is meant."""

    setting: str
    strategy: str = ""

    @property
    def name(self) -> str:
        """As it is typed and shown: `particle_threshold`, `class_balanced.particle_threshold`."""
        return f"{self.strategy}.{self.setting}" if self.strategy else self.setting

    @property
    def param(self) -> str:
        """The name of the tracked param: `selection.particle_threshold`."""
        return f"{fields()[self.setting][0]}.{self.setting}"

    @property
    def default(self) -> Value:
        """The default, in the setting's own type."""
        return cast("Value", fields()[self.setting][1].default)

    def value_in(self, row: Mapping[Any, Any]) -> Value:
        """Its value in a row of params and tags; None where the row has none.

        The own value of a strategy is that of the run where it has none for itself.
        """
        if self.setting in _TAGS:
            texts = [row[name] for name in _TAGS[self.setting] if not is_absent(row.get(name))]
            if self.setting == "strategies":
                return str(texts[0]) if texts else None
            number = number_in(texts[0]) if texts else None
            return int(number) if number is not None and self.setting == "seed" else number
        own = logged_settings(str(row.get(OWN_PARAM, ""))) if self.strategy else {}
        text = own.get(self.name, row.get(self.param))
        return None if is_absent(text) else logged_value(self.setting, str(text))

    def typed(self, text: str, *, option: str) -> Value:
        """The value that a user's text spells. Raises ConfigError for one that is not allowed.

        `option`: that it was typed for, for the message.
        """
        try:
            return _value(self.setting, text)
        except ValidationError:
            field = fields()[self.setting][1]
            raise ConfigError(
                f"{option}: {self.name}: {text!r:.200} is not allowed, it may be "
                f"{allowed_text(field)}"
            ) from None

    def order(self, value: Value) -> tuple[int, float, str]:
        """A sort key: numbers ascending, words in the order of their declaration."""
        if isinstance(value, int | float):
            return 0, float(value), ""
        words = choices_of(fields()[self.setting][1].annotation)
        shown = shown_value(value)
        return 1, words.index(shown) if shown in words else len(words), shown


def chosen_setting(typed: str, *, allowed: Collection[str], option: str) -> ChosenSetting:
    """The setting that a text names, dashes or underscores.

    Args:
        typed: a name, with or without its section, or `STRATEGY.NAME`.
        allowed: the field names that may be named.
        option: the option that it was typed for, for the message.

    Raises ConfigError that says why it cannot be named, or gives the nearest names.
    """
    strategy, name = called_setting(typed, option=option)
    if strategy:
        require_own(strategy, name, option=option)
    elif name not in allowed:
        known = name in fields()
        why = _REASONS[_mark(name)] if known else "there is no such setting"
        raise ConfigError(
            f"{option}: {typed!r:.100} cannot be named: {why}",
            cure=f"{'' if known else nearest(name, allowed)}docs/settings.md lists the settings",
        )
    return ChosenSetting(name, strategy)


_REASONS = {
    "seed": "every row is over all seeds",
    "strategies": "every strategy has rows of its own",
    "strategy_settings": "name one of them as STRATEGY.SETTING",
    "content": "runs of different data are never in one table",
    "nothing": "it decides no number of a run",
}


def _mark(name: str) -> str:
    """Why a setting may not be an axis: its own name, else what it decides."""
    param = f"{fields()[name][0]}.{name}"
    if name in _REASONS:
        return name
    return "content" if param in deciding("content") else "nothing"


@lru_cache(maxsize=4096)
def logged_value(setting: str, text: str) -> Value:
    """The value that a logged param spells; the text itself where it is not allowed any more."""
    try:
        return _value(setting, text)
    except ValidationError:
        return text


def _value(setting: str, text: str) -> Value:
    section, field = fields()[setting]
    given: object = text.strip()
    if isinstance(field.default, tuple):
        parts = () if given == "none" else str(given).strip("[]()").split(",")
        given = tuple(part for one in parts if (part := one.strip().strip("'\"")))
    elif field.default is None and given in ("", "None", "none"):
        given = None
    model = sections()[section].model_validate({setting: given})
    return cast("Value", getattr(model, setting))


def shown_value(value: Value) -> str:
    """A value as it is typed; `none` for no value or an empty list."""
    return value_text(value) or "none"


def shown_values(axes: Sequence[ChosenSetting], values: Sequence[Value]) -> str:
    """`particle_threshold 0.5, max_pseudo_per_labelled 2`."""
    return ", ".join(
        f"{axis.name} {shown_value(value)}" for axis, value in zip(axes, values, strict=True)
    )
