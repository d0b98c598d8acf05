"""Stages: durable, content-addressed, trusted only when whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryossl.errors import StorageError
from cryossl.system.digest import digest
from cryossl.system.stages import MANIFEST, AbandonedError, Stages


def write(name: str, content: str):
    def compute(folder: Path) -> None:
        (folder / name).write_text(content)

    return compute


def fail(_folder: Path) -> None:
    raise AssertionError("a finished stage was computed again")


def test_a_kept_stage_is_used_only_where_the_present_code_has_none(tmp_path):
    old, new = {"train": "a"}, {"train": "b"}
    first = Stages(tmp_path, code=old).once("train", {"seed": 1}, write("weights", "abc"))
    kept = Stages(tmp_path, code=new, kept=[old]).once("train", {"seed": 1}, fail)
    assert (kept.key, kept.of_other_code) == (first.key, True)
    # What no code has computed yet is computed and filed as a stage of the present code.
    fresh = Stages(tmp_path, code=new, kept=[old]).once("train", {"seed": 2}, write("w", "x"))
    assert not fresh.of_other_code
    assert Stages(tmp_path, code=new).once("train", {"seed": 2}, fail).key == fresh.key
    own = Stages(tmp_path, code=new).once("train", {"seed": 1}, write("weights", "abd"))
    assert Stages(tmp_path, code=new, kept=[old]).once("train", {"seed": 1}, fail).key == own.key


def test_inputs_that_name_a_discarded_stage_are_those_of_the_code_that_is_used(tmp_path):
    old, new = {"predict": "a", "select": "c"}, {"predict": "b", "select": "c"}

    def inputs(stages):
        return lambda code: {"predicted": stages.key_of("predict", {"teacher": 1}, code)}

    stages = Stages(tmp_path, code=old)
    first = stages.once("select", inputs(stages), write("chosen", "abc"))
    changed = Stages(tmp_path, code=new, kept=[old])
    assert changed.once("select", inputs(changed), fail).key == first.key
    alone = Stages(tmp_path, code=new)
    assert alone.once("select", inputs(alone), write("chosen", "x")).key != first.key


def test_stages_of_code_that_cannot_be_used_do_not_count_as_written(tmp_path):
    Stages(tmp_path, code={"select": "a"}).once("select", {"items": 1}, write("maps", "abc"))
    counted = [
        Stages(tmp_path, code={"select": code}, kept=kept).size_bytes("select", bool)
        for code, kept in (("a", []), ("b", []), ("b", [{"select": "a"}]))
    ]
    assert counted[0] == counted[2] > counted[1] == 0


def test_a_stage_of_other_code_is_another_stage_and_names_the_code_in_its_record(tmp_path):
    old = Stages(tmp_path, code={"train": "a"}).once("train", {"seed": 1}, write("weights", "abc"))
    new = Stages(tmp_path, code={"train": "b"}).once("train", {"seed": 1}, write("weights", "abd"))
    same = Stages(tmp_path, code={"train": "a", "select": "c"}).once("train", {"seed": 1}, fail)
    assert (same.key, same.reused) == (old.key, True)
    assert new.key != old.key
    assert json.loads((new.folder / "stage.json").read_text())["code"] == "b"


def test_a_finished_stage_is_not_computed_again(tmp_path: Path) -> None:
    first = Stages(tmp_path).once("train", {"seed": 1}, write("weights", "abc"))
    second = Stages(tmp_path).once("train", {"seed": 1}, fail)
    assert (first.reused, second.reused) == (False, True)
    assert (second.folder / "weights").read_text() == "abc"


def test_other_inputs_and_other_kinds_are_other_stages(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    keys = {
        stages.once(kind, inputs, write("f", "x")).key
        for kind in ("train", "predict")
        for inputs in ({"seed": 1}, {"seed": 2}, {"seed": 1, "more": None})
    }
    assert len(keys) == 6


def test_the_order_of_inputs_does_not_change_the_key() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


@pytest.mark.parametrize("damage", ["changed", "missing", "cut", "manifest"])
def test_a_damaged_stage_is_computed_again(tmp_path: Path, damage: str) -> None:
    stage = Stages(tmp_path).once("train", {}, write("weights", "abcdef"))
    file = stage.folder / "weights"
    if damage == "changed":
        file.write_text("abcdeX")
    elif damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_text("abc")
    else:
        (stage.folder / MANIFEST).write_text("{")
    said: list[str] = []
    again = Stages(tmp_path, notice=said.append).once("train", {}, write("weights", "abcdef"))
    assert not again.reused
    assert (again.folder / "weights").read_text() == "abcdef"
    assert said == [f"the stage {again.folder} was damaged and is computed again"]


def test_a_changed_bit_in_a_large_file_is_found(tmp_path: Path) -> None:
    def large(folder: Path) -> None:
        with (folder / "maps.u8").open("wb") as stream:
            stream.truncate(70 * 2**20)

    stage = Stages(tmp_path).once("predict", {}, large)
    with (stage.folder / "maps.u8").open("r+b") as stream:
        stream.seek(60 * 2**20)
        stream.write(b"\1")
    assert not Stages(tmp_path).once("predict", {}, large).reused


def test_an_interrupted_stage_is_not_there_and_its_folder_is_offered_again(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "checkpoint").write_text("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).once("train", {}, interrupted)

    def finish(folder: Path) -> None:
        (folder / "weights").write_text((folder / "checkpoint").read_text() + ", done")
        (folder / "checkpoint").unlink()

    stage = Stages(tmp_path).once("train", {}, finish)
    assert sorted(path.name for path in stage.folder.iterdir()) == [MANIFEST, "weights"]
    assert (stage.folder / "weights").read_text() == "half way, done"
    assert set(json.loads((stage.folder / MANIFEST).read_text())["files"]) == {"weights"}


def _append_once(root: Path) -> None:
    def compute(folder: Path) -> None:
        time.sleep(0.3)
        with (root / "computed").open("a") as stream:
            stream.write("x")
        (folder / "f").write_text("x")

    Stages(root).once("train", {}, compute)


def test_two_processes_that_want_one_stage_compute_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_once, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "computed").read_text() == "x"


def test_a_kill_while_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from pathlib import Path\nfrom cryossl.system.files import write_durably\n"
        f"for i in range(10**9): write_durably(Path({str(path)!r}), bytes([i % 256]) * 200_000)"
    )
    for wait in (0.05, 0.1, 0.15):
        process = subprocess.Popen([sys.executable, "-c", program])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert content == content[:1] * 200_000


def test_a_folder_that_cannot_be_written_is_a_storage_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError) as caught:
        Stages(tmp_path / "file").once("train", {}, write("f", "x"))
    assert "\n" not in str(caught.value)


def test_the_size_of_stages_counts_those_that_fit_and_all_unfinished_ones(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    assert stages.size_bytes("predict", lambda _: True) == 0
    for seed in (1, 2):
        stages.once("predict", {"seed": seed}, write("maps", "x" * 1000 * seed))
    assert 2000 <= stages.size_bytes("predict", lambda inputs: inputs.get("seed") == 2) < 3000
    (tmp_path / "predict" / "k.partial").mkdir()
    (tmp_path / "predict" / "k.partial" / "maps").write_text("x" * 5000)
    assert 5000 <= stages.size_bytes("predict", lambda _: False) < 5100


@pytest.mark.parametrize(("fault", "kept"), [(AbandonedError, []), (KeyboardInterrupt, ["half"])])
def test_what_an_abandoned_computation_left_is_removed_and_that_of_another_kept(
    tmp_path, fault, kept
):
    def half(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise fault

    with pytest.raises(fault):
        Stages(tmp_path).once("train", {"seed": 1}, half)
    assert [path.name for path in tmp_path.glob("train/*.partial/*")] == kept


def test_the_stages_of_some_inputs_are_found(tmp_path):
    stages = Stages(tmp_path, code={"predict": "a"})
    made = stages.once("predict", {"train": "t", "weights": "last"}, write("p", "x"))
    stages.once("predict", {"train": "u", "weights": "last"}, write("p", "x"))
    assert stages.keys("predict", lambda inputs: inputs.get("train") == "t") == [made.key]
    assert Stages(tmp_path, code={"predict": "b"}).keys("predict", bool) == []
