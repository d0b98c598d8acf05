"""The counts that a run recorded of its model, per test micrograph and by probability. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

NAME = "counts.json"
SCHEMA = "cryossl-counts/1"


@dataclass(frozen=True, eq=False)
class ModelCounts:
    """Counts of one model on the test part, at its decision threshold.

    `counts` are (tp, fp, fn) in px per micrograph; `histogram` counts the valid pixels by true
    class (row 0 background, row 1 particle) and predicted probability x 255. `particles` are (tp,
    fp, fn) in particles per micrograph, at the threshold of picks; None where the run did not count
    them.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    counts: Int64[np.ndarray, "micrographs 3"]
    histogram: Int64[np.ndarray, "2 256"]
    particles: Int64[np.ndarray, "micrographs 3"] | None = None


# Run ids -> the counts of those that have any. It may read the tracking store, so it is called once
# with all ids.
ReadCounts = Callable[[Sequence[str]], Mapping[str, ModelCounts]]


def no_counts(_run_ids: Sequence[str]) -> Mapping[str, ModelCounts]:
    """A `ReadCounts` for callers that have metrics only."""
    return {}


def parse_counts(document: object) -> ModelCounts | None:
    """The counts in a run's counts.json.

    None if the document breaks the schema in any way: it comes from outside.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None
    try:
        rows = document["test"]
        counts, particles = (
            [[_count(row[prefix + name]) for name in ("tp", "fp", "fn")] for row in rows]
            if all(prefix + "tp" in row for row in rows)
            else None
            for prefix in ("", "particle_")
        )
        histogram = [[_count(pixels) for pixels in row] for row in document["test_histogram"]]
        ids, sources = (tuple(_text(row[name]) for row in rows) for name in ("id", "source"))
    except (KeyError, TypeError, ValueError):
        return None
    if (
        not ids
        or counts is None
        or len(set(ids)) != len(ids)
        or [len(row) for row in histogram] != [256, 256]
    ):
        return None
    return ModelCounts(
        ids,
        sources,
        np.array(counts, np.int64),
        np.array(histogram, np.int64),
        None if particles is None else np.array(particles, np.int64),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError("a count is a whole number from 0 up")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("an id is text")
    return value
