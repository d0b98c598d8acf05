"""Particle ratios of the labelled part, overall and for each source: the priors of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SHRINKAGE_ITEMS = 5
"""The overall ratio has the weight of this many labelled items of a source."""


@dataclass(frozen=True)
class Priors:
    """Target particle ratios in (0, 1], and the number of labelled items of each source."""

    ratio: float
    by_source: Mapping[str, float]
    labelled: Mapping[str, int]

    @property
    def labelled_count(self) -> int:
        """Labelled items in all."""
        return sum(self.labelled.values())

    def of(self, source: str) -> float:
        """The prior of a source; the overall ratio for one without a labelled item."""
        return self.by_source.get(source, self.ratio)

    def target(self, source: str, *, scope: Literal["global", "per_source"]) -> float:
        """The target particle ratio of an image of the source."""
        return self.of(source) if scope == "per_source" else self.ratio


def shrunk_priors(
    ratio: float, *, ratios: Mapping[str, float], labelled: Mapping[str, int]
) -> Priors:
    """The prior of each source: pi_s = (n_s r_s + 5 r) / (n_s + 5).

    The fewer labelled items a source has, the nearer its prior is to the overall ratio.

    Args:
        ratio: r, overall.
        ratios: r_s, measured on each source with labelled items.
        labelled: n_s, the number of labelled items of each source.
    """
    shrunk = {
        source: (labelled[source] * own + SHRINKAGE_ITEMS * ratio)
        / (labelled[source] + SHRINKAGE_ITEMS)
        for source, own in ratios.items()
    }
    return Priors(ratio, shrunk, dict(labelled))
