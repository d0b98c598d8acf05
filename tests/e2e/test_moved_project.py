"""A project folder that is moved, copied or opened by another path keeps its runs and their files together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from counted_frames import grid
from mlflow import MlflowClient
from recorded_grid import record_grid
from typed_commands import call

from cryossl.tracking.tracker import Tracker

ROWS, DOCUMENTS = grid(seeds=[0, 1], micrographs=5)
PAIR = [row for row in ROWS if row["cryossl.strategy"] in ("supervised", "class_balanced")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, store_template) -> Path:
    """A project that a run was recorded in, and what moved it away: `before` is gone, `kept` holds it."""
    root = tmp_path_factory.mktemp("moved")
    before = root / "before"
    before.mkdir()
    shutil.copyfile(store_template, before / "mlflow.db")
    record_grid(f"sqlite:///{before}/mlflow.db", root, PAIR, DOCUMENTS)
    with contextlib.closing(sqlite3.connect(before / "mlflow.db")) as store, store:
        store.execute(  # as a bare `mlflow run .` makes the default experiment
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0",
            (str(before / "mlruns" / "0"),),
        )
    before.rename(root / "kept")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for address, engine in SqlAlchemyStore._engine_map.items():
        if str(before) in address:
            engine.dispose()
    return root


@pytest.fixture
def project(recorded) -> Iterator[Callable[[str], Path]]:
    """Puts the project at a place of this name beside where it was recorded."""
    made: list[Path] = []

    def put(name: str) -> Path:
        made.append(recorded / name)
        shutil.copytree(recorded / "kept", made[-1])
        return made[-1]

    yield put
    for folder in [recorded / "before", *made]:
        shutil.rmtree(folder, ignore_errors=True)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()  # MLflow keeps connections to what is removed here


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
    }


def compared(folder: Path) -> dict:
    done = call("compare", "--tracking-uri", uri(folder), "--format", "json")
    assert (done.code, done.err) == (0, "")
    content: dict = json.loads(done.out)
    return content


def intervals(content: dict) -> set[str]:
    return {row["interval"]["text"] for row in content["tables"]["evidence"]["rows"]}


def further_run(folder: Path, journals: Path) -> str:
    tracker = Tracker(uri(folder), "cryossl", journals)
    with tracker.run(f"further {folder}", name="further", parent=None, tags={}) as run:
        run.json({"a": 1}, "counts.json")
    assert tracker.sync() == 0
    return str(run.run_id)


def places_in(folder: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        rows = store.execute(
            "SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM experiments"
        )
        return {uri.removeprefix("file://").partition("/mlruns")[0] for (uri,) in rows}


def test_a_moved_project_is_read_where_it_is_and_reading_changes_nothing(
    project, recorded, tmp_path
):
    after = project("after it moved")
    before = digests(after)
    content = compared(after)
    assert intervals(content) == {"seeds, sources"}
    assert content["faults"] == []
    page = tmp_path / "r.html"
    assert call("report", "--tracking-uri", uri(after), "--output", str(page)).err == ""
    assert "data:image/jpeg;base64," in page.read_text(encoding="utf-8")
    assert digests(after) == before
    assert not (recorded / "before").exists()


def test_a_further_run_in_a_moved_project_puts_its_files_into_the_new_place(
    note, project, recorded, tmp_path
):
    after = project("after")
    run = further_run(after, tmp_path / "journals")
    assert (after / "mlruns" / "cryossl" / run / "artifacts" / "counts.json").is_file()
    assert not (recorded / "before").exists()
    assert places_in(after) == {str(after)}  # also for MLflow's own pages
    assert intervals(compared(after)) == {"seeds, sources"}
    note(
        "project that was moved",
        ran="compare, a further run, compare again",
        found="intervals from counts both times; new files in the new place, the old one not made anew",
        bar="the same intervals, nothing written to the old place",
    )


def test_a_copy_writes_nothing_into_the_place_of_the_original_and_the_original_nothing_into_it(
    project, tmp_path
):
    original, copy = project("before"), project("copy")
    untouched = digests(original)
    run = further_run(copy, tmp_path / "journals")
    assert (copy / "mlruns" / "cryossl" / run).is_dir()
    assert digests(original) == untouched
    changed = digests(copy)
    further_run(original, tmp_path / "others")
    assert digests(copy) == changed


def test_a_database_that_was_copied_alone_reads_the_files_that_stayed_and_writes_its_own(
    project, recorded, tmp_path
):
    original, alone = project("before"), recorded / "alone"
    alone.mkdir()
    shutil.copyfile(original / "mlflow.db", alone / "mlflow.db")
    untouched = digests(original)
    assert intervals(compared(alone)) == {"seeds, sources"}
    run = further_run(alone, tmp_path / "journals")
    assert (alone / "mlruns" / "cryossl" / run).is_dir()
    assert digests(original) == untouched
    assert intervals(compared(alone)) == {"seeds, sources"}
    shutil.rmtree(alone)


def test_a_project_opened_through_a_link_is_the_same_one(project, recorded, tmp_path):
    before = project("before")
    link = recorded / "link"
    link.symlink_to(before)
    run = further_run(link, tmp_path / "journals")
    link.unlink()
    assert places_in(before) == {str(before)}
    assert (before / "mlruns" / "cryossl" / run).is_dir()


def test_a_place_that_somebody_chose_elsewhere_is_kept(project, tmp_path):
    folder, chosen = project("before"), tmp_path / "big disk" / "mlruns" / "chosen"
    client = MlflowClient(uri(folder))
    client.create_experiment("chosen", artifact_location=chosen.as_uri())
    for key in ("a", "b"):
        tracker = Tracker(uri(folder), "chosen", tmp_path / key)
        with tracker.run(key, name=key, parent=None, tags={}) as run:
            run.json({"a": 1}, "counts.json")
        assert (chosen / str(run.run_id) / "artifacts" / "counts.json").is_file()


@pytest.mark.parametrize("lost", ["moved away", "closed"])
def test_files_that_cannot_be_reached_are_never_called_never_recorded(
    lost, project, recorded, tmp_path
):
    after = project("after")
    (after / "mlruns").rename(tmp_path / "gone")
    if lost == "closed":
        (after / "mlruns").write_text("a file in its place")
    content = compared(after)
    (fault,) = content["faults"]
    assert "the files of 4 of 4 runs cannot be reached" in fault
    assert f"{after}/mlruns/cryossl, {recorded}/before/mlruns/cryossl" in fault
    assert "Student's t over seeds" in fault
    assert intervals(content) == {"seeds (t)"}
    assert "because the files of 4 of 4 runs cannot be reached" in " ".join(
        content["tables"]["evidence"]["notes"]
    )
    page = tmp_path / "r.md"
    call("report", "--tracking-uri", uri(after), "--output", str(page), "--format", "markdown")
    text = page.read_text(encoding="utf-8")
    assert "no pictures of micrographs: the files of 2 of 2 runs cannot be reached" in text
    assert "recorded none" not in text
    assert "no run has counts" not in text
    told = call(
        "compare", "--tracking-uri", uri(after), "--explain", "F1", "--arm", "class_balanced"
    )
    assert "(the files of 4 of 4 runs cannot be reached)" in told.out


def test_a_store_named_from_another_folder_keeps_its_files_beside_it(
    store_template, tmp_path, monkeypatch
):
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(store_template, tmp_path / "store" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///../store/mlflow.db")
    Tracker("sqlite:///unused.db", "cryossl", tmp_path / "journals")
    assert places_in(tmp_path / "store") >= {str(tmp_path / "store")}
