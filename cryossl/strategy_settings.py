"""Settings of one strategy alone: `class_balanced.particle_threshold=0.5`.

A strategy takes the settings of the run, with its own in their place. Only what a student decides
can be its own: the baseline is the teacher of all strategies, and they are scored alike.
"""

from __future__ import annotations

import re

from pydantic import ValidationError

from cryossl.config import Config, deciding, fields
from cryossl.errors import ConfigError, nearest
from cryossl.setting import Section, allowed_text, value_text
from cryossl.strategy_names import BASELINE, CONTROLS, meant_strategies

_SHARED = {"strategy_settings", "baseline_epochs", "model", "precision"}
"""Settings of the two sections that every arm shares."""
_LOGGED = re.compile(r"([a-z_+-]+\.[a-z_]+)=([^'\",\]]*)")


def own_names() -> list[str]:
    """The settings that a strategy can have for itself, in the order of declaration."""
    names = deciding("training", "result")
    return [
        name
        for name, (section, _) in fields().items()
        if section in ("training", "selection")
        and f"{section}.{name}" in names
        and name not in _SHARED
    ]


def normal_entries(config: Config) -> tuple[str, ...]:
    """`strategy_settings` in one spelling: `best` replaced, values as typed by default, sorted.

    Raises:
        ConfigError: an entry is not `STRATEGY.SETTING=VALUE`, names a strategy or setting that is
            not there, gives a value that is not allowed, or sets something twice.
    """
    found: dict[tuple[str, str], str] = {}
    for entry in config.selection.strategy_settings:
        strategy, name, text = _parts(entry)
        if (strategy, name) in found:
            raise ConfigError(f"strategy_settings sets {strategy}.{name} twice")
        found[strategy, name] = value_text(
            getattr(_section_with(config, name, text, strategy=strategy), name)
        )
    return tuple(f"{strategy}.{name}={text}" for (strategy, name), text in sorted(found.items()))


def own_settings(config: Config, strategy: str) -> dict[str, str]:
    """Setting -> value as text, of those that a strategy has for itself."""
    parts = map(_parts, config.selection.strategy_settings)
    return {name: text for owner, name, text in parts if owner == strategy}


def logged_settings(text: str) -> dict[str, str]:
    """`STRATEGY.SETTING` -> value as text, from the logged value of `strategy_settings`."""
    return dict(_LOGGED.findall(text))


def config_of_strategy(config: Config, strategy: str) -> Config:
    """The config with the strategy's own settings in it."""
    for name, text in own_settings(config, strategy).items():
        section, _ = fields()[name]
        changed = _section_with(config, name, text, strategy=strategy)
        config = config.model_copy(update={section: changed})
    return config


def with_own(config: Config, strategy: str, name: str, text: str) -> Config:
    """The config in which a strategy has this value of a setting. Raises ConfigError."""
    others = [
        entry
        for entry in config.selection.strategy_settings
        if not entry.startswith(f"{strategy}.{name}=")
    ]
    entries = (*others, f"{strategy}.{name}={text}")
    selection = config.selection.model_copy(update={"strategy_settings": entries})
    changed = config.model_copy(update={"selection": selection})
    entries = normal_entries(changed)
    selection = selection.model_copy(update={"strategy_settings": entries})
    return config.model_copy(update={"selection": selection})


def tuned_seeds(config: Config) -> range:
    """The seeds of the tuning that made a config; none for one that was not tuned."""
    found = re.search(r"(\d+)-(\d+)$", config.selection.tuned_by)
    return range(int(found[1]), int(found[2]) + 1) if found else range(0)


def logged_tries(text: str, strategy: str) -> int:
    """Trials behind a strategy's settings, from the logged value of `tries`; 1 if not tuned."""
    found = re.search(rf"(?:^|[^a-z_+-]){re.escape(strategy)}=(\d+)", text)
    return int(found[1]) if found else 1


def _parts(entry: str) -> tuple[str, str, str]:
    """Strategy, setting and value of an entry. Raises ConfigError."""
    place, equals, text = entry.partition("=")
    strategy, dot, name = place.strip().rpartition(".")
    if not equals or not dot:
        raise ConfigError(
            f"strategy_settings: {entry!r:.200} is not STRATEGY.SETTING=VALUE",
            cure="e.g. class_balanced.particle_threshold=0.5",
        )
    name = name.replace("-", "_")
    if strategy == BASELINE:
        raise ConfigError(
            f"strategy_settings: {entry!r:.200}: the baseline has the settings of the run"
        )
    try:
        (strategy,) = meant_strategies((strategy,))
    except ValueError as error:
        raise ConfigError(f"strategy_settings: {error}") from None
    section = fields()[name][0] if name in fields() else ""
    if name not in own_names() or (strategy in CONTROLS and section == "selection"):
        known = [one for one in own_names() if strategy not in CONTROLS or _is_of_training(one)]
        reason = "all arms share it" if section else "there is no such setting"
        raise ConfigError(
            f"strategy_settings: {strategy} has no {name!r:.80} of its own: {reason}",
            cure=f"{nearest(name, known)}it can have: {', '.join(known)}",
        )
    return strategy, name, text.strip()


def _is_of_training(name: str) -> bool:
    return fields()[name][0] == "training"


def _section_with(config: Config, name: str, text: str, *, strategy: str) -> Section:
    """The section of a setting with this value. Raises ConfigError for one that is not allowed."""
    section, field = fields()[name]
    present: Section = getattr(config, section)
    try:
        return type(present).model_validate({**dict(present), name: text})
    except ValidationError:
        raise ConfigError(
            f"strategy_settings: {strategy}.{name}: {text!r:.200} is not allowed, it may be "
            f"{allowed_text(field)}"
        ) from None
