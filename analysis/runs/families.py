"""Families: groups of runs that differ in the named settings alone. Pure.

They have the same data, the same code, and equal values of every other setting that decides a
number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from analysis.runs.chosen_settings import (
    OWN_PARAM,
    ChosenSetting,
    Value,
    chosen_setting,
    shown_value,
    shown_values,
)
from analysis.runs.groups import Choice, chosen_first, group_name, groups_of, last_start
from analysis.runs.tidy import setting_names
from cryossl.config import deciding, fields
from cryossl.errors import ConfigError
from cryossl.strategy_settings import logged_settings

RATIO = "ratio"
AXES = (
    *(
        name
        for name, (section, _) in fields().items()
        if f"{section}.{name}" in deciding("training", "result") and name != "strategy_settings"
    ),
    RATIO,
)
"""The settings that can be an axis: those that decide a number, and the labelled part."""


@dataclass(frozen=True)
class Member:
    """The runs of a family with these values of its axes, as rows of the tidy table."""

    values: tuple[Value, ...]
    rows: pd.DataFrame
    group: str


@dataclass(frozen=True)
class Family:
    """Groups that differ in the values of `axes` alone; a member for each combination of values.

    `newest` is the group whose name stands for it: that which was named, else that of its newest
    run. `others` is the number of other families in the store with several values of the axes,
    `apart` says in which settings and code this one differs from other runs.
    """

    axes: tuple[ChosenSetting, ...]
    members: tuple[Member, ...]
    newest: pd.DataFrame
    notes: tuple[str, ...]
    others: int
    apart: tuple[str, ...]

    def values_of(self, axis: ChosenSetting) -> list[Value]:
        """The values of an axis, in order."""
        place = self.axes.index(axis)
        return sorted({member.values[place] for member in self.members}, key=axis.order)

    @property
    def default(self) -> tuple[Value, ...]:
        """The default values of the axes."""
        return tuple(axis.default for axis in self.axes)


def axes_called(typed: Sequence[str]) -> tuple[ChosenSetting, ...]:
    """The axes that `--by` names. Raises ConfigError for a name that is none, or named twice."""
    axes = tuple(chosen_setting(one, allowed=AXES, option="--by") for one in typed)
    settings = [axis.setting for axis in axes]
    if len(set(settings)) < len(settings):
        twice = next(name for name in settings if settings.count(name) > 1)
        raise ConfigError(f"--by names {twice} twice", cure="name it once")
    owners = {axis.strategy for axis in axes if axis.strategy}
    if len(owners) > 1:
        raise ConfigError(
            f"--by names settings of {' and '.join(sorted(owners))}, which share no row",
            cure="ask for one strategy at a time",
        )
    return axes


def family_of(
    runs: pd.DataFrame, axes: Sequence[ChosenSetting], choice: Choice, *, metric: str
) -> Family:
    """The family that is wanted.

    That of the group `choice` names; else the one in which the axes have the most values, among
    equals the newest. Only runs that have finished and have the metric count.

    Raises ConfigError where an axis has one value only.
    """
    groups = groups_of(runs)
    families = _families(groups, axes)
    many = [family for family in families if _several(family, axes, metric)]
    if choice.name:
        newest = chosen_first(groups, choice, metric=metric)[0]
        family = next(one for one in families if any(group is newest for group in one))
    else:
        family = max(families, key=lambda one: _rank(one, axes, metric))
        newest = family[0]
    if not any(family is one for one in many):
        raise ConfigError(_one_value(runs, family, axes, metric))
    members, notes = _members(family, axes)
    return Family(
        tuple(axes),
        tuple(members),
        newest,
        tuple(notes),
        others=len(many) - 1,
        apart=tuple(_apart(runs, newest, axes)),
    )


def _apart(runs: pd.DataFrame, group: pd.DataFrame, axes: Sequence[ChosenSetting]) -> list[str]:
    """`section.field=value` of the settings, but the axes, in which the runs of a store differ."""
    row = _settings(group)
    axis_names = {OWN_PARAM if axis.strategy else axis.param for axis in axes}
    names = [
        name
        for name in setting_names(runs.columns)
        if name not in axis_names and len(_texts(runs, name)) > 1
    ]
    code = str(group["code_digest"].iloc[0])[:8] or "unknown"
    several = len(_texts(runs, "code_digest")) > 1
    return [
        *([f"code {code}"] if several else []),
        *(f"{name}={row.get(name, 'unknown') or 'none'}" for name in names),
    ]


def _families(
    groups: Sequence[pd.DataFrame], axes: Sequence[ChosenSetting]
) -> list[list[pd.DataFrame]]:
    """The groups by what they share, each family newest first."""
    found: dict[Any, list[pd.DataFrame]] = {}
    for group in groups:
        found.setdefault(_shared(group, axes), []).append(group)
    return list(found.values())


def _shared(group: pd.DataFrame, axes: Sequence[ChosenSetting]) -> tuple[Any, ...]:
    """Data, code, and the settings that are no axis."""
    row = _settings(group)
    own = logged_settings(str(row.get(OWN_PARAM, "")))
    rest = {
        name: str(row.get(name, "unknown"))
        for name in setting_names(group.columns)
        if name != OWN_PARAM
    }
    for axis in axes:
        if axis.strategy:
            own.pop(axis.name, None)
        elif axis.setting != RATIO:
            rest.pop(axis.param, None)
    digests = (str(group[name].iloc[0]) for name in ("data", "code_digest"))
    return (*digests, *sorted(rest.items()), *sorted(own.items()))


def _settings(group: pd.DataFrame) -> Mapping[str, Any]:
    """The settings that the runs of a group share; a run that is missing knows none."""
    names = setting_names(group.columns)
    known = group[names].dropna(how="all")
    return (
        {str(name): value for name, value in known.iloc[0].dropna().items()} if len(known) else {}
    )


def _members(
    family: Sequence[pd.DataFrame], axes: Sequence[ChosenSetting]
) -> tuple[list[Member], list[str]]:
    """A member for each combination of values, and which groups are passed over.

    Two groups have the same values where one of them names them as a strategy's own. The one with
    more finished runs is taken, among equals the newest. Groups without the strategies whose own
    settings are axes have nothing to show.
    """
    owners = {axis.strategy for axis in axes if axis.strategy}
    every = [
        one
        for group in family
        for one in _parts(group, axes)
        if None not in one.values and (not owners or one.rows["strategy"].isin(owners).any())
    ]
    every.sort(key=lambda one: _place(one, axes))
    members, notes = [], []
    for _, same in groupby(every, key=lambda one: _place(one, axes)):
        best, *others = sorted(
            same, key=lambda one: (-int(one.rows["used"].sum()), -last_start(one.rows))
        )
        members.append(best)
        notes += [
            f"group {other.group} has the same values ({shown_values(axes, other.values)}) as "
            f"{best.group} and fewer or older runs; it is not mixed in"
            for other in others
        ]
    return members, notes


def _place(member: Member, axes: Sequence[ChosenSetting]) -> tuple[Any, ...]:
    return tuple(axis.order(value) for axis, value in zip(axes, member.values, strict=True))


def _parts(group: pd.DataFrame, axes: Sequence[ChosenSetting]) -> list[Member]:
    """The group as one member, or one for each labelled part where that is an axis."""
    row, name = _settings(group), group_name(group)
    if all(axis.setting != RATIO for axis in axes):
        return [Member(tuple(axis.value_in(row) for axis in axes), group, name)]
    return [
        Member(
            tuple(axis.value_in({**row, "ratio_percent": ratio}) for axis in axes),
            group[group["ratio_percent"] == ratio],
            name,
        )
        for ratio in sorted(set(group["ratio_percent"]))
    ]


def _measured(
    family: Sequence[pd.DataFrame], axes: Sequence[ChosenSetting], metric: str
) -> set[tuple[Value, ...]]:
    """The combinations of values that a finished run with the metric has."""
    owners = {axis.strategy for axis in axes if axis.strategy}
    members = [member for group in family for member in _parts(group, axes)]
    return {
        member.values
        for member in members
        if None not in member.values and metric in member.rows
        for used in [member.rows[member.rows["used"] & member.rows[metric].notna()]]
        if len(used) and (not owners or used["strategy"].isin(owners).any())
    }


def _several(family: Sequence[pd.DataFrame], axes: Sequence[ChosenSetting], metric: str) -> bool:
    """Whether every axis has several values in a family."""
    found = _measured(family, axes, metric)
    return bool(found) and all(len(set(values)) > 1 for values in zip(*found, strict=True))


def _rank(
    family: Sequence[pd.DataFrame], axes: Sequence[ChosenSetting], metric: str
) -> tuple[bool, int, float]:
    found = _measured(family, axes, metric)
    return _several(family, axes, metric), len(found), last_start(family[0])


def _one_value(
    runs: pd.DataFrame,
    family: Sequence[pd.DataFrame],
    axes: Sequence[ChosenSetting],
    metric: str,
) -> str:
    """What to say of the first axis that has one value only, or none."""
    found = list(zip(*_measured(family, axes, metric), strict=True)) or [()] * len(axes)
    axis, values = next(
        (axis, set(values))
        for axis, values in zip(axes, found, strict=True)
        if len(set(values)) < 2
    )
    every = {value for group in groups_of(runs) for (value,) in _measured([group], [axis], metric)}
    elsewhere = sorted(every - values, key=axis.order)
    there = (
        f"{axis.name} has one value only: {shown_value(next(iter(values)))}"
        if values
        else (f"no finished run has a value of {axis.name}")
    )
    own_texts = _texts(runs, OWN_PARAM)
    if axis.strategy and not any(axis.name in logged_settings(text) for text in own_texts):
        there = (
            f"no run has a {axis.name} of its own, `--by {axis.setting}` compares the values of "
            "whole runs"
        )
    elif elsewhere:
        others = ", ".join(map(shown_value, elsewhere))
        return (
            f"--by: {there}; runs with {others} differ in data, code or another setting too and "
            "are not mixed in, `cryossl compare --group list` lists them"
        )
    varied = [name for name in AXES if _varies(runs, ChosenSetting(name))]
    own = sorted({name for text in own_texts for name in logged_settings(text)})
    known = ", ".join([*varied, *own]) or "none"
    return f"--by: {there}; settings with several values: {known}"


def _varies(runs: pd.DataFrame, axis: ChosenSetting) -> bool:
    if axis.setting == RATIO:
        return len(set(runs["ratio_percent"])) > 1
    return len({axis.value_in({axis.param: text}) for text in _texts(runs, axis.param)}) > 1


def _texts(runs: pd.DataFrame, name: str) -> set[str]:
    return set(map(str, runs[name].dropna())) if name in runs else set()
