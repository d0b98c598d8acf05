"""Groups of comparable runs: their short names, and which of them a command shows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.runs.tidy import GROUP, data_name, setting_names, started
from cryossl.errors import ConfigError, nearest

LIST = "list"
NAME_DIGITS = 6


@dataclass(frozen=True)
class Choice:
    """Which group is wanted.

    `name`: of a group, or the beginning of its name; empty: the newest that holds what is asked.
    That is: finished runs of all `strategies`, at the labelled part `ratio_percent` if one is
    given.
    """

    name: str = ""
    strategies: tuple[str, ...] = ("naive", "class_balanced")
    ratio_percent: float | None = None


NOTE_ARMS = Choice()
"""The newest group with both arms of the note."""


def groups_of(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The groups of a tidy table, the newest first."""
    groups = [group for _, group in runs.groupby(list(GROUP), sort=False)]
    return sorted(groups, key=last_start, reverse=True)


def last_start(group: pd.DataFrame) -> float:
    """When its newest run started, in seconds since 1970."""
    return max(map(started, group["start_time"]))


def group_name(group: pd.DataFrame) -> str:
    """Six hex digits that stand for its data, settings and code."""
    parts = [str(group[name].iloc[0]) for name in GROUP]
    return hashlib.blake2s(repr(parts).encode(), digest_size=NAME_DIGITS // 2).hexdigest()


def chosen_first(
    groups: Sequence[pd.DataFrame], choice: Choice, *, metric: str
) -> list[pd.DataFrame]:
    """The groups, the one that is wanted first, then the newest. Raises ConfigError without one."""
    if choice.name:
        names = [group_name(group) for group in groups]
        found = [place for place, name in enumerate(names) if name.startswith(choice.name)]
        if len(found) != 1:
            what = "several groups have names that begin with" if found else "no group is called"
            raise ConfigError(
                f"{what} {choice.name!r}",
                cure=f"{nearest(choice.name, names)}`cryossl compare --group {LIST}` lists them",
            )
        first = groups[found[0]]
    else:
        first = max(groups, key=lambda group: (*_holds(group, choice, metric), last_start(group)))
    return [first, *(group for group in groups if group is not first)]


def _holds(group: pd.DataFrame, choice: Choice, metric: str) -> tuple[bool, ...]:
    """Whether a group has what is asked; the more important things come first."""
    used = group[group["used"]]
    if choice.ratio_percent is not None:
        used = used[np.isclose(used["ratio_percent"].astype(float), choice.ratio_percent)]
    there = set(used["strategy"])
    measured = metric in used and bool(used[metric].notna().any())
    return (
        measured and there.issuperset(choice.strategies),
        measured,
        measured and bool(there & set(choice.strategies)),
        bool(group["used"].any()),
    )


def difference_text(group: pd.DataFrame, groups: Iterable[pd.DataFrame]) -> str:
    """How a group differs from those with data of the same name.

    `data <digest>`, `code <digest>` and `section.field=value`, as far as there is a difference.
    """
    same = [other for other in groups if data_name(other) == data_name(group)]
    digests = [
        f"{word} {_only(group, name)[:8] or 'unknown'}"
        for word, name in (("data", "data"), ("code", "code_digest"))
        if len({_only(other, name) for other in same}) > 1
    ]
    names = [
        name
        for name in setting_names(group.columns)
        if len({_only(other, name) for other in same}) > 1
    ]
    return ", ".join([*digests, *(f"{name}={_only(group, name) or 'none'}" for name in names)])


def _only(group: pd.DataFrame, name: str) -> str:
    known = group[name].dropna()
    return str(known.iloc[0]) if len(known) else "unknown"
