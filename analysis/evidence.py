"""The table of paired differences over seeds: interval, effect size, p, grade. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from analysis.arms import Arm, by_arm, difference, finished, labelled_text, run_ids_of
from analysis.statistics import Differences, effect_size, grade, holm, power_note, seed_interval, sign_flip_test
from analysis.tables import Cell, Column, Table

Contrast = tuple[str, Differences, tuple[str, ...]]

_COLUMNS = (
    Column("labelled", "Labelled"), Column("contrast", "Difference"), Column("seeds", "Seeds", "", 0),
    Column("estimate", "Estimate", "points", 2, signed=True), Column("lower", "Lower 95%", "points", 2, signed=True),
    Column("upper", "Upper 95%", "points", 2, signed=True), Column("d_z", "d_z", "", 2, signed=True),
    Column("improvement", "Seeds improved", "%", 0), Column("p_holm", "p (Holm)", "", 4), Column("grade", "Grade"),
)


def evidence(arms: Sequence[Arm], *, metric: str) -> Table:
    """Differences paired by seed, where there are two seeds or more; p is Holm-adjusted over the rows of a ratio.

    Every strategy against the baseline, then class_balanced against naive.
    """
    rows, notes = [], []
    for ratio in sorted({arm.ratio_percent for arm in arms}):
        contrasts = [contrast for contrast in _contrasts(arms, ratio, metric) if len(contrast[1]) > 1]
        # A fixed seed: above 20 seeds the test draws its sign patterns, and a table must not change when shown again.
        tests = [sign_flip_test(values, rng=np.random.default_rng(0)) for _, values, _ in contrasts]
        for contrast, test, p in zip(contrasts, tests, holm([test.p for test in tests]), strict=True):
            rows.append(_row(labelled_text(arms, ratio), contrast, p))
            notes.append(f"{ratio:g}%, {contrast[0]}: {power_note(contrast[1])}; {test.reason}")
    if rows:
        notes.insert(0, "interval: Student's t over seeds, on these test micrographs; p: sign-flip test")
    return Table("evidence", "Evidence over seeds", _COLUMNS, tuple(rows), tuple(notes))


def _row(labelled: str, contrast: Contrast, p: float | None) -> tuple[Cell, ...]:
    name, values, ids = contrast
    interval, effect = seed_interval(values), effect_size(values)
    bounds = (interval.lower, interval.upper) if interval else (None, None)
    numbers = (len(values), float(values.mean()), *bounds, effect.d_z, 100 * effect.improvement, p)
    middle = (column.cell(number, run_ids=ids) for column, number in zip(_COLUMNS[2:9], numbers, strict=True))
    return _COLUMNS[0].cell(labelled), _COLUMNS[1].cell(name), *middle, _COLUMNS[9].cell(grade(len(values)))


def _contrasts(arms: Sequence[Arm], ratio: float, metric: str) -> Iterable[Contrast]:
    """(name, differences in points, run ids)."""
    for arm_ratio, strategy, group in by_arm(arms):
        if arm_ratio == ratio and strategy != "supervised":
            yield _contrast(f"{strategy} - baseline", [(arm.gain(metric), (arm,)) for arm in group])
    naive = finished(arms, ratio_percent=ratio, strategy="naive")
    balanced = finished(arms, ratio_percent=ratio, strategy="class_balanced")
    pairs = [(balanced[seed], naive[seed]) for seed in sorted(naive.keys() & balanced.keys())]
    yield _contrast("class_balanced - naive", [(difference(one.value(metric), other.value(metric)), (one, other))
                                               for one, other in pairs])


def _contrast(name: str, found: Iterable[tuple[float | None, tuple[Arm, ...]]]) -> Contrast:
    known = [(value, pair) for value, pair in found if value is not None]
    return (name, np.array([100 * value for value, _ in known], dtype=np.float64),
            run_ids_of(arm for _, pair in known for arm in pair))
