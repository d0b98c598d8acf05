"""A logged model is there once, whole and linked, whatever the store does; a name's best version is the best one."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from importlib import metadata

import pytest
import yaml
from faults.fault_proxy import proxied
from mlflow import MlflowClient
from recorded_runs import PROJECT, TAGS, runs_of
from typed_commands import call

from cryossl.network.picking_model import MODEL_FILE
from cryossl.picking.packaging import package
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")
WEIGHTS = b"the weights"
SCORES = {
    "validation/f1": 0.5,
    "test/f1": 0.25,
    "validation/f1_views8": 0.75,
    "test/f1_views8": 0.625,
}
DATASET = ("lab", "0123456789abcdef")


def recorded(
    uri: str,
    folder,
    *,
    key: str = "fp",
    score: float | None = None,
    scored_on: str = "these",
    times: int = 1,
) -> Tracker:
    """A run that made a model, and registers it as `picker` where it has a score."""
    tracker = Tracker(uri, "cryossl", folder / "journals", warn=lambda *_: None)
    for _ in range(times):
        with tracker.run(key, name=key, parent=None, tags=TAGS) as run:
            run.metrics({**SCORES, "epoch/loss": 1.0}, step=2)
            run.binary(WEIGHTS, MODEL_FILE)
            run.model("naive", MODEL_FILE, package, facts={"views": 4}, dataset=DATASET, step=2)
            if score is not None:
                run.register("picker", score=score, scored_on=scored_on)
    return tracker


def models(uri: str) -> list:
    return list(MlflowClient(uri).search_logged_models(["1"]))


def assert_one_whole_model(uri: str) -> None:
    """The one run has one model: ready, with its files, its scores by data set, and nothing twice."""
    (run,), (model,) = runs_of(uri), models(uri)
    client = MlflowClient(uri)
    assert (run.info.status, str(model.status), model.name) == ("FINISHED", "READY", "naive")
    assert model.source_run_id == run.info.run_id
    assert [one.model_id for one in run.outputs.model_outputs] == [model.model_id]
    assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [DATASET[1]]
    linked = {
        one.key: (one.value, one.step, one.dataset_name, one.dataset_digest)
        for one in model.metrics
    }
    assert linked == {name: (value, 2, *DATASET) for name, value in SCORES.items()}
    assert model.params == {"views": "4"}
    assert model.tags["cryossl.strategy"] == "naive"
    for name in SCORES:
        assert len(client.get_metric_history(run.info.run_id, name)) == 1
    files = {one.path for one in client.list_logged_model_artifacts(model.model_id)}
    assert {"MLmodel", "served.py", "requirements.txt", "input_example.json", "code"} < files
    (weights,) = client.list_logged_model_artifacts(model.model_id, "artifacts")
    assert (weights.path, weights.file_size) == (
        MODEL_FILE.replace("model/", "artifacts/"),
        len(WEIGHTS),
    )


def changed(uri: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store, store:
        for statement in statements:
            store.execute(statement)


def sync(uri: str, folder) -> str:
    done = call("sync", "--tracking-uri", uri, "--work", str(folder))
    assert (done.code, done.err) == (0, "")
    return done.out


def test_a_model_that_is_recorded_and_sent_again_and_again_is_there_once(sqlite_uri, tmp_path):
    recorded(sqlite_uri, tmp_path, times=2)
    assert_one_whole_model(sqlite_uri)
    for path in tmp_path.rglob("sent.json"):  # a lost record means that all is sent once more
        path.unlink()
    assert recorded(sqlite_uri, tmp_path).sync(everything=True) == 0
    assert_one_whole_model(sqlite_uri)
    for path in tmp_path.rglob("journal.jsonl"):
        path.unlink()
    recorded(sqlite_uri, tmp_path)
    assert_one_whole_model(sqlite_uri)


@pytest.mark.parametrize(
    "damage",
    [
        ("DELETE FROM inputs",),
        ("DELETE FROM inputs", "DELETE FROM logged_model_metrics", "DELETE FROM logged_models"),
        ("DELETE FROM inputs", "UPDATE logged_models SET status = 1"),
    ],
    ids=["the link", "the model", "its end"],
)
def test_sync_mends_a_model_that_a_store_has_lost(sqlite_uri, tmp_path, damage):
    recorded(sqlite_uri, tmp_path)
    changed(sqlite_uri, *damage)
    assert sync(sqlite_uri, tmp_path).startswith("sent ")
    assert_one_whole_model(sqlite_uri)
    assert "has all that" in sync(sqlite_uri, tmp_path)


def test_weights_that_are_gone_are_sent_again_and_a_model_that_a_user_deleted_is_not(
    sqlite_uri, tmp_path
):
    recorded(sqlite_uri, tmp_path)
    (weights,) = (tmp_path / "store").rglob("artifacts/artifacts/model.safetensors")
    weights.unlink()
    assert sync(sqlite_uri, tmp_path).startswith("sent 1 ")
    assert_one_whole_model(sqlite_uri)
    MlflowClient(sqlite_uri).delete_logged_model(models(sqlite_uri)[0].model_id)
    assert "has all that" in sync(sqlite_uri, tmp_path)
    assert models(sqlite_uri) == []
    tracker = recorded(sqlite_uri, tmp_path, score=0.5)
    assert (tracker.sync(), tracker.registered) == (0, ())


def test_a_server_that_is_away_gets_model_and_version_from_sync(server, tmp_path):
    recorded(server.uri, tmp_path, score=0.5)
    server.start()
    out = sync(server.uri, tmp_path)
    assert "registered as picker version 1, alias best" in out
    assert_one_whole_model(server.uri)
    version = MlflowClient(server.uri).get_model_version_by_alias("picker", "best")
    assert version.version == "1"
    # Its page shows no metric and no data set of its own.
    assert version.description.startswith("**naive**")
    assert f"data set {DATASET[0]} (digest {DATASET[1]})" in version.description
    assert version.description.partition("|---|---|---|\n")[2].splitlines() == [
        "| particle F1 | - | - |",
        "| pixel F1 | 50.00 | 25.00 |",
        "| pixel F1 by eight views | 75.00 | 62.50 |",
    ]
    # A lost answer makes no second one, and files that are refused wait while the values go on.
    with proxied(server.port) as proxy:
        for only, kind in {
            "logged-models": "reset after the work",
            "outputs": "reset after the work",
            "model-versions/create": "reset after the work",
            "MLmodel": "500",
        }.items():
            key = only.replace("/", "-")
            proxy.share, proxy.kinds, proxy.only, proxy.most = (
                1.0,
                (kind,),
                only,
                2 if kind == "500" else 1,
            )
            proxy.met.clear()
            tracker = recorded(proxy.uri, tmp_path / key, key=key, score=0.5)
            assert proxy.met.total() >= 1, only
            assert tracker.sync() == 0
    client = MlflowClient(server.uri)
    assert sorted(one.tags["cryossl.fingerprint"] for one in models(server.uri)) == sorted(
        ["fp", "logged-models", "outputs", "model-versions-create", "MLmodel"]
    )
    assert {str(one.status) for one in models(server.uri)} == {"READY"}
    assert [len(run.outputs.model_outputs) for run in runs_of(server.uri)] == [1] * 5
    assert len(client.search_model_versions("name = 'picker'")) == 5
    # A server that has no models, as MLflow 2 has none, is sent everything else.
    with proxied(server.port) as proxy:
        proxy.share, proxy.kinds, proxy.only = 1.0, ("404",), "logged-models/search"
        tracker = recorded(proxy.uri, tmp_path / "old", key="old", score=0.9)
        assert (tracker.sync(), tracker.registered) == (0, ())
    (old,) = [run for run in runs_of(server.uri) if run.info.run_name == "old"]
    assert (old.info.status, old.data.metrics["test/f1"]) == ("FINISHED", SCORES["test/f1"])
    assert len(client.search_model_versions("name = 'picker'")) == 5


def test_the_alias_moves_to_a_higher_score_on_the_same_data_only(sqlite_uri, tmp_path):
    client = MlflowClient(sqlite_uri)

    def registered(key: str, score: float, scored_on: str = "these", times: int = 1) -> str:
        tracker = recorded(
            sqlite_uri, tmp_path, key=key, score=score, scored_on=scored_on, times=times
        )
        (said,) = tracker.registered
        return said

    def best() -> str:
        return str(client.get_model_version_by_alias("picker", "best").version)

    assert "version 1, alias best" in registered("a", 0.5, times=2)
    assert "stays at 1, whose score is 0.5000, not below 0.4000" in registered("b", 0.4)
    assert "stays at 1, whose score is 0.5000, not below 0.5000" in registered("c", 0.5)
    assert "stays at 1, whose score is not of the same" in registered("d", 0.9, "others")
    assert best() == "1"
    assert "alias best, which version 1 had with 0.5000, now 0.6000" in registered("e", 0.6)
    assert best() == "5"
    client.set_model_version_tag("picker", "5", "cryossl.score", "my best")
    assert "stays at 5, whose score is not of the same" in registered("x", 0.9)
    client.delete_model_version("picker", "5")
    assert "version 7, alias best" in registered("f", 0.1)
    versions = client.search_model_versions("name = 'picker'")
    assert sorted(int(one.version) for one in versions) == [1, 2, 3, 4, 6, 7]


def test_the_folder_of_a_model_names_no_place_of_this_machine_and_holds_no_pickle(
    sqlite_uri, tmp_path
):
    recorded(sqlite_uri, tmp_path)
    (root,) = (tmp_path / "store" / "mlruns").rglob("models/m-*/artifacts")
    texts = {path.name: path.read_text() for path in root.iterdir() if path.is_file()}
    (model,) = models(sqlite_uri)
    described = yaml.safe_load(texts["MLmodel"])
    assert (described["model_id"], described["run_id"]) == (model.model_id, model.source_run_id)
    described.pop("artifact_path")  # where the store keeps it
    assert not [text for text in (str(described), *texts.values()) if str(PROJECT) in text]
    assert not re.search(r"/(tmp|dev/shm)/", str(described))
    suffixes = {path.suffix for path in root.rglob("*") if path.is_file()}
    assert suffixes == {"", ".yaml", ".txt", ".json", ".py", ".safetensors"}
    required = dict(line.split("==") for line in texts["requirements.txt"].split())
    assert {"torch", "segmentation-models-pytorch", "mrcfile", "mlflow", "pillow"} < required.keys()
    assert not {"click", "matplotlib", "pycocotools", "rich", "psutil"} & required.keys()
    assert required["numpy"] == metadata.version("numpy")
    assert (root / "code" / "cryossl" / "picking" / "coordinates.py").is_file()
    assert not (root / "code" / "cryossl" / "selftraining").exists()
