"""The counts that a run recorded of its model, per test micrograph and by probability. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64

from cryossl.evaluation.scorings import EIGHT_VIEWS_KEY, Views

NAME = "counts.json"
SCHEMA = "cryossl-counts/1"
_PLACES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class ModelCounts:
    """Counts of one model on the test part, at its decision threshold.

    `counts` are (tp, fp, fn) in px per micrograph; `histogram` counts the valid pixels by true
    class (row 0 background, row 1 particle) and predicted probability x 255. `particles` are (tp,
    fp, fn) in particles per micrograph, at the threshold of picks; None where the run did not count
    them. `eight` are those of the same model by eight views, None where it was not scored so.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    counts: Int64[np.ndarray, "micrographs 3"]
    histogram: Int64[np.ndarray, "2 256"]
    particles: Int64[np.ndarray, "micrographs 3"] | None = None
    eight: ModelCounts | None = None


class Counts(dict[str, ModelCounts]):
    """Run id -> its counts.

    `unreachable`: run id -> where the files of a run were looked for in vain; whether it recorded
    counts is not known.
    """

    def __init__(
        self,
        known: Mapping[str, ModelCounts] = MappingProxyType({}),
        *,
        unreachable: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(known)
        self.unreachable = dict(unreachable)


# Run ids -> the counts of those that have any. It may read the tracking store, so it is called once
# with all ids.
ReadCounts = Callable[[Sequence[str]], Mapping[str, ModelCounts]]


def no_counts(_run_ids: Sequence[str]) -> Mapping[str, ModelCounts]:
    """A `ReadCounts` for callers that have metrics only."""
    return {}


def lacking_text(runs: Collection[str], counts: Mapping[str, ModelCounts]) -> str:
    """Why some of these runs have no counts, e.g. `2 of 4 runs have no counts`; empty if all have.

    What was never recorded and what cannot be reached are two things.
    """
    lost = counts.unreachable if isinstance(counts, Counts) else {}
    lacking = [run for run in runs if run not in counts]
    away = [run for run in lacking if run in lost]
    bare = len(lacking) - len(away)
    return " and ".join(
        text
        for number, text in (
            (len(away), f"the files of {len(away)} of {len(runs)} runs cannot be reached"),
            (bare, f"{bare} of {len(runs)} runs have no counts"),
        )
        if number
    )


def unreachable_text(lost: Mapping[str, str], *, runs: int) -> str:
    """How many runs' files cannot be reached and where they were looked for; empty if none."""
    places = list(dict.fromkeys(lost.values()))
    more = f" and {len(places) - _PLACES_SHOWN} more" if len(places) > _PLACES_SHOWN else ""
    where = "; ".join(places[:_PLACES_SHOWN]) + more
    return f"the files of {len(lost)} of {runs} runs cannot be reached ({where})" if lost else ""


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
        parse_counts(document.get(EIGHT_VIEWS_KEY)),
    )


def by_scoring(counts: Mapping[str, ModelCounts], views: Views) -> Mapping[str, ModelCounts]:
    """The counts by one scoring; those by eight views of the models that were scored so."""
    if views == 1:
        return counts
    found = {run: model.eight for run, model in counts.items() if model.eight is not None}
    return Counts(found, unreachable=counts.unreachable if isinstance(counts, Counts) else {})


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError("a count is a whole number from 0 up")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("an id is text")
    return value
