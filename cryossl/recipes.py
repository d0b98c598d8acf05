"""The grammar of strategy names: a base, then factors added to naive or taken from class_balanced. Pure text."""

from __future__ import annotations

import re

BASES = ("naive", "class_balanced", "supervised_long")
LONG = "supervised_long"
FACTORS = ("class_thresholds", "balance_quality", "quota")

_ABLATION = re.compile(r"^(naive|class_balanced)((?:[+-][a-z_]+)*)$")


def parse_strategy(name: str) -> tuple[str, frozenset[str]]:
    """Strategy name -> (base, the factors of class_balanced that are switched on).

    `naive` has none, `class_balanced` all, `naive+quota` one, `class_balanced-quota` all but one.
    Raises ValueError that lists the known names.
    """
    if name == "supervised_long":
        return name, frozenset()
    match = _ABLATION.match(name)
    if match is None:
        raise ValueError(f"unknown strategy {name!r}; known: {', '.join(BASES)}, and naive+F or class_balanced-F "
                         f"with F of {', '.join(FACTORS)}")
    base, tail = match.groups()
    sign = "+" if base == "naive" else "-"
    chosen = re.findall(r"([+-])([a-z_]+)", tail)
    for mark, factor in chosen:
        if mark != sign or factor not in FACTORS:
            raise ValueError(f"unknown strategy {name!r}: {base} takes {sign}F with F of {', '.join(FACTORS)}")
    named = frozenset(factor for _, factor in chosen)
    if len(named) != len(chosen):
        raise ValueError(f"strategy {name!r} names a factor twice")
    return base, named if base == "naive" else frozenset(FACTORS) - named


def check_strategies(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names, each known and none twice. Raises ValueError."""
    for name in names:
        parse_strategy(name)
    if len(set(names)) != len(names):
        raise ValueError("a strategy is named twice")
    return names
