"""Counter-based randomness: every draw is a function of the seed and of what it is for, never of what was drawn before.

So nothing depends on the order of work, the number of workers or on where a run was interrupted,
and no generator's state has to be saved.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for one purpose: the head of sha256 over the seed and the names, types included.

    >>> seed_of(0, "split") == seed_of(0, "split"), seed_of(0, "split") == seed_of(1, "split")
    (True, False)
    """
    return int.from_bytes(_digest(seed, names)[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for one purpose, e.g.

    `generator(seed, "augment", iteration, step)`: equal names, equal draws.
    """
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(_digest(seed, names)[:16], "big"))
    )


def _digest(seed: int, names: tuple[str | int, ...]) -> bytes:
    # repr keeps 1 apart from "1", and ("ab", "c") apart from ("a", "bc").
    return hashlib.sha256(repr((int(seed), *names)).encode()).digest()
