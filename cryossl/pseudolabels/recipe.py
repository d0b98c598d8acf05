"""How a teacher predicts and how a student learns: the parts of a recipe beside its selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LossName = Literal["bce_dice", "weighted", "focal", "tversky"]
ViewCount = Literal[1, 4, 8]
"""Orientations of a square tile: as it is, under flips, or under flips and transposition."""


@dataclass(frozen=True)
class Teaching:
    """How the teacher's probabilities are made.

    Attributes:
        calibrated: with the temperature that fits one half of the validation micrographs best.
        views: the mean over this many orientations of a tile.
        snapshots: the teacher's weights at 1/3 and 2/3 of its training predict too, and the
            agreement of the three predictions is a term of an image's quality.
    """

    calibrated: bool = False
    views: ViewCount = 1
    snapshots: bool = False


@dataclass(frozen=True)
class Consistency:
    """Learning online from a teacher that is the student's own moving average.

    Attributes:
        background_threshold: a pixel is learned as BACKGROUND at 1 - p >= this.
        particle_range: a pixel is learned as PARTICLE at p >= the running mean confidence of
            particle pixels, which is clipped to this range.
        weight: of the unlabelled part of the loss.
        decay: of the moving average, at most.
        paste: boxes around labelled particles are pasted into unlabelled tiles.
        match_prior: the running mean prediction of each source is kept near its prior.
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

    Attributes:
        loss: its name.
        mixed: each batch holds as many labelled as pseudo-labelled tiles; otherwise batches are
            drawn from all tiles together.
        pseudo_weight: of a pseudo-labelled tile, at the first and at the last step.
        by_agreement: the weight of a tile is multiplied by the agreement of its image.
        noised: with the noise of `augment.noised`.
        warm_start: from the teacher's weights instead of new ones.
        consistency: online learning from a moving average, or None.
    """

    loss: LossName = "bce_dice"
    mixed: bool = False
    pseudo_weight: tuple[float, float] = (1.0, 1.0)
    by_agreement: bool = False
    noised: bool = False
    warm_start: bool = False
    consistency: Consistency | None = None
