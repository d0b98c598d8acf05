"""Remaining time, estimated from the work done so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

EXPECTATION_WEIGHT = 0.02
"""How much of the whole run's expected time an expectation counts beside what was measured."""


@dataclass(frozen=True)
class PlannedPhase:
    """One step of a run. `share` is its expected cost relative to the other steps, in any unit.

    `measured_by`: the count inside it that shows how far it is, e.g. `train`. If empty, every count
    does.
    """

    title: str
    share: float = 1.0
    measured_by: str = ""


@dataclass(frozen=True)
class Whole:
    """How far a whole run is.

    `title`: its current phase. `fraction`: what is done, in [0, 1]; None if nothing is planned.
    `seconds_left`: None if unknown.
    """

    title: str
    fraction: float | None
    seconds_left: float | None


class Pace:
    """Estimates remaining time from the work of this start, and from an expectation if given."""

    def __init__(self, plan: Sequence[PlannedPhase]) -> None:
        self._plan = tuple(plan)
        self._expected = False
        self._index = -1
        self._worked_seconds = 0.0
        self._worked_share = 0.0
        self._origin: tuple[float, float] | None = None
        self._now = (0.0, 0.0)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take the expected seconds of the phases, by title, for their shares."""
        self._plan = tuple(
            replace(phase, share=seconds.get(phase.title, 0.0)) for phase in self._plan
        )
        self._worked_seconds = self._worked_share = 0.0
        self._expected = True

    def begin(self, title: str) -> None:
        """Go on to the next planned phase of that title; an unplanned title changes no phase."""
        seconds, share = self._current()
        self._worked_seconds += seconds
        self._worked_share += share
        self._origin = None
        ahead = [
            index
            for index, phase in enumerate(self._plan)
            if index > self._index and phase.title == title
        ]
        if ahead:
            self._index = ahead[0]

    def progress(self, *, fraction: float, seconds: float, anew: bool = False) -> None:
        """Report that `fraction` of the phase, in [0, 1], is done.

        `seconds`: the time on a steady clock. `anew`: another count starts.
        """
        if self._origin is None or anew or fraction < self._now[0]:
            self._origin = (fraction, seconds)
        self._now = (fraction, seconds)

    def measured_by(self, name: str) -> bool:
        """Whether the count of this name shows how far the current phase is."""
        return self._index < 0 or self._plan[self._index].measured_by in ("", name)

    def upcoming(self) -> tuple[str, ...]:
        """Titles still to come."""
        return tuple(phase.title for phase in self._plan[self._index + 1 :])

    def phase_seconds_left(self) -> float | None:
        """Remaining time of the phase at its own pace; None before its second report."""
        if self._origin is None or self._now[0] <= self._origin[0]:
            return None
        done, seconds = self._now[0] - self._origin[0], self._now[1] - self._origin[1]
        return (1.0 - self._now[0]) * seconds / done

    def whole_seconds_left(self) -> float | None:
        """Remaining time of this and all later phases, which are weighted by their shares.

        An expectation stands where nothing was measured yet, and gives way to what is measured.
        """
        seconds, share = self._current()
        seconds, share = seconds + self._worked_seconds, share + self._worked_share
        if self._expected:
            weight = EXPECTATION_WEIGHT * sum(phase.share for phase in self._plan)
            seconds, share = seconds + weight, share + weight
        if share <= 0:
            return None
        later = sum(phase.share for phase in self._plan[self._index + 1 :])
        here = self.phase_seconds_left() if self._share() else 0.0
        if here is None:
            here = (1.0 - self._now[0] if self._origin else 1.0) * self._share() * seconds / share
        return here + later * seconds / share

    def whole_fraction(self) -> float | None:
        """The fraction of all shares that is done, in [0, 1]; a phase that was left out is done.

        None if no phase has a share.
        """
        total = sum(phase.share for phase in self._plan)
        if total <= 0:
            return None
        before = sum(phase.share for phase in self._plan[: max(0, self._index)])
        here = self._now[0] * self._share() if self._origin else 0.0
        return min(1.0, (before + here) / total)

    def _share(self) -> float:
        return self._plan[self._index].share if self._index >= 0 else 0.0

    def _current(self) -> tuple[float, float]:
        if self._origin is None or not self._share():
            return 0.0, 0.0
        return self._now[1] - self._origin[1], (self._now[0] - self._origin[0]) * self._share()


def duration_text(seconds: float) -> str:
    """Seconds as text: `40 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock_text(seconds: float) -> str:
    """Seconds as on a clock, the shortest form: `0:07`, `3:20`, `2:05:00`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
