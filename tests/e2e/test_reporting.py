"""compare, runs and report as a user types them, over a real tracking store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counted_frames import grid
from faults.damaged_pictures import bombs, png_that_claims
from mlflow import MlflowClient
from recorded_grid import record_grid
from schema_check import faults
from typed_commands import call

from cryossl.tracking.reader import Artifacts
from cryossl.tracking.tracker import Tracker

PROJECT = Path(__file__).resolve().parents[2]
ROWS, DOCUMENTS = grid(seeds=[0, 1], micrographs=5)


def typed(uri: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "cli.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MLFLOW_TRACKING_URI": uri},
    )


def schema(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(
        (PROJECT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded


@pytest.fixture
def in_store(sqlite_uri, tmp_path, monkeypatch) -> str:
    """The address of the store, which commands of this process find by the environment; their folder is the test's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    monkeypatch.chdir(tmp_path)
    return sqlite_uri


def test_the_commands_over_a_real_store(in_store, tmp_path):
    """One of them in a process of its own, as a user starts it; the others in this one, which imports once."""
    ids = record_grid(in_store, tmp_path, ROWS, DOCUMENTS)

    compared = call("compare", "--format", "json")
    assert (compared.code, compared.err) == (0, "")
    content = json.loads(compared.out)
    assert list(faults(content, schema("comparison"))) == []
    assert {row["interval"]["text"] for row in content["tables"]["evidence"]["rows"]} == {
        "seeds, sources",
        "no student accepted",
    }

    listed = call("runs", "--json")
    assert list(faults(json.loads(listed.out), schema("runs"))) == []

    made = typed(in_store, "report", "--log", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert "<script" not in page
    assert ids["class_balanced-5-0-3"] in page
    client = MlflowClient(in_store)
    (logged,) = client.search_runs(["1"], "tags.`cryossl.kind` = 'report'")
    assert {"report.html", "figures/gains.png", "figures/gains.svg"} <= {
        one.path
        for folder in (None, "figures")
        for one in client.list_artifacts(logged.info.run_id, folder)
    }
    assert f"logged as run {logged.info.run_id}" in made.stdout

    explained = call("compare", "--explain", "F1", "--arm", "class_balanced", "--ratio", "5")
    assert f"run {ids['class_balanced-5-0-3']}" in explained.out

    # A run that is deleted half-way, another experiment in the same store, files that are gone,
    # pictures that would fill the memory.
    client.delete_run(ids["class_balanced-5-1-1"])
    client.create_run(client.create_experiment("foreign"))
    shutil.rmtree(tmp_path / "store" / "mlruns" / "cryossl" / ids["naive-5-0-1"])
    for picture in (tmp_path / "store" / "mlruns").rglob("images/*.png"):
        picture.write_bytes(bombs()["bomb.png"])
    again = call("report", "--format", "markdown", "--output", "deep/r.md")
    assert (again.code, again.err) == (0, "")
    text = (tmp_path / "deep" / "r.md").read_text(encoding="utf-8")
    assert [said in text for said in ("file cannot be read", "recorded none")] == [True, False]
    assert (tmp_path / "deep" / "r_figures" / "gains.png").exists()


@pytest.mark.timeout(120)  # reading from the pipe would never end
def test_external_results_are_read_from_no_pipe_device_or_folder(sqlite_uri, tmp_path):
    record_grid(sqlite_uri, tmp_path, ROWS, DOCUMENTS)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), tmp_path):
        done = call("compare", "--tracking-uri", sqlite_uri, "--external", str(place))
        assert (done.code, done.out, done.err) == (
            2,
            "",
            f"cryossl: error: {place} is no regular file; give a regular file in its place\n",
        )


def test_a_report_takes_no_pipes_and_no_links_place(in_store, tmp_path):
    record_grid(in_store, tmp_path, ROWS, DOCUMENTS)
    pipe, link = tmp_path / "pipe", tmp_path / "link.md"
    os.mkfifo(pipe)
    link.symlink_to("target.md")
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        piped = call("report", "--format", "markdown", "--output", "pipe")
        content = reader.communicate()[0]
    linked = call("report", "--format", "markdown", "--output", "link.md")
    assert (piped.code, linked.code, piped.err, linked.err) == (0, 0, "", "")
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert content.startswith("# ")
    assert (tmp_path / "target.md").read_text(encoding="utf-8").startswith("# ")


def test_where_figures_cannot_be_written_their_option_is_named_and_no_report_is_left(
    in_store, tmp_path
):
    record_grid(in_store, tmp_path, ROWS, DOCUMENTS)
    (tmp_path / "file").write_text("")
    done = call("report", "--figures", "file/folder", "--output", "report.html")
    assert (done.code, done.out, done.err.count("\n")) == (6, "", 1)
    assert done.err.startswith("cryossl: error: file/folder/")
    assert done.err.endswith("; choose another --figures\n")
    assert not (tmp_path / "report.html").exists()


def test_artifacts_are_read_and_nothing_outside_is(sqlite_uri, tmp_path):
    tracker = Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
    with tracker.run("fp", name="n", parent=None, tags={}) as run:
        run.json({"a": 1}, "counts.json")
        run.text("not JSON", "broken.json")
        run.image(np.full((8, 32, 3), 90, np.uint8), key="validation_worst", step=1)
    folder = tmp_path / "store" / "mlruns" / "cryossl" / str(run.run_id) / "artifacts"
    secret = tmp_path / "secret.json"
    secret.write_text('{"secret": 1}')
    (folder / "link.json").symlink_to(secret)
    (folder / "folder.json").mkdir()
    artifacts = Artifacts(sqlite_uri, "cryossl")
    assert artifacts.json([run.run_id, "0" * 32], "counts.json") == {
        run.run_id: {"a": 1},
        "0" * 32: None,
    }
    for name in (
        "missing.json",
        "broken.json",
        "folder.json",
        "link.json",
        "../artifacts/counts.json",
        "../../../../../secret.json",
    ):
        assert artifacts.json([run.run_id], name) == {run.run_id: None}
    assert list(artifacts.pictures(run.run_id, ["validation_worst", "validation_best"])) == [
        "validation_worst"
    ]
    picture = next(path for path in (folder / "images").iterdir() if path.suffix == ".png")
    whole = picture.read_bytes()
    for content in (
        b"",
        b"<svg onload=alert(1)>",
        whole[:40],
        whole[: len(whole) // 2],
        bombs()["bomb.png"],
        png_that_claims(height=9000, width=11_000),
        whole + bytes(2**24),
    ):
        picture.write_bytes(content)
        assert artifacts.pictures(run.run_id, ["validation_worst"]) == {"validation_worst": None}


def test_a_server_hands_out_the_same_files(server, tmp_path):
    server.start()
    tracker = Tracker(server.uri, "cryossl", tmp_path / "journals")
    with tracker.run("fp", name="n", parent=None, tags={}) as run:
        run.json({"a": 1}, "counts.json")
    artifacts = Artifacts(server.uri, "cryossl")
    assert artifacts.json([run.run_id, run.run_id, "0" * 32], "counts.json") == {
        run.run_id: {"a": 1},
        "0" * 32: None,
    }
    assert artifacts.json([run.run_id], "missing.json") == {run.run_id: None}
