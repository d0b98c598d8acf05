"""What a tuning found: the table of its strategies, and the config file of the tuned arms."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cryossl.config import Config, fields
from cryossl.errors import StorageError
from cryossl.redaction import shown
from cryossl.selftraining.records.messages import percent_text
from cryossl.strategy_settings import with_own
from cryossl.system.files import write_durably
from cryossl.tuning.space import Space, as_json
from cryossl.tuning.study import Trial

TUNED = "tuned.yaml"
_STATES = ("complete", "pruned", "failed")
_NAMED = frozenset({"strategies", "strategy_settings", "tries", "tuned_by", "name"})
"""Settings of a tuned config that do not come from the config that was tuned."""
_LONGEST_NAME = 100
_SUFFIX = "-tuned"


@dataclass(frozen=True)
class Found:
    """What was found for one strategy, from its trials by number."""

    strategy: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The complete trial of the highest value, of equal ones the first; None without one."""
        complete = [one for one in self.trials if one.value is not None]
        return max(complete, key=lambda one: (one.value or 0.0, -one.number), default=None)

    @property
    def before(self) -> float | None:
        """The value of the first trial, which is the strategy without tuning."""
        return self.trials[0].value if self.trials else None

    def count(self, state: str) -> int:
        """Trials in a state."""
        return Counter(one.state for one in self.trials)[state]  # type: ignore[index]


@dataclass(frozen=True)
class Provenance:
    """Where a tuned config comes from.

    Attributes:
        name: of the results folder of the tuning.
        digest: of space, seeds, settings, data and code, 12 hex digits.
        seeds: that it used.
        space: that was searched.
        facts: digest of each part, by its name.
    """

    name: str
    digest: str
    seeds: range
    space: Space
    facts: Mapping[str, str]

    @property
    def text(self) -> str:
        """The value of the setting `tuned_by`."""
        return f"{self.name} {self.digest} seeds {self.seeds[0]}-{self.seeds[-1]}"


def table(found: Sequence[Found]) -> list[str]:
    """The lines of the table; F1 in percent, the best values below each strategy."""
    width = max(len("strategy"), *(len(one.strategy) for one in found))
    head = ("tries", *_STATES, "untuned", "best", "trial")
    lines = [f"{'strategy':{width}}" + "".join(f"{word:>10}" for word in head)]
    for one in found:
        best = one.best
        cells = (
            str(len(one.trials)),
            *(str(one.count(state)) for state in _STATES),
            _cell(one.before),
            _cell(best.value if best else None),
            str(best.number) if best else "-",
        )
        lines.append(f"{one.strategy:{width}}" + "".join(f"{cell:>10}" for cell in cells))
        if best:
            lines += [f"  {name}={text}" for name, text in best.values.items()]
    return lines


def remarks(
    found: Sequence[Found], provenance: Provenance, *, baselines: Sequence[float]
) -> list[str]:
    """What a reader of the table has to know; `baselines` are the known values of the seeds."""
    seeds = provenance.seeds
    mean = f"mean of the seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    lines = [
        f"F1 on validation in percent, {mean}; `untuned` is trial 0. The best of many trials is "
        "too high by chance: only seeds that tuning never saw test it."
    ]
    if baselines:
        lines.append(
            f"The supervised baseline has {percent_text(sum(baselines) / len(baselines))}."
        )
    lines += [
        f"⚠ no trial of {one.strategy} was completed: it keeps its settings"
        + (f" (trial 0: {one.trials[0].reason})" if one.trials and one.trials[0].reason else "")
        for one in found
        if one.best is None
    ]
    return lines


def next_command(config: Config, file: Path) -> str:
    """What to type next."""
    words = ["cryossl", "sweep", "--config", str(file), "--seeds", "6"]
    return shlex.join(
        [*words, *(word for pair in config.run.store_options.items() for word in pair)]
    )


def tuned_config(config: Config, found: Sequence[Found], provenance: Provenance) -> dict[str, Any]:
    """The settings of the tuned arms that differ from the defaults, in JSON's types."""
    tuned = config
    for one in found:
        if one.best:
            tuned = with_own(tuned, one.strategy, one.best.values)
    defaults, present = Config().model_dump(mode="json"), tuned.model_dump(mode="json")
    values: dict[str, Any] = {
        name: present[section][name]
        for name, (section, _) in fields().items()
        if name not in _NAMED and present[section][name] != defaults[section][name]
    }
    if shown(config.run.tracking_uri) != config.run.tracking_uri:
        values.pop("tracking_uri", None)  # it has a password
    if config.split.labelled is not None:
        values["labelled"] = str(config.split.labelled.absolute())
    else:
        values["ratio"] = config.split.ratio
    return {
        **values,
        "name": config.run.name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX,
        "strategies": list(config.selection.strategies),
        "strategy_settings": list(tuned.selection.strategy_settings),
        "tries": [f"{one.strategy}={len(one.trials)}" for one in found],
        "tuned_by": provenance.text,
    }


def tuned_text(config: Config, found: Sequence[Found], provenance: Provenance) -> str:
    """The file `tuned.yaml`: the tuned config below comments on where it comes from."""
    comments = [
        "Written by `cryossl tune`. `run` and `sweep` read it with --config.",
        f"Tuning {provenance.text}; objective: mean validation F1 of the best student of each "
        "seed's loop.",
        *(_origin(one) for one in found),
        *(f"{name}: {text}" for name, text in provenance.facts.items()),
        f"space: {json.dumps(as_json(provenance.space))}",
    ]
    body = yaml.safe_dump(
        tuned_config(config, found, provenance), sort_keys=False, allow_unicode=True
    )
    return "".join(f"# {line}\n" for line in comments) + body


def write_tuned(file: Path, text: str) -> None:
    """Write the file if its content is another one. Raises StorageError."""
    content = text.encode()
    try:
        if not file.is_file() or file.read_bytes() != content:
            write_durably(file, content)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}", cure="free space") from None


def _origin(one: Found) -> str:
    counts = ", ".join(f"{one.count(state)} {state}" for state in _STATES)
    best = one.best
    what = (
        f"trial {best.number}, F1 {percent_text(best.value)}"
        if best
        else "no complete trial, untuned"
    )
    before = percent_text(one.before)
    return f"{one.strategy}: {what}; untuned {before}; {len(one.trials)} tries ({counts})"


def _cell(value: float | None) -> str:
    return "-" if value is None else percent_text(value)
