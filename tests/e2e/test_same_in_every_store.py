"""The reading commands say the same of the same runs, be they in an sqlite file, on a server or in Postgres."""

from __future__ import annotations

import re

import pytest
from counted_frames import grid
from recorded_grid import record_grid
from typed_commands import call

from cryossl.redaction import shown
from cryossl.tracking.address import store_uri

ROWS, DOCUMENTS = grid(seeds=[0, 1], micrographs=5)
READING = (
    ("compare", "--format", "json"),
    ("compare", "--ratio", "5", "--metric", "test/recall", "--format", "json"),
    ("compare", "--explain", "F1", "--arm", "class_balanced", "--ratio", "5"),
    ("runs", "--json"),
    ("report", "--format", "markdown"),
)

pytestmark = pytest.mark.usefixtures("unwatched")


def answers(uri: str, folder) -> list[str]:
    """What the commands print or write; ids, time, folder and store are replaced by what they stand for."""
    ids = record_grid(uri, folder, ROWS, DOCUMENTS)
    said = []
    for words in READING:
        written = folder / "report.md"
        done = call(
            *words,
            "--tracking-uri",
            uri,
            *(("--output", str(written)) if words[0] == "report" else ()),
        )
        assert (done.code, done.err) == (0, "")
        text = written.read_text() if words[0] == "report" else done.out
        for name, run_id in ids.items():
            text = text.replace(run_id, f"<{name}>")
        text = text.replace(shown(store_uri(uri)), "<store>").replace(str(folder), "<folder>")
        said.append(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "<time>", text))
    return said


@pytest.fixture
def in_sqlite(store_template, tmp_path, monkeypatch) -> list[str]:
    folder = tmp_path / "file"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mlflow.db").write_bytes(store_template.read_bytes())
    found = answers(f"sqlite:///{folder}/mlflow.db", folder)
    assert all("<class_balanced-5-0-" in text for text in (found[0], found[2]))
    return found


def test_a_server_answers_as_the_file_does(in_sqlite, server, tmp_path, monkeypatch):
    server.start()
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert answers(server.uri, folder) == in_sqlite


def test_postgres_answers_as_the_file_does(in_sqlite, postgres_uri, tmp_path, monkeypatch):
    folder = tmp_path / "postgres"
    folder.mkdir()
    monkeypatch.chdir(folder)
    found = answers(postgres_uri, folder)
    assert found == in_sqlite
    assert all("secret" not in text for text in found)
