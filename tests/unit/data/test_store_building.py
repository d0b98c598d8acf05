"""Building the store: killed at any moment, stopped between batches, wanted by two processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_stores import make_store, many, tree

from cryossl.progress.events import Progress
from cryossl.system.file_lock import shared_as

TESTS = Path(__file__).parents[2]

# Imports once, then forks a builder again and again and kills it. `mode` random: SIGKILL after a
# random while. `mode` writes: the builder dies at its n-th opening, renaming or removing of a file
# of the work folder, for every n.
DRIVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
here, root, work, mode = sys.argv[1:]
sys.path.insert(0, here)
import small_stores as t

def builder(die_at):
    seen = 0
    def count(event, args):
        nonlocal seen
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate") and str(args[0]).startswith(work):
            seen += 1
            if seen == die_at:
                os._exit(137)
    if die_at:
        sys.addaudithook(count)
    t.make_store(t.many(Path(root)), Path(work))

def attempt(die_at=0, wait=None):
    child = os.fork()
    if child == 0:
        try:
            builder(die_at)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def result():
    return {p.name: t.tree(p) for p in Path(work).iterdir() if p.name.startswith("store-") and p.is_dir()}

builder(0)  # here, so that what is imported on first use is there before the forks
reference = result()
shutil.rmtree(work)
begin = time.monotonic()
assert attempt() == 0
whole = time.monotonic() - begin
kills = rounds = 0
rng = random.Random(0)
if mode == "random":
    while kills < 25:
        rounds += 1
        shutil.rmtree(work)
        while (code := attempt(wait=rng.uniform(0, 0.9 * whole))) != 0:
            assert code == -signal.SIGKILL, code
            kills += 1
        assert result() == reference
else:
    code = 137
    while code:
        shutil.rmtree(work)
        code = attempt(die_at=kills + 1)
        assert code in (0, 137), code
        kills += code == 137
        assert attempt() == 0
        assert result() == reference
print(json.dumps({"kills": kills, "rounds": rounds}))
"""


@pytest.mark.parametrize(("mode", "least"), [("random", 25), ("writes", 12)])
def test_a_builder_killed_and_started_again_gives_the_same_bytes(
    tmp_path: Path, mode: str, least: int
) -> None:
    many(tmp_path / "data")
    arguments = [str(TESTS), str(tmp_path / "data"), str(tmp_path / "work"), mode]
    finished = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["kills"] >= least


def test_a_builder_goes_on_at_the_next_batch(tmp_path: Path) -> None:
    dataset = many(tmp_path / "data")

    def stop_after_the_first_batch(event: Progress) -> None:
        if event.phase == "decode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_store(dataset, tmp_path / "work", report=stop_after_the_first_batch)
    events: list[Progress] = []
    make_store(dataset, tmp_path / "work", report=events.append)
    assert [event for event in events if event.phase == "decode"] == [
        Progress("decode", 2, 2, "batch")
    ]


@pytest.mark.parametrize("damage", ["truth", "progress", "empty progress", "other progress"])
def test_what_was_damaged_while_a_store_was_unfinished_is_decoded_again(
    tmp_path: Path, damage: str
) -> None:
    dataset = many(tmp_path / "data")

    def stop(event: Progress) -> None:
        if event.phase == "decode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_store(dataset, tmp_path / "work", report=stop)
    (partial,) = (tmp_path / "work").glob("store-*.partial")
    if damage == "truth":
        content = bytearray((partial / "truth.u8").read_bytes())
        content[:300] = bytes(value ^ 1 for value in content[:300])
        (partial / "truth.u8").write_bytes(content)
    else:
        text = {"progress": '["00', "empty progress": "", "other progress": '{"micrographs": 100}'}
        (partial / "progress.json").write_text(text[damage])
    mended = make_store(dataset, tmp_path / "work")
    assert tree(mended.folder) == tree(make_store(dataset, tmp_path / "calm").folder)


def test_two_processes_that_want_the_same_store_share_it(tmp_path: Path) -> None:
    many(tmp_path / "data")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import small_stores as t; from pathlib "
        "import Path\n"
        "print(t.make_store(t.many(Path(sys.argv[2])), Path(sys.argv[3])).key)"
    )
    arguments = [str(TESTS), str(tmp_path / "data"), str(tmp_path / "work")]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    keys = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(keys) == 1
    assert len([path for path in (tmp_path / "work").glob("store-*") if path.is_dir()]) == 1


@pytest.mark.parametrize(("mode", "made"), [(0o2775, 0o664), (0o755, 0o644)])
def test_a_group_may_continue_an_interrupted_store_in_the_folder_that_it_shares(
    tmp_path: Path, mode: int, made: int
) -> None:
    def stop_decoding(event: Progress) -> None:
        if event.phase == "decode":
            raise KeyboardInterrupt

    dataset = many(tmp_path / "data")
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(mode)
    before = os.umask(0o022)
    try:
        with shared_as(work), pytest.raises(KeyboardInterrupt):
            make_store(dataset, work, report=stop_decoding)
    finally:
        os.umask(before)
    flat = [path for path in work.rglob("*.u8") if path.is_file()]
    assert {path.name for path in flat} == {"pictures.u8", "truth.u8"}
    assert {path.stat().st_mode & 0o777 for path in flat} == {made}
