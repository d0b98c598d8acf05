"""MLflow loads and serves what a run logged, without the checkout, and it picks as `pick` does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from cryossl.data.images import read_picture

THRESHOLD = "0.15"
RUN = ("--strategies", "naive", "--accept", "always", "--register", "picker")
LOADED = """
import json, sys
import mlflow.pyfunc
import pandas as pd
model = mlflow.pyfunc.load_model("models:/picker@best")
import cryossl
asked = json.loads(sys.argv[1])
picks = [model.predict(pd.DataFrame(rows), params=params) for rows, params in asked]
print(json.dumps([cryossl.__file__, *(one.to_dict("list") for one in picks)]))
"""


@pytest.fixture(scope="module")
def registered(lab):
    done = lab.run(*RUN)
    assert (done.code, done.err) == (0, "")
    assert "✅ registered as picker version 1, alias best" in done.out
    return lab


@pytest.fixture(scope="module")
def pictures(lab) -> list[Path]:
    return sorted((lab.data / "val").glob("*.png"))[:2]


@pytest.fixture(scope="module")
def picked(registered, pictures) -> list[tuple[str, float, float, float]]:
    """(name, x, y, score) in the files of `pick`."""
    folder = registered.folder / "picks"
    options = ["--to", str(folder), "--threshold", THRESHOLD, "--format", "csv"]
    where = ["--tracking-uri", f"sqlite:///{registered.database}"]
    done = registered.call(
        "pick", *map(str, pictures), "--model", "models:/picker@best", *options, *where
    )
    assert done.code == 0, done.err
    with (folder / "picks.csv").open(encoding="utf-8") as file:
        rows = [
            (
                Path(row["micrograph"]).name,
                *(float(row[name]) for name in ("x_px", "y_px", "score")),
            )
            for row in csv.DictReader(file)
        ]
    assert {name for name, *_ in rows} == {path.name for path in pictures}
    return rows


def outside(lab) -> dict[str, str]:
    """The environment of a process that knows the store and not the checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{lab.database}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow looks for uvicorn
    }


def table(picks: dict[str, list], pictures: list[Path]) -> list[tuple[str, float, float, float]]:
    columns = (picks[name] for name in ("picture", "x_px", "y_px", "score"))
    return [
        (pictures[number].name, x, y, score) for number, x, y, score in zip(*columns, strict=True)
    ]


def assert_same(found, expected) -> None:
    assert [name for name, *_ in found] == [name for name, *_ in expected]
    np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in expected], atol=2e-3)


def test_load_model_picks_what_pick_writes_without_the_checkout(
    registered, pictures, picked, tmp_path
):
    threshold = {"threshold": float(THRESHOLD)}
    grid = read_picture(pictures[0], max_megapixels=1).tolist()
    asked = [
        [[{"path": str(path)} for path in pictures], threshold],
        # Without the name of a file nothing says of which source it is.
        [[{"picture": grid}], {**threshold, "source": "barrel"}],
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(asked)],
        env=outside(registered),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    place, by_path, by_values = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(registered.folder / "mlruns")
    assert_same(table(by_path, pictures), picked)
    assert_same(table(by_values, pictures), [row for row in picked if row[0] == pictures[0].name])


def test_the_baseline_and_the_accepted_model_are_logged_and_a_second_start_adds_nothing(registered):
    client = MlflowClient(f"sqlite:///{registered.database}")

    def logged():
        return sorted(
            (one.name, str(one.status), one.source_run_id, one.model_id)
            for one in client.search_logged_models(["1"])
        )

    before = logged()
    assert [row[:2] for row in before] == [("naive", "READY"), ("supervised", "READY")]
    assert registered.run(*RUN).code == 0
    assert logged() == before
    assert len(client.search_model_versions("name = 'picker'")) == 1
    (best,) = client.search_model_versions("name = 'picker'")
    assert f"{float(best.tags['cryossl.score']):.6f}" == max(
        f"{numbers['validation/particle_f1_views8']:.6f}"
        for numbers in registered.numbers().values()
    )
    assert set(registered.statuses()) == {"FINISHED"}


def test_a_moved_project_still_picks_with_its_registered_model(registered, pictures):
    moved = registered.folder.with_name("moved")
    registered.folder.rename(moved)
    try:
        done = registered.call(
            "pick", str(pictures[0]), "--model", "models:/picker/1", "--to", str(moved / "again"),
            "--tracking-uri", f"sqlite:///{moved / 'mlflow.db'}",
        )  # fmt: skip
    finally:
        moved.rename(registered.folder)
    assert done.code == 0, done.err


def test_a_copied_project_names_its_own_models_after_the_first_writing(registered):
    copy = registered.folder.with_name("copy")
    shutil.copytree(registered.folder, copy)
    uri = f"sqlite:///{copy / 'mlflow.db'}"
    assert registered.call("sync", "--tracking-uri", uri, "--work", str(copy / "work")).code == 0
    client = MlflowClient(uri)
    version = client.get_model_version("picker", "1")
    places = [one.artifact_location for one in client.search_logged_models(["1"])]
    places += [version.source, client.get_model_version_download_uri("picker", "1")]
    assert len(places) == 4
    for place in places:
        assert place.startswith((copy / "mlruns").as_uri())
        assert Path(place.removeprefix("file://"), "MLmodel").is_file()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("models:/picker/9", "there is no model of cryossl at models:/picker/9"),
        ("models:/other@best", "there is no model of cryossl at models:/other@best"),
        ("models:/picker", "neither a file nor a run nor a registered model"),
        (f"models:/m-{'0' * 32}", "there is no model of cryossl"),
    ],
)
def test_an_address_without_a_model_is_one_line(registered, pictures, tmp_path, address, message):
    done = registered.call(
        "pick", str(pictures[0]), "--model", address, "--to", str(tmp_path),
        "--tracking-uri", f"sqlite:///{registered.database}",
    )  # fmt: skip
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


@pytest.mark.slow
def test_a_served_model_answers_with_the_picks_that_pick_writes(
    registered, pictures, picked, tmp_path
):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["models", "serve", "-m", "models:/picker@best", "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, "-h", "127.0.0.1", "-p", str(port), "-w", "1"],
            env=outside(registered),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while answer(f"http://127.0.0.1:{port}/ping", None)[0] != 200:
            alive = server.poll() is None and time.monotonic() < deadline
            assert alive, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        url = f"http://127.0.0.1:{port}/invocations"
        params = {"threshold": float(THRESHOLD)}
        rows = [{"path": str(path)} for path in pictures]
        code, body = answer(url, {"dataframe_records": rows, "params": params})
        assert code == 200, body
        columns = {
            name: [row[name] for row in body["predictions"]] for name in body["predictions"][0]
        }
        assert_same(table(columns, pictures), picked)
        grid = np.asarray(Image.open(pictures[0]).convert("L"), float).tolist()
        code, body = answer(
            url,
            {"dataframe_records": [{"picture": grid}], "params": {**params, "source": "barrel"}},
        )
        assert code == 200, body
        assert len(body["predictions"]) == [name for name, *_ in picked].count(pictures[0].name)
        for bad, message in (
            ([{"path": "/nowhere.mrc"}], "cannot be read"),
            ([{"picture": [[1.0], [2.0, 3.0]]}], "no grid of finite grey values"),
            ([{"picture": [[1.0]]}], "no source of the model has"),
        ):
            code, body = answer(url, {"dataframe_records": bad})
            assert code == 400, body
            assert message in body["message"]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answer(url: str, content: dict | None):
    """Code and JSON of an answer; 0 while nobody listens."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            said = found.read().strip()
            return found.status, json.loads(said) if content is not None else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}") if content is not None else None
    except OSError:
        return 0, None
