"""What a check of the machine found, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]
_ORDER: tuple[State, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Check:
    """One thing looked at: `what` was found, and where that is not well, the one-line `cure`."""

    name: str
    state: State
    what: str
    cure: str = ""


def worst(checks: Sequence[Check]) -> State:
    """`fail` if any check failed, else `warn` if any warns, else `ok`; no checks are `ok`."""
    return max((check.state for check in checks), key=_ORDER.index, default="ok")


def render(checks: Sequence[Check]) -> str:
    """One line a check, its cure on the line below it."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.state:4}  {check.name:{width}}  {check.what}")
        if check.cure:
            lines.append(f"{'':{width + 6}}  -> {check.cure}")
    return "\n".join(lines)
