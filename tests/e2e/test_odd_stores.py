"""Every reading command over stores that are not as they should be: a sensible table or one clear line, never a traceback."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from counted_frames import grid
from mlflow import MlflowClient
from recorded_grid import record_grid
from schema_check import faults
from typed_commands import Done, call

from cryossl.progress.status import StatusFile
from cryossl.tracking.tracker import Tracker

PROJECT = Path(__file__).resolve().parents[2]
ROWS, DOCUMENTS = grid(seeds=[0, 1], micrographs=5)
FORMS = [("compare", "--format", form) for form in ("table", "markdown", "csv", "json", "latex")]
REPORTS = [("report", "--format", form) for form in ("html", "markdown", "latex")]
EXPLAIN = ("compare", "--explain", "F1", "--arm", "class_balanced")
Spoil = Callable[[MlflowClient, Mapping[str, str], Path], None]


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (PROJECT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded


def of(*strategies: str, seeds: tuple[str, ...] = ("0", "1")) -> list[dict[str, Any]]:
    return [
        row
        for row in ROWS
        if row["cryossl.strategy"] in strategies and row["cryossl.seed"] in seeds
    ]


def ended(rows: list[dict[str, Any]], status: str, **which: str) -> list[dict[str, Any]]:
    """The rows, those that have all these tags with another status."""
    return [
        row | {"status": status}
        if all(row[f"cryossl.{name}"] == value for name, value in which.items())
        else row
        for row in rows
    ]


def nan(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    client.log_metric(ids["class_balanced-5-1-3"], "test/f1", float("nan"), step=9)


def deleted(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    client.delete_run(ids["class_balanced-5-1-1"])
    client.delete_run(ids["naive-5-0"])
    shutil.rmtree(store / "mlruns" / "cryossl" / ids["supervised-5-0-0"])


def kept_deleted(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    client.delete_run(ids["class_balanced-5-1-3"])


def all_deleted(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    for iteration in (1, 2, 3):
        client.delete_run(ids[f"class_balanced-5-1-{iteration}"])


def foreign(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    there = client.get_run(ids["naive-5-0"]).info.experiment_id
    for experiment in (there, client.create_experiment("somebody else's")):
        client.create_run(experiment)
        run = client.create_run(
            experiment,
            tags={
                "cryossl.kind": "iteration",
                "cryossl.strategy": "naive",
                "cryossl.ratio_percent": "abc",
                "cryossl.seed": "x",
            },
        )
        client.log_metric(run.info.run_id, "loss", 1.0)


def untouched(client: MlflowClient, ids: Mapping[str, str], store: Path) -> None:
    """The rows are odd enough."""


CASES: dict[str, tuple[list[dict[str, Any]], Spoil, str]] = {
    "one arm only": (of("supervised"), untouched, ""),
    "one student without its baseline": (
        of("class_balanced", seeds=("0",)),
        untouched,
        "supervised at 5%: missing",
    ),
    "unequal seeds": (
        of("supervised", "class_balanced") + of("naive", seeds=("0",)),
        untouched,
        "naive at 5%: missing",
    ),
    "a failed run": (
        ended(ROWS, "FAILED", strategy="class_balanced", seed="1", iteration="1"),
        untouched,
        "class_balanced at 5%: failed",
    ),
    "a run that never ended": (
        ended(ROWS, "RUNNING", strategy="naive", seed="0"),
        untouched,
        "naive at 5%: unfinished",
    ),
    "a failed baseline": (
        ended(ROWS, "FAILED", strategy="supervised", seed="0"),
        untouched,
        "supervised at 5%: failed",
    ),
    "nothing finished": (ended(ROWS[:2], "FAILED"), untouched, "no run has finished"),
    "a NaN": (ROWS, nan, "class_balanced at 5%: finished without a finite test F1"),
    "runs deleted half-way": (
        ROWS,
        deleted,
        "class_balanced at 5%: missing (iteration 1 is not in the store)",
    ),
    "the model that was kept deleted": (
        ROWS,
        kept_deleted,
        "class_balanced at 5%: missing (iteration 3 is not in the store)",
    ),
    "all models of an arm deleted": (
        ROWS,
        all_deleted,
        "class_balanced at 5%: missing (none of its iterations",
    ),
    "foreign runs": (ROWS, foreign, "1 run of something else"),
}


@pytest.fixture(params=list(CASES))
def odd(request, sqlite_uri, tmp_path, monkeypatch) -> tuple[str, str]:
    """The name of a case and what is to be said of it, in a store of its own that the commands find."""
    rows, spoil, said = CASES[request.param]
    ids = record_grid(sqlite_uri, tmp_path, rows, DOCUMENTS)
    spoil(MlflowClient(sqlite_uri), ids, tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    monkeypatch.chdir(tmp_path)
    return request.param, said


def refused(done: Done) -> bool:
    """True for one clear line and exit code 2; anything but that or a success is wrong."""
    if done.code == 0:
        assert done.err == ""
        return False
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"cryossl: error: .+\n", done.err)
    return True


def test_an_odd_store_is_told_of_by_every_command(odd, tmp_path):
    _, said = odd
    shown = {
        words: call(*words) for words in (*FORMS, *REPORTS, EXPLAIN, ("runs",), ("runs", "--json"))
    }
    nothing = {words: refused(done) for words, done in shown.items()}
    assert not nothing["runs",]
    assert not nothing["runs", "--json"]
    assert len({nothing[words] for words in (*FORMS, *REPORTS)}) == 1
    assert list(faults(json.loads(shown["runs", "--json"].out), schema("runs"))) == []
    if nothing[FORMS[0]]:
        assert all(said in shown[words].err for words in (*FORMS, *REPORTS))
        return
    content = json.loads(shown["compare", "--format", "json"].out)
    assert list(faults(content, schema("comparison"))) == []
    assert any(said in fault for fault in content["faults"]) or not said
    texts = [done.out for done in shown.values()] + [
        (tmp_path / name).read_text(encoding="utf-8")
        for name in ("report.html", "report.md", "report.tex")
    ]
    plain = [re.sub(r'base64,[^"]+', "", text) for text in texts]
    assert [
        found for text in plain for found in re.findall(r"\b(?:nan|NaN|None)\b.{20}", text)
    ] == []


def test_a_store_of_an_unknown_schema_is_one_line(tmp_path):
    file = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as store, store:
        for table in ("experiments", "runs", "metrics", "params", "tags"):
            store.execute(f"CREATE TABLE {table} (id)")
        store.execute("CREATE TABLE alembic_version (version_num TEXT)")
        store.execute("INSERT INTO alembic_version VALUES ('deadbeef')")
    done = call("compare", "--tracking-uri", f"sqlite:///{file}")
    assert (done.code, done.err.count("\n"), "deadbeef" in done.err) == (3, 1, True)


@pytest.mark.parametrize("words", [*FORMS, *REPORTS, EXPLAIN], ids=" ".join)
def test_an_empty_store_is_one_line(sqlite_uri, tmp_path, monkeypatch, words):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    monkeypatch.chdir(tmp_path)
    for said in (
        "there is no experiment 'cryossl' in sqlite",
        "nothing to compare: the experiment has no run",
    ):
        done = call(*words)
        assert refused(done)
        assert said in done.err
        Tracker(sqlite_uri, "cryossl", tmp_path / "journals")
    assert call("runs").out == "the experiment has no run; `python cli.py run` makes one\n"
    assert list(faults(json.loads(call("runs", "--json").out), schema("runs"))) == []


def test_a_ratio_is_asked_of_the_store_and_one_without_a_finished_run_names_those_that_have(
    sqlite_uri, tmp_path, monkeypatch
):
    rows, documents = grid(seeds=[0], ratios=("5", "10"), micrographs=5)
    record_grid(sqlite_uri, tmp_path, ended(rows, "FAILED", ratio_percent="10"), documents)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    at_five = json.loads(call("compare", "--ratio", "5", "--format", "json").out)
    every = json.loads(call("compare", "--format", "json").out)
    assert at_five["verdicts"] == [one for one in every["verdicts"] if one["ratio_percent"] == 5]
    assert {row["labelled"]["text"] for row in at_five["tables"]["by_ratio"]["rows"]} == {
        "5% (258)"
    }
    for ratio in ("10", "7"):
        done = call("compare", "--ratio", ratio)
        assert refused(done)
        assert f"no finished run at a ratio of {ratio} percent" in done.err
        assert "5" in done.err.split("there are:")[1]


# --- the other commands that answer in JSON


def test_the_checks_of_data_machine_and_run_answer_as_documented(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = call("data", "check", str(tiny_data), "--json")
    assert (good.code, list(faults(json.loads(good.out), schema("data-check")))) == (0, [])
    assert json.loads(good.out)["sources"]
    bad = call("data", "check", str(tmp_path / "nowhere"), "--json")
    assert (bad.code, list(faults(json.loads(bad.out), schema("data-check")))) == (2, [])
    assert json.loads(bad.out)["faults"]
    machine = call("doctor", "--json")
    assert list(faults(json.loads(machine.out), schema("doctor"))) == []
    StatusFile(tmp_path / "r" / "status.json", run="r").begin("Load the data")
    status = call("status", "--results", str(tmp_path), "--name", "r", "--json")
    assert (status.code, list(faults(json.loads(status.out), schema("status")))) == (0, [])
