"""Frames of tracked runs in which settings were varied, written by hand for the tests of `analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from tracked_frames import run

SCORES: Mapping[str, Sequence[float]] = {
    "0.5": (0.73, 0.77),
    "0.6": (0.74, 0.75),
    "0.7": (0.71, 0.735),
}
"""particle_threshold -> test F1 of class_balanced of the seeds 0 and 1."""
BASE = (0.70, 0.72)
NAIVE = (0.71, 0.72)


def cell(
    settings: Mapping[str, str],
    scores: Mapping[str, Sequence[float]],
    *,
    ratio: str = "5",
    year: int = 2025,
    per_labelled: float = 2.0,
    base: Sequence[float] = BASE,
) -> list[dict[str, Any]]:
    """The runs of one combination of settings.

    `scores`: strategy -> test F1 of its first student in each seed, which is accepted; NaN is a
    seed that was not run.
    """
    place = "-".join([*settings.values(), ratio, str(year)])
    rows = []
    for seed, f1 in enumerate(base):
        rows.append(run("supervised", 0, f1=f1, seed=seed, ratio=ratio))
        for strategy, values in scores.items():
            if seed < len(values) and values[seed] == values[seed]:
                pseudo = (258 * per_labelled, 0.02 + 0.01 * seed)
                rows.append(
                    run(
                        strategy,
                        1,
                        f1=values[seed],
                        seed=seed,
                        ratio=ratio,
                        accepted=True,
                        pseudo=pseudo,
                    )
                )
    return [
        row
        | {
            "run_id": f"{row['run_id']}-{place}",
            "cryossl.experiment_fingerprint": f"{row['cryossl.experiment_fingerprint']}-{place}",
            "start_time": pd.Timestamp(f"{year}-01-01", tz="UTC"),
            "loop.max_iterations": "1",
            "selection.strategy_settings": "",
            "split.ratio": f"{float(ratio)}",
            **settings,
        }
        for row in rows
    ]


def swept(*values: str, **more: Any) -> list[dict[str, Any]]:
    """Runs with these values of particle_threshold, all of SCORES unless named."""
    return [
        row
        for value in values or tuple(SCORES)
        for row in cell(
            {"selection.particle_threshold": value},
            {"naive": NAIVE, "class_balanced": SCORES[value]},
            **more,
        )
    ]


def own(value: str, scores: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    """Runs of class_balanced alone with its own particle_threshold.

    The strategy's runs record it under the plain name, as real ones do.
    """
    rows = cell(
        {"selection.strategy_settings": f"class_balanced.particle_threshold={value}"},
        {"class_balanced": scores},
        **more,
    )
    return [
        row | {"selection.particle_threshold": value} if row["cryossl.iteration"] == "1" else row
        for row in rows
    ]
