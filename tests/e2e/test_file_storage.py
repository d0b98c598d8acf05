"""Where a store's files lie may be away, refuse, or need a package: the values go on, the files wait and are sent later."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest
from answering import answering
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer
from recorded_runs import PROJECT, TAGS, files, record, runs_of
from typed_commands import call

from cryossl.tracking.reader import Artifacts
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched", "credentials")
AWAY = "http://127.0.0.1:9"
FILES = 5


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a real S3 server with one bucket, `lab`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def credentials(monkeypatch, s3):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hunter2-of-s3",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": s3,
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket="lab")


def stored_at(uri: str, location: str) -> str:
    """The store, with an experiment whose files lie there."""
    MlflowClient(uri).create_experiment("cryossl", artifact_location=location)
    return uri


def recorded(uri: str, folder: Path, warnings: list[str]) -> Tracker:
    """A run with five files; it must end well whatever happens to them."""
    tracker = Tracker(
        uri,
        "cryossl",
        folder / "journals",
        warn=lambda text, *values: warnings.append(text % values),
    )
    with tracker.run("fp", name="model", parent=None, tags=TAGS) as run:
        record(run, epochs=range(3))
    return tracker


def synced(uri: str, folder: Path):
    return call("sync", "--tracking-uri", uri, "--work", str(folder))


def all_is_there(uri: str) -> bool:
    (run,) = runs_of(uri)
    return len(files(MlflowClient(uri), run.info.run_id)) == FILES


def test_files_lie_in_s3_and_one_that_was_deleted_there_is_sent_again(sqlite_uri, s3, tmp_path):
    uri = stored_at(sqlite_uri, "s3://lab/cryossl")
    assert recorded(uri, tmp_path, []).sync() == 0
    assert all_is_there(uri)
    client = boto3.client("s3", endpoint_url=s3)
    (gone,) = [
        one["Key"]
        for one in client.list_objects_v2(Bucket="lab")["Contents"]
        if one["Key"].endswith("result.json")
    ]
    client.delete_object(Bucket="lab", Key=gone)
    assert synced(uri, tmp_path).out.startswith("sent 1 entries")
    assert all_is_there(uri)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("endpoint", "Could not connect to the endpoint"),
        ("credentials", "Unable to locate credentials"),
        ("bucket", "does not exist"),
    ],
)
def test_what_keeps_files_from_s3_can_be_mended_and_sync_completes_it(
    fault, said, note, sqlite_uri, s3, monkeypatch, tmp_path
):
    bucket = "lab" if fault != "bucket" else "not-made-yet"
    uri = stored_at(sqlite_uri, f"s3://{bucket}/{fault}")
    with monkeypatch.context() as broken:
        if fault == "endpoint":
            broken.setenv("MLFLOW_S3_ENDPOINT_URL", AWAY)
        if fault == "credentials":  # another spelling: MLflow keeps its client for an address
            broken.setenv("MLFLOW_S3_ENDPOINT_URL", s3.replace("127.0.0.1", "localhost"))
            broken.setattr(boto3, "DEFAULT_SESSION", None)
            broken.delenv("AWS_ACCESS_KEY_ID")
            broken.delenv("AWS_SECRET_ACCESS_KEY")
        begun = time.monotonic()
        warnings: list[str] = []
        tracker = recorded(uri, tmp_path, warnings)
        assert tracker.sync() == FILES
        assert time.monotonic() - begun < 60
        assert said in tracker.away
        assert sum("takes no files" in warning for warning in warnings) == 1
        (run,) = runs_of(uri)
        assert (run.info.status, len(run.data.metrics)) == ("FINISHED", 2)
        left = synced(uri, tmp_path)
        assert (left.code, left.out, left.err.count("\n")) == (3, "", 1)
        assert f"lacks {FILES} of {FILES} entries" in left.err
        artifacts = Artifacts(uri, "cryossl")
        assert artifacts.json([run.info.run_id], "result.json") == {run.info.run_id: None}
        assert run.info.run_id in artifacts.unreachable  # and not: was never recorded
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=bucket)
    assert synced(uri, tmp_path).out.startswith(f"sent {FILES} entries")
    assert all_is_there(uri)
    assert Artifacts(uri, "cryossl").json([run.info.run_id], "result.json") == {
        run.info.run_id: {"best": 1}
    }
    note(
        f"files of runs in S3, {fault} missing",
        ran="a run through a real S3 server on loopback, then `cryossl sync` twice: before and after "
        "the cure",
        found=f"{FILES} of {FILES} files counted as missing and sent after the cure; all points there",
        bar="none counted as sent, all there after the cure",
    )


def test_files_that_are_away_hide_none_that_lie_elsewhere(sqlite_uri, s3, tmp_path):
    client = MlflowClient(stored_at(sqlite_uri, "s3://lab/two"))
    near = client.create_run(client.get_experiment_by_name("cryossl").experiment_id).info.run_id
    client.log_dict(near, {"best": 1}, "result.json")
    lost = {}
    for name, place in {"far": "nobody-knows-this://a/b", "further": "gs://nobody/b"}.items():
        experiment = client.create_experiment(name, artifact_location=place)
        lost[name] = [client.create_run(experiment).info.run_id for _ in range(2)]
    artifacts = Artifacts(sqlite_uri, "cryossl")
    found = artifacts.json([*lost["far"], *lost["further"], near], "result.json")
    assert found[near] == {"best": 1}
    assert set(artifacts.unreachable) == {*lost["far"], *lost["further"]}
    for run_id in lost["far"]:
        assert "nobody-knows-this" in artifacts.unreachable[run_id]
    for run_id in lost["further"]:
        assert "nobody-knows-this" not in artifacts.unreachable[run_id]
        assert "pip install google-cloud-storage" in artifacts.unreachable[run_id]
    assert not [why for why in artifacts.unreachable.values() if "AwayError" in why]


def test_without_its_package_the_line_says_what_to_install(note, sqlite_uri, tmp_path):
    uri = stored_at(sqlite_uri, "s3://lab/packages")
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\nfrom recorded_runs import TAGS, record\n"
        "from cryossl.tracking.tracker import Tracker\n"
        "tracker = Tracker(sys.argv[1], 'cryossl', Path(sys.argv[2]) / 'journals')\n"
        "with tracker.run('fp', name='model', parent=None, tags=TAGS) as run:\n"
        "    record(run, epochs=range(3))\n"
        "assert tracker.sync() == 5\n"
        "sys.argv[1:] = ['sync', '--tracking-uri', sys.argv[1], '--work', sys.argv[2]]\n"
        "import cli; cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, uri, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"lacks 5 of 5 entries .*pip install .*boto3", done.stderr)
    assert synced(uri, tmp_path).out.startswith("sent 5 entries")
    assert all_is_there(uri)
    note(
        "files of runs in S3, package boto3 missing",
        ran="a run in a process without the package, `cryossl sync` there, then with the package",
        found="exit code 3 with one line that says what to install; 5 of 5 files sent after it",
        bar="none counted as sent, all there after the cure",
    )


@pytest.mark.parametrize(
    "location",
    [
        "wasbs://box@someone.blob.core.windows.net/a",
        "abfss://box@someone.dfs.core.windows.net/a",
        "gs://bucket/a",
        "sftp://someone@127.0.0.1:9/a",
        "ftp://someone@127.0.0.1:9/a",
        "hdfs://127.0.0.1:9/a",
        "dbfs:/a",
        "b2://bucket/a",
        "r2://bucket@host/a",
        "nobody-knows-this://a/b",
        "mlflow-artifacts:/a",
        "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/a",
    ],
)
def test_no_storage_of_files_ends_a_run_and_none_counts_as_sent(
    location, sqlite_uri, monkeypatch, tmp_path
):
    for name in ("MAX_RETRIES", "BACKOFF_FACTOR"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "0")
    uri = stored_at(sqlite_uri, location)
    tracker = recorded(uri, tmp_path, [])
    assert tracker.sync() == FILES
    assert tracker.away
    (run,) = runs_of(uri)
    assert (run.info.status, len(run.data.metrics)) == ("FINISHED", 2)


@pytest.mark.parametrize("status", [401, 403, 404, 413, 500, 507])
def test_a_server_that_refuses_one_file_gets_the_others(status, sqlite_uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    taken = set()

    class Storage(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            refused = status and "iteration_1" in self.path
            if not refused:
                taken.add(self.path.rpartition("/")[2])
            self.send_response(status if refused else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Silent."""

    with answering(Storage) as address:
        uri = stored_at(sqlite_uri, f"{address}/api/2.0/mlflow-artifacts/artifacts/a")
        tracker = recorded(uri, tmp_path, [])
        assert (tracker.sync(), len(taken)) == (1, FILES - 1)
        assert "iteration_1" in tracker.away
        status = 0
        assert (tracker.sync(), len(taken)) == (0, FILES)


def test_a_strict_run_whose_files_cannot_be_stored_ends_with_3_and_has_its_numbers(
    new_lab, s3, monkeypatch
):
    lab = new_lab()
    stored_at(f"sqlite:///{lab.database}", "s3://lab/strict")
    with monkeypatch.context() as broken:
        broken.setenv("MLFLOW_S3_ENDPOINT_URL", AWAY)
        done = lab.run("--strict-tracking", "true", command="baseline")
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    assert "the run has finished, but the tracking store lacks " in done.err
    assert set(lab.statuses()) == {"FINISHED"}
    done = lab.run("--strict-tracking", "true", command="baseline")
    assert (done.code, "lacks" in done.err) == (0, False), done.err
