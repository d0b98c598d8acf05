"""The table of paired differences over seeds: interval, effect size, p, grade. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.arms import Arm, labelled_text
from analysis.contrasts import Contrast, Estimate, contrasts, estimate
from analysis.counts import ModelCounts
from analysis.statistics import effect_size, grade, holm, power_note, sign_flip_test
from analysis.tables import Cell, Column, Table

_COLUMNS = (
    Column("labelled", "Labelled"), Column("contrast", "Difference"), Column("seeds", "Seeds", "", 0),
    Column("estimate", "Estimate", "points", 2, signed=True), Column("lower", "Lower 95%", "points", 2, signed=True),
    Column("upper", "Upper 95%", "points", 2, signed=True), Column("interval", "Interval"),
    Column("d_z", "d_z", "", 2, signed=True), Column("improvement", "Seeds improved", "%", 0),
    Column("probability", "P(better)", "%", 0), Column("source_wins", "Sources better"),
    Column("p_holm", "p (Holm)", "", 4), Column("grade", "Grade"),
)


def evidence(arms: Sequence[Arm], counts: Mapping[str, ModelCounts], *, metric: str) -> Table:
    """Differences paired by seed; p is Holm-adjusted over the rows of a ratio.

    Every strategy against the baseline, then class_balanced against naive. A single seed has a row only where counts
    give it an interval over sources or micrographs.
    """
    rows, notes, methods = [], [], set()
    for ratio in sorted({arm.ratio_percent for arm in arms}):
        found = [(one, estimate(one, counts, metric=metric)) for one in contrasts(arms, ratio=ratio, metric=metric)
                 if len(one.pairs)]
        found = [(one, guess) for one, guess in found if guess.interval is not None]
        # A fixed seed: above 20 seeds the test draws its sign patterns, and a table must not change when shown again.
        tests = [sign_flip_test(100 * one.differences, rng=np.random.default_rng(0)) for one, _ in found]
        for (one, guess), test, p in zip(found, tests, holm([test.p for test in tests]), strict=True):
            rows.append(_row(labelled_text(arms, ratio), one, guess, p))
            notes.append(f"{ratio:g}%, {one.name}: {power_note(100 * one.differences)}; {test.reason}")
            methods.add(_method_note(guess))
    notes = [*sorted(methods), "p: sign-flip test over seeds", *notes] if rows else []
    return Table("evidence", "Evidence over seeds", _COLUMNS, tuple(rows), tuple(notes))


def _row(labelled: str, contrast: Contrast, guess: Estimate, p: float | None) -> tuple[Cell, ...]:
    effect, interval = effect_size(contrast.differences), guess.interval
    low, middle, high = (interval.lower, interval.estimate, interval.upper) if interval else (None, None, None)
    wins = guess.source_wins
    values = (labelled, contrast.name, len(contrast.pairs), _points(middle), _points(low), _points(high), guess.method,
              effect.d_z, _points(effect.improvement), _points(guess.improvement),
              f"{wins[0]} of {wins[1]}" if wins else None, p, grade(len(contrast.pairs)))
    return tuple(column.cell(value, run_ids=contrast.run_ids if column.name not in ("labelled", "contrast") else ())
                 for column, value in zip(_COLUMNS, values, strict=True))


def _method_note(guess: Estimate) -> str:
    if guess.improvement is not None:
        return (f"interval by bootstrap: of the F1 (or precision, recall) pooled over seeds, resampling {', '.join(guess.levels)}; "
                "P(better): the share of draws in which it is better")
    return f"interval by t: Student's t over seeds, on these test micrographs, because {guess.why}"


def _points(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
