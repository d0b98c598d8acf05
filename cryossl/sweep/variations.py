"""Settings that vary over a sweep: `--vary particle_threshold=0.5,0.6`. All functions are pure.

`class_balanced.particle_threshold=0.5,0.6` varies it for one strategy, in cells of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from cryossl.config import Config, deciding, fields
from cryossl.config_file import build
from cryossl.errors import ConfigError, nearest
from cryossl.pseudolabels.strategies import recipe_for, rounds_of
from cryossl.setting import value_text
from cryossl.strategy_names import BASELINE, BASELINES, without_pseudo_labels
from cryossl.strategy_settings import (
    called_setting,
    config_of_strategy,
    refuse_unused,
    require_own,
    with_own,
    with_strategies,
)
from cryossl.system.digest import digest

MOST_CELLS = 10_000
"""Of a sweep: the first cell begins when the splits of all are drawn."""
_OPTIONS = {"ratio": "--ratios", "seed": "--seeds", "strategies": "--strategies"}


@dataclass(frozen=True)
class Variation:
    """A setting and the values that it takes, as they are typed by default.

    `strategy`: whose setting it is; empty for that of all arms.
    """

    strategy: str
    name: str
    values: tuple[str, ...]

    @property
    def place(self) -> str:
        """`particle_threshold`, or `class_balanced.particle_threshold`."""
        return f"{self.strategy}.{self.name}" if self.strategy else self.name

    @property
    def param(self) -> str:
        """The name under which runs log it: `selection.particle_threshold`."""
        return f"{fields()[self.name][0]}.{self.name}"

    def applied(self, config: Config, value: str) -> Config:
        """The config with one of the values. Raises ConfigError if it is not allowed."""
        if self.strategy:
            return with_own(config, self.strategy, {self.name: value})
        section, _ = fields()[self.name]
        try:
            built = getattr(getattr(build({self.name: value}), section), self.name)
        except ConfigError as error:
            raise ConfigError(f"--vary: {error}") from None
        changed = getattr(config, section).model_copy(update={self.name: built})
        return config.model_copy(update={section: changed})


@dataclass(frozen=True)
class Variant:
    """One combination of values: `values` are texts by place, empty where nothing varies."""

    config: Config
    values: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """`particle_threshold=0.5, max_pseudo_per_labelled=2`; empty where nothing varies."""
        return ", ".join(f"{place}={value}" for place, value in self.values)

    @property
    def folder(self) -> str:
        """A name for files: the title in letters that are allowed there, cut if it is long."""
        parts = (f"{place}_{value}" for place, value in self.values)
        name = "_".join(parts)
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
        if plain == name and len(name) <= 70:
            return name
        return f"{plain[:60]}_{digest(self.title)[:8]}"


def variations(texts: Sequence[str], config: Config) -> list[Variation]:
    """The variations that options `SETTING=VALUES` name.

    Args:
        texts: as typed, values separated by commas; a text may hold several, separated by `;`.
        config: of the sweep.

    Raises:
        ConfigError: not `SETTING=VALUES`, a setting that is not there or decides no number, a value
            that is not allowed or is there twice, a strategy that does not run.
    """
    found: list[Variation] = []
    for text, whole in ((part, one) for one in texts for part in one.split(";")):
        place, equals, values = text.partition("=")
        if not equals or not place.strip() or not values.strip(" ,"):
            raise ConfigError(
                f"--vary {whole!r:.200}{f': {text!r:.100}' * (text != whole)} is not "
                "SETTING=VALUES",
                cure="e.g. --vary particle_threshold=0.5,0.6,0.7; `;` goes between two settings",
            )
        strategy, name = called_setting(place, option="--vary")
        if strategy:
            _require_running(strategy, config)
            require_own(strategy, name, option="--vary")
        else:
            _require_variable(name)
        one = _normal(Variation(strategy, name, tuple(values.split(","))), config)
        if any(one.place == other.place for other in found):
            raise ConfigError(f"--vary names {one.place} twice", cure="give all values in one")
        found.append(one)
    return found


def variants(config: Config, found: Sequence[Variation]) -> list[Variant]:
    """All combinations of the values, each with the config that it makes.

    Settings of one strategy vary in cells of that strategy and of the controls that count among the
    baselines; all other strategies run in cells without them. A setting that changes nothing of the
    strategies of a cell does not vary there.

    Raises:
        ConfigError: two combinations that would be the same numbers, more than MOST_CELLS, or
            settings of a strategy that does not run.
    """
    refuse_unused(config)
    owners = list(dict.fromkeys(one.strategy for one in found if one.strategy))
    names = config.selection.strategies
    shared = tuple(name for name in names if name not in owners)
    beside = tuple(name for name in names if name in BASELINES)
    groups = [(owner, with_strategies(config, (owner, *beside))) for owner in owners]
    if not owners or set(shared) - set(BASELINES):
        groups.insert(0, ("", with_strategies(config, shared)))
    made: list[Variant] = []
    used: set[str] = set()
    for owner, base in groups:
        chosen = [
            one
            for one in found
            if one.strategy == owner != "" or (not one.strategy and _changes(one, base))
        ]
        used.update(one.place for one in chosen)
        made += _combinations(base, chosen)
    for one in found:
        if one.place not in used:
            raise ConfigError(
                f"--vary {one.place}: all its values are the same for {', '.join(names)}",
                cure="name a strategy that the setting changes",
            )
    return made


def _changes(one: Variation, config: Config) -> bool:
    """Whether the values of a setting make different numbers of some arm, or there is only one."""
    configs = [one.applied(config, value) for value in one.values]
    return len(configs) == 1 or len(set(map(_identities, configs))) > 1


def _identities(config: Config) -> tuple[str, ...]:
    return tuple(arm_identity(config, name) for name in (BASELINE, *config.selection.strategies))


def arm_identity(config: Config, strategy: str) -> str:
    """Digest of all settings that decide an arm's numbers; equal for arms that would be the same.

    `strategy`: may be `supervised`.
    """
    own = config_of_strategy(config, strategy)
    ignored = {"selection.target_particle_ratio"} if strategy in BASELINES else set()
    values = {
        name: value
        for name, value in own.values_deciding("training", "result", "content", "cell").items()
        if (not name.startswith("selection.") or name == "selection.target_particle_ratio")
        and name not in ignored
        and not (strategy == BASELINE and _only_of_students(name))
    }
    rounds = (
        range(1, rounds_of(strategy, own.loop.max_iterations) + 1) if strategy != BASELINE else ()
    )
    recipes = [
        repr(recipe_for(strategy, own.selection, iteration=number))
        for number in rounds
        if not without_pseudo_labels(strategy)
    ]
    return digest({"strategy": strategy, "settings": values, "recipes": recipes})


def _only_of_students(name: str) -> bool:
    return name.startswith("loop.") or name == "training.student_epochs"


def _combinations(config: Config, found: Sequence[Variation]) -> list[Variant]:
    """The variants of the product of all values. Raises ConfigError for too many."""
    refuse_too_many(math.prod(len(one.values) for one in found))
    made = []
    for values in product(*(one.values for one in found)):
        changed = config
        for one, value in zip(found, values, strict=True):
            changed = one.applied(changed, value)
        texts = tuple((one.place, value) for one, value in zip(found, values, strict=True))
        made.append(Variant(changed, texts))
    _refuse_same(made)
    return made


def refuse_too_many(cells: int) -> None:
    """Raise ConfigError for more cells than a sweep can have."""
    if cells > MOST_CELLS:
        raise ConfigError(
            f"the sweep would have {cells:,} cells or more, {MOST_CELLS:,} at most are allowed",
            cure="give fewer values, ratios or seeds, or vary fewer settings at once",
        )


def _refuse_same(made: Sequence[Variant]) -> None:
    known: dict[tuple[str, ...], Variant] = {}
    for variant in made:
        same = known.setdefault(_identities(variant.config), variant)
        if same is not variant:
            raise ConfigError(
                f"--vary: {same.title} and {variant.title} are the same for "
                f"{', '.join(variant.config.selection.strategies)}",
                cure="leave one of them out, or name a strategy that the setting changes",
            )


def _normal(one: Variation, config: Config) -> Variation:
    """The variation with its values in one spelling. Raises ConfigError."""
    found: dict[str, str] = {}
    for text in one.values:
        changed = config_of_strategy(one.applied(config, text.strip()), one.strategy)
        section, _ = fields()[one.name]
        value = value_text(getattr(getattr(changed, section), one.name))
        if value in found:
            both = " and ".join(dict.fromkeys((found[value], text.strip())))
            raise ConfigError(f"--vary {one.place} has {value} twice ({both})")
        found[value] = text.strip()
    return Variation(one.strategy, one.name, tuple(found))


def _require_running(strategy: str, config: Config) -> None:
    """Raise ConfigError for a strategy that is not among those of the sweep."""
    if strategy not in config.selection.strategies:
        raise ConfigError(
            f"--vary: {strategy} is not among the strategies of this sweep",
            cure=f"--strategies names them: {', '.join(config.selection.strategies)}",
        )


def _require_variable(name: str) -> None:
    """Raise ConfigError unless a setting of this name decides a number and holds one value."""
    known = [
        one
        for one, (section, field) in fields().items()
        if f"{section}.{one}" in deciding("training", "result")
        and not isinstance(field.default, tuple)
    ]
    if name in known:
        return
    if name in _OPTIONS:
        raise ConfigError(f"--vary {name}: {_OPTIONS[name]} does that", cure="use that option")
    if name == "strategy_settings":
        raise ConfigError(
            "--vary strategy_settings: name the strategy and its setting",
            cure="e.g. --vary class_balanced.particle_threshold=0.5,0.6",
        )
    if any(place.rpartition(".")[2] == name for place in deciding("content")):
        raise ConfigError(
            f"--vary {name}: its values are other data, which share no table",
            cure="give each a sweep with a --name of its own",
        )
    if name in fields():
        raise ConfigError(
            f"--vary {name}: it does not decide a number, or is a list",
            cure="docs/settings.md says what can be varied",
        )
    raise ConfigError(
        f"--vary: unknown setting {name!r:.80}",
        cure=f"{nearest(name, known)}`cryossl run --help` lists the settings",
    )
