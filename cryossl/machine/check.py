"""The result of a check of the machine, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check: `what` was found, and a one-line `cure` unless that is good."""

    name: str
    state: State
    what: str
    cure: str = ""


def named_checks(name: str) -> tuple[partial[Check], partial[Check], partial[Check]]:
    """The results ok, warn and fail of this check; each is called with `what` and `cure`."""
    return partial(Check, name, "ok"), partial(Check, name, "warn"), partial(Check, name, "fail")


def render(checks: Sequence[Check]) -> str:
    """A line for each check, with its cure on the line below."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.state:4}  {check.name:{width}}  {check.what}")
        if check.cure:
            lines.append(f"{'':{width + 6}}  -> {check.cure}")
    return "\n".join(lines)
