"""Keep rules: which images of the ranked pool become pseudo-labels.

A new rule is a new frozen dataclass in this file with the members of `KeepRule`. The `repr` of a
rule enters stage keys, so its class name, its field names and their order must not change later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import ClassVar, Literal, Protocol, runtime_checkable

from cryossl.pseudolabels.pixel_rules import decimal_of


@dataclass(frozen=True)
class RankedPool:
    """The images of the pool, best first, with everything else that a keep rule may use.

    Attributes:
        qualities: image -> quality, in order of falling quality, ties by id.
        labelled_count: labelled items in all.
        scope: "per_source" if each source has a quota of its own.
        sources: image -> source; None if it is not known.
        labelled_by_source: source -> labelled items.
    """

    qualities: Mapping[str, float]
    labelled_count: int
    scope: Literal["global", "per_source"]
    sources: Mapping[str, str] | None
    labelled_by_source: Mapping[str, int]

    def best(self, count: int) -> tuple[str, ...]:
        """The best `count` images."""
        return tuple(self.qualities)[:count]

    def best_of_sources(self, quotas: Mapping[str, int]) -> tuple[str, ...]:
        """The best images of each source, up to its quota; a source without a quota has none."""
        sources = self._known_sources()
        left = dict(quotas)
        chosen = []
        for item in self.qualities:
            if left.get(sources[item], 0) > 0:
                left[sources[item]] -= 1
                chosen.append(item)
        return tuple(chosen)

    def count_by_source(self) -> dict[str, int]:
        """Source -> images of the pool."""
        sources = self._known_sources()
        return Counter(sources[item] for item in self.qualities)

    def _known_sources(self) -> Mapping[str, str]:
        if self.sources is None:
            raise ValueError("a quota of each source needs the sources of the items")
        return self.sources


@runtime_checkable
class KeepRule(Protocol):
    """What the other modules need of a keep rule.

    `absolute`: the rule compares the quality with a number of its own, so the scale of the quality
    matters. A rule that is not absolute uses only the order of the images.
    """

    absolute: ClassVar[bool]

    def choose(self, pool: RankedPool) -> tuple[str, ...]:
        """Ids of the kept images, best first."""

    def candidates(self, qualities: Collection[float]) -> int:
        """How many images of these qualities the rule would keep if it had no quota."""

    def at_most(self, pool: int, labelled: int, /) -> int:
        """Upper bound of the kept images, from the sizes of the pool and of the labelled part."""

    def in_words(self) -> str:
        """The kept images in words, after "kept: "."""


@dataclass(frozen=True)
class AllAbove:
    """Keep every image with quality >= threshold, without a quota."""

    threshold: float
    absolute: ClassVar[bool] = True

    def choose(self, pool: RankedPool) -> tuple[str, ...]:
        """Ids of the images at or above the threshold, best first."""
        return tuple(item for item, quality in pool.qualities.items() if quality >= self.threshold)

    def candidates(self, qualities: Collection[float]) -> int:
        """The images at or above the threshold: as many as are kept."""
        return sum(quality >= self.threshold for quality in qualities)

    def at_most(self, pool: int, _labelled: int, /) -> int:
        """The whole pool."""
        return pool

    def in_words(self) -> str:
        """The rule in words."""
        return f"every image of quality {self.threshold:g} or more"


@dataclass(frozen=True)
class BestPerLabelled:
    """Keep the best images, at most `multiple` per labelled item, even if their quality is low.

    With scope=per_source each source has a quota from its own labelled items.
    """

    multiple: float
    absolute: ClassVar[bool] = False

    def limit(self, labelled_count: int) -> int:
        """The quota: floor(multiple x labelled) in exact decimals, so 0.29 x 100 is 29."""
        return floor(decimal_of(self.multiple) * labelled_count)

    def choose(self, pool: RankedPool) -> tuple[str, ...]:
        """Ids of the best images up to the quota, of all images or of each source."""
        if pool.scope == "global":
            return pool.best(self.limit(pool.labelled_count))
        counts = pool.labelled_by_source
        return pool.best_of_sources({source: self.limit(count) for source, count in counts.items()})

    def candidates(self, qualities: Collection[float]) -> int:
        """Every image."""
        return len(qualities)

    def at_most(self, pool: int, labelled: int, /) -> int:
        """The quota, or the pool where it is smaller."""
        return min(pool, self.limit(labelled))

    def in_words(self) -> str:
        """The rule in words."""
        return f"the best {self.multiple:g} images per labelled one"


@dataclass(frozen=True)
class BestOfEachSource:
    """Keep the best `share` of the images of each source, rounded up."""

    share: float
    absolute: ClassVar[bool] = False

    def limit(self, available: int) -> int:
        """The quota of a source with `available` images."""
        return ceil(decimal_of(self.share) * available)

    def choose(self, pool: RankedPool) -> tuple[str, ...]:
        """Ids of the best images of each source up to its quota."""
        counts = pool.count_by_source()
        return pool.best_of_sources({source: self.limit(count) for source, count in counts.items()})

    def candidates(self, qualities: Collection[float]) -> int:
        """Every image."""
        return len(qualities)

    def at_most(self, pool: int, _labelled: int, /) -> int:
        """The whole pool, because how its images are spread over the sources is not known here."""
        return pool

    def in_words(self) -> str:
        """The rule in words."""
        return f"the best {100 * self.share:g}% of each source"
