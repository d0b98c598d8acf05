"""Servers that name an hour, send a byte at a time, or never stop: each costs limited time and memory."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from answering import answering
from mlflow import MlflowClient
from recorded_runs import PROJECT, TAGS, record

from cryossl.tracking.store.mlflow_errors import StoreAwayError
from cryossl.tracking.store.mlflow_store import MlflowStore
from cryossl.tracking.tracker import Tracker

RUN = {"run": {"info": {"run_id": "f00", "experiment_id": "1", "status": "RUNNING"}, "data": {}}}
LIMIT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    for name, value in {"MAX_RETRIES": "1", "BACKOFF_FACTOR": "0", "TIMEOUT": "1"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)


class Peer(BaseHTTPRequestHandler):
    """Answers the probe at once, and every other request as its kind does."""

    ended: threading.Event
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with contextlib.suppress(OSError):
            self.say()

    do_POST = do_PATCH = do_PUT = do_GET

    def say(self) -> None:
        raise NotImplementedError

    def begin(self, status: int = 200, **headers: str) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Silent."""


class NamesAnHour(Peer):
    def say(self) -> None:
        self.begin(429, Retry_After="3600", Content_Length="0")


class NamesADate(Peer):
    def say(self) -> None:
        self.begin(503, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT", Content_Length="0")


class Trickles(Peer):
    def say(self) -> None:
        self.begin()
        while not self.ended.wait(0.2):
            self.wfile.write(b" ")


class Floods(Peer):
    def say(self) -> None:
        self.begin()
        while not self.ended.is_set():
            self.wfile.write(bytes(2**20))


class FloodsPacked(Peer):
    def say(self) -> None:
        self.begin(Content_Encoding="gzip")
        packer = zlib.compressobj(wbits=31)
        while not self.ended.is_set():
            self.wfile.write(packer.compress(bytes(2**26)))


class Promises(Peer):
    def say(self) -> None:
        self.begin(Content_Length=str(10**15))
        self.ended.wait(60)


class Redirects(Peer):
    def say(self) -> None:
        time.sleep(0.9)
        self.begin(302, Location=f"{self.path.partition('?')[0]}/x", Content_Length="0")


class NamesANextPage(Peer):
    def say(self) -> None:
        body = json.dumps({"runs": [RUN["run"]], "next_page_token": "again"}).encode()
        self.begin(Content_Length=str(len(body)))
        self.wfile.write(body)


@contextlib.contextmanager
def peer(kind: type[Peer]) -> Iterator[str]:
    ended = threading.Event()
    with answering(type("Peer", (kind,), {"ended": ended})) as uri:
        try:
            yield uri
        finally:
            ended.set()


OBEYED = {
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "true",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "true",
}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, {}) for kind in (NamesAnHour, NamesADate, Trickles)),
        *((kind, {}) for kind in (Floods, FloodsPacked, Promises, Redirects)),
        *((kind, OBEYED) for kind in (NamesAnHour, Redirects)),
    ],
)
def test_a_call_ends_within_its_time_and_memory(kind, settings, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with peer(kind) as uri:
        store = MlflowStore(uri, "cryossl")
        MlflowClient(uri)
        begun = time.monotonic()
        with pytest.raises(StoreAwayError):
            store.run("f00")
        assert time.monotonic() - begun < LIMIT_SECONDS
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 600


def test_pages_without_end_end():
    with peer(NamesANextPage) as uri, pytest.raises(StoreAwayError, match="next page"):
        list(MlflowStore(uri, "cryossl").search(["1"], ""))


def test_a_server_that_names_an_hour_delays_no_run(note, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    with peer(NamesAnHour) as uri:
        begun = time.monotonic()
        tracker = Tracker(uri, "cryossl", tmp_path / "journals")
        with tracker.invocation(name="n", tags=TAGS) as run:
            record(run, epochs=range(2))
        assert tracker.sync() > 0
        waited = time.monotonic() - begun
        assert waited < LIMIT_SECONDS
    note(
        "tracking server that answers Retry-After: 3600",
        ran="a run from start to end",
        found=f"{waited:.1f} s in all, entries kept for later",
        bar=f"under {LIMIT_SECONDS:g} s",
    )


def test_a_process_ends_though_a_library_still_waits_for_files(sqlite_uri, tmp_path, monkeypatch):
    """boto3 starts threads of its own, for which Python waits at its end."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    MlflowClient(sqlite_uri).create_experiment("cryossl", artifact_location="s3://lab/a")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    with Tracker(sqlite_uri, "cryossl", tmp_path / "journals").run(
        "fp", name="n", parent=None, tags=TAGS
    ) as run:
        run.json({}, "a.json")
    with peer(Trickles) as uri:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", uri)
        begun = time.monotonic()
        words = ("sync", "--tracking-uri", sqlite_uri, "--work", str(tmp_path))
        done = subprocess.run(
            [sys.executable, "cli.py", *words],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        waited = time.monotonic() - begun
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "no whole answer within" in done.stderr
    assert waited < 100
    assert Path(tmp_path / "journals" / "fp" / "artifacts" / "a.json").is_file()
