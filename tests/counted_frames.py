"""Whole grids of tracked runs with counts, drawn from a seed: what a store holds after a sweep, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tracked_frames import frame, run

from analysis.runs.counts import ModelCounts, parse_counts
from analysis.tables.comparison import Comparison, compare

SOURCES = ("10017", "10028", "10093", "11056", "beta_gal")
PARTICLE_PX = 4_000
MICROGRAPH_PX = 100_000
# strategy -> what it adds to recall and precision in each iteration, pseudo-labels, their particle
# ratio
STORY = {"naive": ((-0.01, -0.02), 3083, 0.021), "class_balanced": ((0.03, 0.015), 516, 0.0385)}


def grid(
    *,
    seeds: Sequence[int],
    ratios: Sequence[str] = ("5",),
    micrographs: int = 20,
    more: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows of iteration runs, run id -> counts.json)."""
    rows: list[dict[str, Any]] = []
    documents: dict[str, Any] = {}
    for ratio in ratios:
        for seed in seeds:
            rng = np.random.default_rng((seed, int(ratio)))
            base = np.array([0.70, 0.70]) + (0.05 if ratio == "10" else 0) + rng.normal(0, 0.008, 2)
            _add(
                rows,
                documents,
                "supervised",
                0,
                base,
                seed=seed,
                ratio=ratio,
                micrographs=micrographs,
                minutes=4,
            )
            for strategy in ("naive", "class_balanced", *more):
                gain, count, particle_ratio = STORY.get(strategy, ((0.012, 0.01), 700, 0.033))
                best = base
                for iteration in (1, 2, 3):
                    scores = best + np.array(gain) / iteration + rng.normal(0, 0.006, 2)
                    accepted = bool(scores.sum() > best.sum())
                    pseudo = (count, particle_ratio + rng.normal(0, 0.0015))
                    _add(
                        rows,
                        documents,
                        strategy,
                        iteration,
                        scores,
                        seed=seed,
                        ratio=ratio,
                        micrographs=micrographs,
                        minutes=12 if strategy == "naive" else 5,
                        accepted=accepted,
                        pseudo=pseudo,
                    )
                    if not accepted:
                        break
                    best = scores
    return rows, documents


def counted(
    rows: list[dict[str, Any]], documents: dict[str, Any], *, metric: str = "test/f1"
) -> Comparison:
    """The comparison of such a grid."""

    def read(run_ids: list[str]) -> dict[str, ModelCounts]:
        parsed = {run: parse_counts(documents[run]) for run in run_ids if run in documents}
        return {run: one for run, one in parsed.items() if one is not None}

    return compare(frame(*rows), metric=metric, read_counts=read)


def _add(
    rows: list[dict[str, Any]],
    documents: dict[str, Any],
    strategy: str,
    iteration: int,
    scores: Any,
    *,
    seed: int,
    ratio: str,
    micrographs: int,
    minutes: float,
    **more: Any,
) -> None:
    rng = np.random.default_rng((seed, int(ratio), len(strategy), iteration, 7))
    recall, precision = np.clip(scores, 0.05, 0.95)
    tests = []
    for index in range(micrographs):
        source = index % len(SOURCES)
        # A micrograph is hard for every model; its own draw comes from its number alone.
        hard = np.random.default_rng((99, index)).normal(0, 0.05) + 0.02 * (source - 2)
        tp = int(PARTICLE_PX * np.clip(recall + hard + rng.normal(0, 0.01), 0.02, 0.98))
        fp = int(tp * (1 / np.clip(precision + hard + rng.normal(0, 0.01), 0.05, 0.98) - 1))
        # Particles: a hundredth of the pixels, the gain one and a half times as large.
        hits = int(np.clip(1.5 * tp / 100 - 10, 1, 39))
        tests.append(
            {
                "id": f"test/{SOURCES[source]}_{index:03d}.jpg",
                "source": SOURCES[source],
                "tp": tp,
                "fp": fp,
                "fn": PARTICLE_PX - tp,
                "particle_tp": hits,
                "particle_fp": fp // 100,
                "particle_fn": 40 - hits,
            }
        )
    sums = {
        source: [
            sum(row[name] for row in tests if source in ("", row["source"]))
            for name in ("tp", "fp", "fn")
        ]
        for source in ("", *SOURCES)
    }
    tp, fp, fn = sums[""]
    row = run(
        strategy,
        iteration,
        f1=_f1(*sums[""]),
        recall=tp / (tp + fn),
        seed=seed,
        ratio=ratio,
        **more,
    )
    hits, alarms, missed = (
        sum(one[f"particle_{name}"] for one in tests) for name in ("tp", "fp", "fn")
    )
    row |= {
        "test/particle_f1": _f1(hits, alarms, missed),
        "test/particle_recall": hits / (hits + missed),
        "test/precision": tp / (tp + fp),
        "time/seconds": 60 * minutes * float(rng.uniform(0.9, 1.1)),
        **{f"test/f1/{source}": _f1(*sums[source]) for source in SOURCES},
    }
    if iteration:
        row |= {
            "pseudo/audit_f1": float(rng.uniform(0.55, 0.7)),
            "quality/mean": float(rng.uniform(0.7, 0.9)),
        }
    rows.append(row)
    documents[row["run_id"]] = {
        "schema": "cryossl-counts/1",
        "threshold8": 128,
        "validation": [],
        "test": tests,
        "test_histogram": _histogram(tp, fp, fn, len(tests)),
    }


def _histogram(tp: int, fp: int, fn: int, micrographs: int) -> list[list[int]]:
    """Two slopes that meet the counts at p8 = 128."""
    low, high = np.linspace(3, 0.2, 128) ** 3, np.linspace(0.3, 2, 128)
    rest = micrographs * MICROGRAPH_PX - tp - fp - fn
    halves = ((rest, low), (fp, high[::-1])), ((fn, low[::-1]), (tp, high))
    return [
        [int(number) for total, shape in row for number in _share(total, shape)] for row in halves
    ]


def _share(total: int, shape: Any) -> Any:
    parts = np.floor(total * shape / shape.sum()).astype(int)
    parts[0] += total - parts.sum()
    return parts


def _f1(tp: int, fp: int, fn: int) -> float:
    return 2 * tp / (2 * tp + fp + fn)
