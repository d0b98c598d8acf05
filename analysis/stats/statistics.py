"""Statistics over seeds: sign-flip test, Holm, effect size, interval, grade, power. Pure.

Each function takes one array: the paired differences of two arms, one per seed, in any unit.
Formulas and their sources are in docs/statistics.md. The bootstrap over seeds, sources and
micrographs is in `analysis.stats.bootstrap`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy import special

Differences = Float64[np.ndarray, "seeds"]
Grade = Literal["no result", "single run", "two runs", "smoke test", "claim", "paper"]

SEEDS_FOR_P = 6
EXACT_SEEDS = 20
MONTE_CARLO_DRAWS = 200_000
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval, all in the unit of the differences."""

    estimate: float
    lower: float
    upper: float

    @property
    def points(self) -> tuple[float, float, float]:
        """Estimate, lower and upper bound times 100: of fractions, the points."""
        return 100 * self.estimate, 100 * self.lower, 100 * self.upper


@dataclass(frozen=True)
class SignFlip:
    """Result of the sign-flip test.

    `p` is None below 6 seeds; `reason` says why, or how `p` was computed.
    """

    p: float | None
    exact: bool
    reason: str


@dataclass(frozen=True)
class Effect:
    """Size of a paired effect.

    `d_z` is mean / standard deviation of the differences (None below two seeds or without spread);
    `improvement` is the share of seeds that improved, a tie counting half.
    """

    d_z: float | None
    improvement: float


def sign_flip_test(differences: Differences, *, rng: np.random.Generator) -> SignFlip:
    """Two-sided sign-flip (Fisher-Pitman) test of no effect.

    Under no effect a paired difference is as likely positive as negative, so p is the share of all
    2^n sign patterns whose absolute sum is at least the one seen. All are counted up to 20 seeds;
    above that 200,000 random ones are drawn with `rng` and the pattern seen is added, which keeps
    the test valid (Phipson & Smyth 2010).

    Below 6 seeds p cannot fall under 0.05 (2 / 2^5 = 0.0625), so none is given.
    """
    _check(differences)
    n = len(differences)
    if n < SEEDS_FOR_P:
        floor = f"2/2^{n} = {2 / 2**n:.4g}" if n else "none"
        return SignFlip(
            p=None,
            exact=True,
            reason=f"no p: {seeds_text(n)}, the smallest possible p is {floor}; {SEEDS_FOR_P} are "
            "needed",
        )
    if n <= EXACT_SEEDS:
        p = _count_patterns(differences) / 2**n
        return SignFlip(p, exact=True, reason=f"exact, all {2**n} sign patterns")
    p = (_draw_patterns(differences, rng) + 1) / (MONTE_CARLO_DRAWS + 1)
    return SignFlip(p, exact=False, reason=f"Monte Carlo, {MONTE_CARLO_DRAWS} random sign patterns")


def _threshold(differences: Differences) -> float:
    # Sums of the same numbers in another order differ by rounding: without a slack, ties would be
    # lost.
    return abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())


def _count_patterns(differences: Differences) -> int:
    """Sign patterns at least as extreme; half are enumerated, the other half mirror them."""
    n, least = len(differences), _threshold(differences)
    bits = np.arange(n - 1, dtype=np.int64)
    hits = 0
    for start in range(0, 2 ** (n - 1), _CHUNK):
        patterns = np.arange(start, min(start + _CHUNK, 2 ** (n - 1)), dtype=np.int64)
        signs = 1.0 - 2.0 * ((patterns[:, None] >> bits) & 1)
        hits += int(np.count_nonzero(np.abs(signs @ differences[:-1] + differences[-1]) >= least))
    return 2 * hits


def _draw_patterns(differences: Differences, rng: np.random.Generator) -> int:
    least, hits = _threshold(differences), 0
    for start in range(0, MONTE_CARLO_DRAWS, _CHUNK):
        draws = min(_CHUNK, MONTE_CARLO_DRAWS - start)
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(draws, len(differences)))
        hits += int(np.count_nonzero(np.abs(signs @ differences) >= least))
    return hits


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjusted p-values, in the order given.

    None stays None and is not counted as a test.

    Raises ValueError for a value outside [0, 1].
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    if any(not 0 <= p <= 1 for p, _ in known):
        raise ValueError(f"a p-value lies in [0, 1], got {p_values}")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return tuple(adjusted)


def effect_size(differences: Differences) -> Effect:
    """Paired d_z and the share of seeds that improved. Raises ValueError without a difference."""
    _check(differences)
    if len(differences) == 0:
        raise ValueError("the effect size of no seed is undefined")
    improvement = float(np.heaviside(differences, 0.5).mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return Effect(float(differences.mean()) / spread if spread > 0 else None, improvement)


def seed_interval(differences: Differences, *, level: float = 0.95) -> Interval | None:
    """Student's t interval of the mean difference over seeds; None below two seeds.

    It covers the chance in split and training on *these* test micrographs, not the choice of
    micrographs. With counts per micrograph, `analysis.stats.bootstrap` covers both.
    """
    _check(differences)
    n = len(differences)
    if n < 2:
        return None
    mean = float(differences.mean())
    half = t_quantile(0.5 + level / 2, n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t; that of the normal for infinite degrees of freedom.

    From scipy.special: importing scipy.stats takes longer than all of `compare`.
    """
    if math.isinf(degrees_of_freedom):
        return float(special.ndtri(probability))
    return float(special.stdtrit(degrees_of_freedom, probability))


def grade(seeds: int) -> Grade:
    """What a result on so many paired seeds may be called.

    3 seeds are a smoke test, 6 a claim, 10 a paper.
    """
    grades: tuple[tuple[int, Grade], ...] = (
        (10, "paper"),
        (6, "claim"),
        (3, "smoke test"),
        (2, "two runs"),
        (1, "single run"),
    )
    return next((name for least, name in grades if seeds >= least), "no result")


def seeds_needed(effect: float, spread: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """The seeds that a two-sided paired t test needs to find `effect` with `power`.

    `spread` is the standard deviation of the differences, in the unit of `effect`. Solved on
    the noncentral t distribution; never below the 6 seeds that a sign-flip p needs.

    Raises ValueError for an effect or spread that is not above 0.
    """
    if not (effect > 0 and spread > 0 and math.isfinite(effect) and math.isfinite(spread)):
        raise ValueError(f"effect and spread must be above 0, got {effect} and {spread}")

    def power_of(n: int) -> float:
        critical, shift = t_quantile(0.5 + level / 2, n - 1), effect / spread * math.sqrt(n)
        above, below = (float(special.nctdtr(n - 1, shift, at)) for at in (critical, -critical))
        return 1 - above + below

    most = SEEDS_FOR_P
    while power_of(most) < power:
        most *= 2
    return bisect_left(range(most), power, lo=SEEDS_FOR_P, key=power_of)


def _check(differences: Differences) -> None:
    if not np.isfinite(differences).all():
        raise ValueError(
            "paired differences must be finite: leave a seed without a value out and say so"
        )


def seeds_text(number: int) -> str:
    """`1 seed`, `6 seeds`."""
    return f"{number} {'seed' if number == 1 else 'seeds'}"
