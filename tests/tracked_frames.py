"""Frames of tracked runs as the tracking store hands them out, written by hand for the tests of `analysis`."""

from __future__ import annotations

from typing import Any

import pandas as pd

SETTINGS = {
    "selection.naive_threshold": "0.7",
    "selection.particle_threshold": "0.6",
    "selection.background_threshold": "0.8",
    "selection.quality_particle": "0.3",
    "selection.quality_background": "0.2",
    "selection.quality_balance": "0.5",
    "selection.max_pseudo_per_labelled": "2.0",
    "selection.target_particle_ratio": "measured",
    "selection.uncertain_pixels": "ignore",
    "loop.max_iterations": "3",
    "training.student_epochs": "50",
    "training.least_steps": "500",
}


def run(
    strategy: str,
    iteration: int,
    *,
    f1: float,
    recall: float = 0.7,
    seed: int = 0,
    ratio: str = "5",
    accepted: bool | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One iteration run.

    `more` are further columns, with __ for / and the settings' own names through `settings`.
    """
    pseudo = more.pop("pseudo", None)
    row: dict[str, Any] = {
        "run_id": f"{strategy}-{ratio}-{seed}-{iteration}",
        "parent_id": "parent",
        "status": "FINISHED",
        "start_time": pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(minutes=iteration),
        "cryossl.kind": "iteration",
        "cryossl.strategy": strategy,
        "cryossl.iteration": str(iteration),
        "cryossl.seed": str(seed),
        "cryossl.ratio_percent": ratio,
        "cryossl.dataset": "synthetic",
        "cryossl.experiment_fingerprint": f"f{ratio}-{seed}",
        "cryossl.labelled_count": "258",
        "cryossl.accepted": None if accepted is None else str(accepted).lower(),
        "test/f1": f1,
        "test/recall": recall,
        "test/precision": 0.7,
        "validation/f1": f1,
    }
    if pseudo is not None:
        count, particle_ratio = pseudo
        row |= {
            "pseudo/count": float(count),
            "pseudo/per_labelled": count / 258,
            "pseudo/target_ratio": 0.04,
            "pseudo/particle_ratio": particle_ratio,
            "threshold/particle": 0.6 if count == 516 else 0.7,
        }
    return row | SETTINGS | more


def note_runs(*, seed: int = 0, ratio: str = "5", shift: float = 0.0) -> list[dict[str, Any]]:
    """The note's story: baseline 70.00, naive rejected at 69.85, class-balanced accepted at 72.5, then rejected."""
    same: dict[str, Any] = {"seed": seed, "ratio": ratio}
    return [
        run("supervised", 0, f1=0.70, recall=0.70, **same),
        run("naive", 1, f1=0.6985, recall=0.68, accepted=False, pseudo=(3083, 0.02), **same),
        run(
            "class_balanced",
            1,
            f1=0.725 + shift,
            recall=0.72,
            accepted=True,
            pseudo=(516, 0.039),
            **same,
        ),
        run("class_balanced", 2, f1=0.72, recall=0.71, accepted=False, pseudo=(516, 0.041), **same),
    ]


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """The rows as one frame."""
    return pd.DataFrame(list(rows))
