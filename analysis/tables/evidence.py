"""The table of paired differences over seeds: interval, effect size, p, grade. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.runs.arms import Arm, labelled_text, ratios_of
from analysis.runs.counts import ModelCounts
from analysis.stats.contrasts import Contrast, Estimate, contrasts, estimate
from analysis.stats.statistics import (
    Differences,
    effect_size,
    grade,
    holm,
    seeds_needed,
    sign_flip_test,
)
from analysis.tables.table import NOT_ACCEPTED, Cell, Column, Table, percent, row_of

_COLUMNS = (
    Column("labelled", "Labelled"),
    Column("contrast", "Difference"),
    Column("seeds", "Seeds", "", 0),
    Column("estimate", "Estimate", "points", 2, signed=True),
    Column("lower", "Lower 95%", "points", 2, signed=True),
    Column("upper", "Upper 95%", "points", 2, signed=True),
    Column("interval", "Interval over"),
    Column("d_z", "d_z", "", 2, signed=True),
    Column("improvement", "Seeds improved", "%", 0),
    Column("probability", "P(better)", "%", 0),
    Column("source_wins", "Sources better"),
    Column("p_holm", "p (Holm)", "", 4),
    Column("needed", "Seeds for +1", "", 0),
    Column("grade", "Grade"),
)


def evidence(arms: Sequence[Arm], counts: Mapping[str, ModelCounts], *, metric: str) -> Table:
    """Differences paired by seed; p is Holm-adjusted over the rows of a ratio.

    Every strategy against the baseline, then class_balanced against naive. A single seed has a row
    only where counts give it an interval over sources or micrographs.
    """
    rows: list[tuple[Cell, ...]] = []
    said: dict[str, list[str]] = {}
    methods, floors = set(), []
    for ratio in ratios_of(arms):
        found = [
            (one, estimate(one, counts, metric=metric))
            for one in contrasts(arms, ratio=ratio, metric=metric)
            if len(one.pairs)
        ]
        found = [(one, guess) for one, guess in found if guess.interval is not None]
        # A fixed seed: above 20 seeds the test draws sign patterns, and the same runs must give the
        # same table.
        tests = [
            sign_flip_test(100 * one.differences, rng=np.random.default_rng(0)) for one, _ in found
        ]
        adjusted = holm([test.p for test in tests])
        floors += _floor_note(
            ratio,
            [len(one.pairs) for (one, _), p in zip(found, adjusted, strict=True) if p is not None],
        )
        for (one, guess), test, p in zip(found, tests, adjusted, strict=True):
            rows.append(_row(labelled_text(arms, ratio), one, guess, p))
            if one.moved:
                said.setdefault(test.reason, []).append(f"{one.name} at {ratio:g}%")
                methods.add(_method_note(guess))
    notes = (
        *sorted(methods),
        "p: sign-flip test over seeds, Holm over the rows of a labelled part; seeds for +1: to "
        "find a gain of 1 point with probability 0.8 at this spread",
        *floors,
        *_by_reason(said),
    )
    return Table("evidence", "Evidence over seeds", _COLUMNS, tuple(rows), notes if rows else ())


def _row(labelled: str, contrast: Contrast, guess: Estimate, p: float | None) -> tuple[Cell, ...]:
    seeds = len(contrast.pairs)
    if not contrast.moved:  # both are the baseline, so there is no difference to judge
        return row_of(
            _COLUMNS,
            (labelled, contrast.name, seeds, *[None] * 3, NOT_ACCEPTED, *[None] * 6, grade(seeds)),
            run_ids=contrast.run_ids,
        )
    effect, wins = effect_size(contrast.differences), guess.source_wins
    values = (
        labelled,
        contrast.name,
        seeds,
        *(guess.interval.points if guess.interval else (None, None, None)),
        guess.method,
        effect.d_z,
        percent(effect.improvement),
        percent(guess.improvement),
        f"{wins[0]} of {wins[1]}" if wins else None,
        p,
        _needed(contrast.differences),
        grade(seeds),
    )
    return (
        *row_of(_COLUMNS[:2], values[:2]),
        *row_of(_COLUMNS[2:], values[2:], run_ids=contrast.run_ids),
    )


def _needed(differences: Differences) -> int | None:
    spread = 100 * float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return seeds_needed(1.0, spread) if spread > 1e-6 else None


def _method_note(guess: Estimate) -> str:
    if guess.improvement is not None:
        return (
            f"interval over {', '.join(guess.levels)}: paired bootstrap from counts, of the mean "
            "score over seeds; P(better): the share of draws in which it is better"
        )
    return f"interval over seeds (t): Student's t, on these test micrographs, because {guess.why}"


def _floor_note(ratio: float, seeds: Sequence[int]) -> list[str]:
    """A note if so many tests cannot reach p < 0.05 after adjustment, for any differences."""
    most, rows = max(seeds, default=0), len(seeds)
    floor = rows * 2 / 2**most
    if not rows or floor < 0.05:
        return []
    needed = next(number for number in range(most, most + 64) if rows * 2 / 2**number < 0.05)
    return [
        f"at {ratio:g}% the smallest possible p over {rows} rows is {rows} x 2/2^{most} = "
        f"{floor:.2g}: p < 0.05 needs "
        f"{needed} seeds, or fewer strategies compared"
    ]


def _by_reason(said: Mapping[str, Sequence[str]]) -> list[str]:
    """How the p of each row was computed, a line per method.

    The most common method comes last; its rows are not all named if there are more than three.
    """
    ordered = sorted(said.items(), key=lambda one: len(one[1]))
    named = [f"{', '.join(which)}: {text}" for text, which in ordered]
    if ordered and len(ordered[-1][1]) > 3:
        named[-1] = f"{'all other rows' if len(ordered) > 1 else 'all rows'}: {ordered[-1][0]}"
    return named
