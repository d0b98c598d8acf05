"""Which model is registered, and picks where none is named: never `full`, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_stores import dataset, make_store  # noqa: F401 (a fixture)
from typed_commands import Done

from cryossl.config_file import build
from cryossl.data.splits import Split
from cryossl.network.picking_model import MODEL_FILE
from cryossl.picking.packaging import package
from cryossl.progress.events import silent
from cryossl.selftraining.records.logged_models import LoggedModels
from cryossl.selftraining.steps import Experiment
from cryossl.system.stages import Stages
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")
SAME = "cryossl.experiment_fingerprint"


def registered(dataset, folder, uri: str, *, validation_from: str) -> tuple[str, str]:  # noqa: F811
    """The strategy of version 1, and what is said, where three models are logged."""
    import torch

    config = build({"register_as": "picker", "validation_from": validation_from})
    experiment = Experiment(
        config,
        make_store(dataset, folder / "stores"),
        Split(("train/a_1.png",), ("train/b_2.png",), ("val/a_3.png",), ("test/b_3.png",)),
        Stages(folder / "stages"),
        device=torch.device("cpu"),
        precision="fp32",
        report=silent,
    )
    tracker = Tracker(uri, "cryossl", folder / "journals", warn=lambda *_: None)
    models = LoggedModels(experiment, package)
    for name, score in {"supervised": 0.7, "full": 0.9, "naive": 0.6}.items():
        with tracker.run(name, name=name, parent=None, tags={"cryossl.strategy": name}) as run:
            run.binary(b"weights", MODEL_FILE)
            models.log(run, name, {"validation/particle_f1": score}, iteration=1)
    said = models.register()
    assert tracker.sync() == 0
    version = MlflowClient(uri).get_model_version_by_alias("picker", "best")
    return version.tags["cryossl.strategy"], said


@pytest.mark.parametrize(
    ("validation_from", "chosen"), [("part", "supervised"), ("labelled", "naive")]
)
def test_the_alias_best_is_never_full(dataset, tmp_path, sqlite_uri, validation_from, chosen):  # noqa: F811
    name, said = registered(dataset, tmp_path, sqlite_uri, validation_from=validation_from)
    assert name == chosen
    assert said.startswith(f"full scored higher on validation than {chosen}, and is not registered")


def test_pick_takes_full_only_where_it_is_named(lab, tmp_path):
    assert lab.run("--strategies", "naive", "--max-iterations", "0").code == 0
    uri = f"sqlite:///{lab.database}"
    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "tags.`cryossl.kind` = 'iteration'")
    weights = client.download_artifacts(run.info.run_id, MODEL_FILE, str(tmp_path))
    tags = {
        "cryossl.kind": "iteration",
        "cryossl.accepted": "true",
        "cryossl.strategy": "full",
        SAME: run.data.tags[SAME],
    }
    with Tracker(uri, "cryossl", tmp_path / "journals").run(
        "full", name="full", parent=None, tags=tags
    ) as full:
        scores = ("particle_f1_views8", "particle_f1", "f1_views8", "f1")
        full.metrics({f"validation/{score}": 0.99 for score in scores}, step=1)
        full.binary(Path(weights).read_bytes(), MODEL_FILE)

    def picked(*options: str) -> Done:
        return lab.call(
            "pick", str(lab.data / "test"), "--to", str(tmp_path / "picks"), "--format", "csv",
            "--tracking-uri", uri, *options,
        )  # fmt: skip

    by_default = picked()
    assert by_default.code == 0, by_default.err
    said = " ".join(by_default.out.split())
    assert said.startswith("full scored higher on validation, and is not taken")
    (address,) = [word for word in said.split() if word.startswith("runs:/")]
    assert address == f"runs:/{full.run_id}"
    named = picked("--model", address)
    assert (named.code, "is not taken" in named.out) == (0, False)
