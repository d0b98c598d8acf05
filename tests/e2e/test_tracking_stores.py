"""Other stores than one SQLite file: a server that is away at first, Postgres."""

from __future__ import annotations

import json
import time

import pytest
from mlflow import MlflowClient
from recorded_runs import TAGS, files, points, record, runs_of

from cryossl.tracking.reader import read_runs
from cryossl.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("unwatched")


class TestServer:
    def test_a_server_that_is_away_from_start_to_end_costs_little_and_is_filled_by_a_later_sync(
        self, server, tmp_path, caplog
    ):
        begun = time.monotonic()
        tracker = Tracker(server.uri, "cryossl", tmp_path / "j")
        with (
            tracker.invocation(name="e", tags={"cryossl.kind": "experiment"}) as parent,
            tracker.run("fp", name="n", parent=parent, tags=TAGS) as run,
        ):
            record(run, epochs=range(50))
        assert time.monotonic() - begun < 60
        assert run.run_id is None
        assert tracker.away
        assert sum("is away" in line.message for line in caplog.records) == 1
        server.start()
        later = Tracker(server.uri, "cryossl", tmp_path / "j")
        assert later.sync(everything=True) == 0
        by_name = {stored.info.run_name: stored for stored in runs_of(server.uri)}
        assert {stored.info.status for stored in by_name.values()} == {"FINISHED"}
        assert by_name["n"].data.tags["mlflow.parentRunId"] == by_name["e"].info.run_id
        assert [
            step for step, _, _ in points(server.uri, by_name["n"].info.run_id, "train/loss")
        ] == list(range(50))
        assert len(files(MlflowClient(server.uri), by_name["n"].info.run_id)) == 5


def test_postgres_is_resumed_like_sqlite_and_its_password_is_stored_nowhere(
    postgres_uri, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for epochs in (range(3), range(5)):
        run = Tracker(postgres_uri, "cryossl", tmp_path / "j").run(
            "fp", name="n", parent=None, tags=TAGS
        )
        run.metrics({"test/f1": 0.5}, step=1)
        for epoch in epochs:
            run.metrics({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
    run.finish()
    uri = postgres_uri.replace("postgresql://", "postgresql+psycopg://")
    (stored,) = runs_of(uri)
    assert stored.info.status == "FINISHED"
    assert [step for step, _, _ in points(uri, run.run_id, "train/loss")] == list(range(5))
    assert read_runs(postgres_uri, "cryossl", kind="iteration", tags={})["test/f1"].tolist() == [
        0.5
    ]
    recorded = "".join(path.read_text() for path in (tmp_path / "j").rglob("*.json*"))
    assert "secret" not in recorded
    assert json.dumps(stored.data.tags).count("secret") == 0


def test_a_database_that_is_away_is_found_out_at_once(tmp_path):
    begun = time.monotonic()
    tracker = Tracker("postgresql://nobody:secret@127.0.0.1:1/none", "cryossl", tmp_path / "j")
    assert "no database at 127.0.0.1:1" in tracker.away
    assert "secret" not in tracker.away
    assert time.monotonic() - begun < 30
