"""What a training records, and what MLflow's own client finds of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlflow import MlflowClient

TAGS = {"cryossl.kind": "iteration", "cryossl.strategy": "naive", "cryossl.ratio_percent": "5"}
PROJECT = Path(__file__).resolve().parents[1]


def runs_of(uri: str) -> list:
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def points(uri: str, run_id: str, key: str) -> list[tuple[int, float, int]]:
    return [
        (point.step, point.value, point.timestamp)
        for point in MlflowClient(uri).get_metric_history(run_id, key)
    ]


def files(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, folder):
        found += files(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


def record(run, *, epochs: range) -> None:
    """What a training records; called again it is what a resumed training records again."""
    run.params(
        {
            "split.ratio": 5.0,
            "loop.audit": False,
            "selection.strategies": ("naive", "class_balanced"),
        }
    )
    for epoch in epochs:
        run.metrics(
            {
                "train/loss": 1.0 / (epoch + 1),
                "validation/f1": None if epoch % 2 else 0.5 + epoch / 100,
            },
            step=epoch,
        )
    run.table(
        [{"id": "a", "quality": 0.9}, {"id": "b", "quality": float("nan")}],
        "selection/iteration_1.json",
    )
    run.image(np.full((40, 60, 3), 7, np.uint8), key="validation/worst", step=1)
    run.json({"best": 1}, "result.json")
    run.dataset([{"id": "train/a.jpg"}], name="labelled", digest="ab" * 32, context="training")
    run.describe("The student **won**.")
