"""How a teacher is asked and how a student learns, as values: what a strategy decides besides its selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LossName = Literal["bce_dice", "weighted", "focal", "tversky"]
ViewCount = Literal[1, 4, 8]
"""Orientations of a square tile: as it is, under flips, or under flips and transposition."""


@dataclass(frozen=True)
class Teaching:
    """How the teacher's probabilities are made.

    `calibrated`: at the temperature that fits half of the validation micrographs best. `views`:
    their mean over so many orientations of a tile. `snapshots`: the teacher at 1/3 and 2/3 of its
    training is asked too, and an image's quality knows how well they agree.
    """

    calibrated: bool = False
    views: ViewCount = 1
    snapshots: bool = False


@dataclass(frozen=True)
class Consistency:
    """Learning online from a teacher that is the student's own moving average.

    A pixel is learned as BACKGROUND at 1 - p >= `background_threshold`, as PARTICLE at p >= the
    running mean confidence of particle pixels, kept within `particle_range`. `weight` of the
    unlabelled part of the loss; `decay` of the average, at most; `paste` swaps boxes around
    labelled particles with unlabelled tiles; `match_prior` holds the running mean prediction of
    each source near its prior.
    """

    background_threshold: float = 0.95
    particle_range: tuple[float, float] = (0.60, 0.95)
    weight: float = 0.5
    decay: float = 0.996
    paste: bool = False
    match_prior: bool = False


@dataclass(frozen=True)
class Learning:
    """How a student learns from labelled and pseudo-labelled tiles.

    `mixed`: as many labelled as pseudo-labelled tiles in every batch, otherwise one common pool of
    tiles. `pseudo_weight`: of a pseudo-labelled tile, from the first step to the last.
    `by_agreement`: that weight times the image's agreement. `noised`: under the noise of
    `augment.noised`. `warm_start`: from the teacher's weights, not from fresh ones.
    """

    loss: LossName = "bce_dice"
    mixed: bool = False
    pseudo_weight: tuple[float, float] = (1.0, 1.0)
    by_agreement: bool = False
    noised: bool = False
    warm_start: bool = False
    consistency: Consistency | None = None
