"""The grammar of strategy names: a base, then what is added to it or taken from it. Pure text."""

from __future__ import annotations

import re
from collections.abc import Mapping

BASELINE = "supervised"
LONG = "supervised_long"
FULL = "full"
NOISED = "supervised_noise"
ENSEMBLE = "ensemble"
CONTROLS = (LONG, NOISED, ENSEMBLE, FULL)
"""Arms without pseudo-labels: labels alone for as many steps as the longest student, the same with
the noise of noisy_student, the mean of several such networks, and all labels that exist."""
BASELINES = (BASELINE, LONG, NOISED)
"""Arms of one network that learns from the labelled part alone: a strategy has to beat the best of
them on validation. The ensemble is none of them, because each of its predictions costs more."""

FACTORS = ("class_thresholds", "balance_quality", "quota")
_FROM_NAIVE = {f"+{name}" for name in FACTORS}
_FROM_BALANCED = {f"-{name}" for name in FACTORS}
TAKES: Mapping[str, frozenset[str]] = {
    "naive": frozenset(_FROM_NAIVE | {"+calibrated", "+noise"}),
    "class_balanced": frozenset(_FROM_BALANCED | {"+calibrated", "+noise"}),
    "weighted_loss": frozenset(),
    "curriculum": frozenset(),
    "quantile": frozenset(),
    "stability": frozenset(),
    "soft": frozenset(),
    "noisy_student": frozenset(),
    "ema_consistency": frozenset({"+labelled_paste", "+prior_match"}),
    LONG: frozenset(),
    NOISED: frozenset(),
    ENSEMBLE: frozenset(),
    FULL: frozenset(),
}
"""Base -> the additions that may follow it, each with its sign."""

BASES = tuple(TAKES)
_FIXED_COUNT = frozenset(
    {"curriculum", "quantile", "stability", "soft", "noisy_student", "ema_consistency"}
)
BEST = "naive"
"""What `best` stands for: the strategy of highest mean validation F1 in the study on real
micrographs (docs/results.md)."""
_NAME = re.compile(r"^([a-z_]+)((?:[+-][a-z_]+)*)$")


def without_pseudo_labels(strategy: str) -> bool:
    """Whether an arm learns from true labels alone: the baseline and the controls."""
    return strategy == BASELINE or strategy in CONTROLS


def fixes_its_count(strategy: str) -> bool:
    """Whether a strategy's definition fixes how many pseudo-labels it keeps.

    Thresholds and quota do not change that number. False for controls and unknown names.
    """
    return re.split(r"[+-]", strategy, maxsplit=1)[0] in _FIXED_COUNT


def parse_strategy(name: str) -> tuple[str, frozenset[str]]:
    """Split a strategy name into its base and the factors and additions that are on.

    `naive` has none, `class_balanced` all three of FACTORS, `naive+quota` one,
    `class_balanced-quota` all but one. Raises ValueError that lists the known names.
    """
    match = _NAME.match(name)
    if match is None or match[1] not in TAKES:
        raise ValueError(
            f"unknown strategy {name!r:.80}; known: best (it is {BEST}), "
            f"{', '.join(map(_form, BASES))}"
        )
    base, tail = match.groups()
    marked = re.findall(r"[+-][a-z_]+", tail)
    for mark in marked:
        if mark not in TAKES[base]:
            raise ValueError(
                f"unknown strategy {name!r:.80}: {base} takes "
                f"{', '.join(sorted(TAKES[base])) or 'no addition'}"
            )
    if len(set(marked)) != len(marked):
        raise ValueError(f"strategy {name!r} names a factor twice")
    added = {mark[1:] for mark in marked if mark[0] == "+"}
    removed = {mark[1:] for mark in marked if mark[0] == "-"}
    return base, frozenset((set(FACTORS) if base == "class_balanced" else set()) - removed | added)


def _form(base: str) -> str:
    """A base with what may follow it in brackets."""
    return base + "".join(f"[{mark}]" for mark in sorted(TAKES[base]))


def meant_strategies(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names with `best` replaced by what it stands for.

    Raises ValueError for an unknown name and for a strategy that is named twice.
    """
    meant = tuple(BEST if name == "best" else name for name in names)
    if len({parse_strategy(name) for name in meant}) != len(meant):
        raise ValueError(
            "a strategy is named twice" + (f"; best is {BEST}" if "best" in names else "")
        )
    return meant


def counted_tries(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Entries `STRATEGY=COUNT`, each strategy once, as they are.

    Raises ValueError for another form, an unknown strategy and a count below 1.
    """
    pairs = [entry.partition("=") for entry in entries]
    for entry, (_, _, count) in zip(entries, pairs, strict=True):
        if re.fullmatch(r"[1-9][0-9]{0,8}", count) is None:
            raise ValueError(f"{entry!r:.80} is not STRATEGY=COUNT with a count of 1 or more")
    meant_strategies(tuple(name for name, _, _ in pairs))
    return entries
