"""Counter-based randomness: a draw depends on the seed and its purpose, not on earlier draws.

So no result depends on the order of work, the number of workers, or where a run was interrupted,
and no state of a generator has to be saved.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for one purpose.

    It is the head of SHA-256 over the seed and the names; 1 and "1" are different names.

    >>> seed_of(0, "split") == seed_of(0, "split"), seed_of(0, "split") == seed_of(1, "split")
    (True, False)
    """
    return int.from_bytes(_digest(seed, names)[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for one purpose; equal names give equal draws.

    For example `generator(seed, "augment", iteration, step)`.
    """
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(_digest(seed, names)[:16], "big"))
    )


def _digest(seed: int, names: tuple[str | int, ...]) -> bytes:
    # repr keeps 1 apart from "1", and ("ab", "c") apart from ("a", "bc").
    return hashlib.sha256(repr((int(seed), *names)).encode()).digest()
