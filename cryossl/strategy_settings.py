"""Settings of one strategy alone: `class_balanced.particle_threshold=0.5`.

A strategy takes the settings of the run, with its own in their place. Only what a student decides
can be its own: the baseline is the teacher of all strategies, and they are scored alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import ValidationError

from cryossl.config import Config, deciding, fields, sections
from cryossl.errors import ConfigError, nearest
from cryossl.setting import Section, allowed_text, value_text
from cryossl.strategy_names import BASELINE, BASES, CONTROLS, meant_strategies

_SHARED = {"strategy_settings", "baseline_epochs", "model", "precision"}
"""Settings of the two sections that every arm shares."""
_OPTION = "strategy_settings"
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


def called_setting(text: str, *, option: str) -> tuple[str, str]:
    """Strategy and setting that a text names: `SETTING`, `SECTION.SETTING` or `STRATEGY.SETTING`.

    The strategy is empty where none is named. Dashes may stand for underscores, and `best` for what
    it is. The setting need not exist.

    Args:
        text: as typed.
        option: that it was typed for, for the messages.

    Raises:
        ConfigError: a part is missing, an unknown strategy, the baseline, or a section without the
            setting.
    """
    owner, dot, name = text.strip().rpartition(".")
    name = name.replace("-", "_")
    if not name or (dot and not owner):
        raise ConfigError(
            f"{option}: {text!r:.100} names no setting",
            cure="e.g. particle_threshold, or class_balanced.particle_threshold for one strategy",
        )
    if owner not in sections():
        return (_called_strategy(owner, text, option=option) if owner else ""), name
    if name in fields() and fields()[name][0] != owner:
        raise ConfigError(
            f"{option}: {name} is a setting of the section {fields()[name][0]}, not of {owner}"
        )
    return "", name


def _called_strategy(owner: str, text: str, *, option: str) -> str:
    if owner == BASELINE:
        raise ConfigError(
            f"{option}: {text!r:.100}: the baseline has the settings of the run",
            cure=f"leave `{BASELINE}.` out",
        )
    for name in (owner, owner.replace("-", "_")):
        try:
            (strategy,) = meant_strategies((name,))
        except ValueError:
            continue
        return strategy
    raise ConfigError(
        f"{option}: {text!r:.100}: unknown strategy {owner!r:.80}",
        cure=f"{nearest(owner, BASES)}known: {', '.join(BASES)}",
    )


def require_own(strategy: str, name: str, *, option: str) -> None:
    """Raise ConfigError unless a strategy can have this setting for itself.

    `option`: that it was typed for, for the message.
    """
    known = [one for one in own_names() if strategy not in CONTROLS or _is_of_training(one)]
    if name in known:
        return
    if name not in fields():
        reason = "there is no such setting"
    elif name in own_names():
        reason = f"{strategy} selects no pseudo-labels"
    else:
        reason = "all arms share it"
    raise ConfigError(
        f"{option}: {strategy} has no {name!r:.80} of its own: {reason}",
        cure=f"{nearest(name, known)}it can have: {', '.join(known)}",
    )


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


def refuse_unused(config: Config) -> None:
    """Raise ConfigError for settings of a strategy that does not run."""
    for owner, name, _ in map(_parts, config.selection.strategy_settings):
        if owner not in config.selection.strategies:
            raise ConfigError(
                f"{_OPTION} sets {owner}.{name}, and {owner} is not among the strategies",
                cure=f"leave it out, or add {owner} to --strategies",
            )


def with_strategies(config: Config, strategies: tuple[str, ...]) -> Config:
    """The config with these strategies alone, and of strategy_settings those of these."""
    entries = tuple(
        entry for entry in config.selection.strategy_settings if _parts(entry)[0] in strategies
    )
    selection = config.selection.model_copy(
        update={"strategies": strategies, "strategy_settings": entries}
    )
    return config.model_copy(update={"selection": selection})


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


def with_own(config: Config, strategy: str, values: Mapping[str, str]) -> Config:
    """The config in which a strategy has these values of settings for itself.

    `values`: setting -> value as it is typed. Raises ConfigError for one that is not allowed.
    """
    replaced = {f"{strategy}.{name}" for name in values}
    others = [
        entry
        for entry in config.selection.strategy_settings
        if entry.partition("=")[0] not in replaced
    ]
    entries = (*others, *(f"{strategy}.{name}={text}" for name, text in values.items()))
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
    strategy, name = called_setting(place, option=_OPTION) if equals and place.strip() else ("", "")
    if not strategy:
        raise ConfigError(
            f"{_OPTION}: {entry!r:.200} is not STRATEGY.SETTING=VALUE",
            cure="e.g. class_balanced.particle_threshold=0.5",
        )
    require_own(strategy, name, option=_OPTION)
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
