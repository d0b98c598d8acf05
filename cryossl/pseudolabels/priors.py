"""What the labelled part says of particle ratios: overall, and for each source. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SHRINKAGE_ITEMS = 5
"""A source's own ratio counts like its labelled items, the overall ratio like this many."""


@dataclass(frozen=True)
class Priors:
    """Target particle ratios in (0, 1], and how many labelled items each source has."""

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
        """What an image of the source is to come near."""
        return self.of(source) if scope == "per_source" else self.ratio


def shrunk_priors(
    ratio: float, *, ratios: Mapping[str, float], labelled: Mapping[str, int]
) -> Priors:
    """pi_s = (n_s r_s + 5 r) / (n_s + 5): a source's ratio, drawn to the overall one the more, the fewer its labels.

    `ratio`: overall; `ratios`: measured, of each source with labelled items; `labelled`: how many.
    """
    shrunk = {
        source: (labelled[source] * own + SHRINKAGE_ITEMS * ratio)
        / (labelled[source] + SHRINKAGE_ITEMS)
        for source, own in ratios.items()
    }
    return Priors(ratio, shrunk, dict(labelled))
