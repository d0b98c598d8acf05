"""Hashes of the data set's files, and what is remembered of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from cryossl.data.store.file_hashes import hash_files
from cryossl.errors import DataError
from cryossl.progress.events import Progress, silent
from cryossl.system.digest import digest


def settled_file(path: Path, content: bytes) -> Path:
    """A file that has lain still long enough to be remembered."""
    path.write_bytes(content)
    time.sleep(2.1)
    return path


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    hashed = hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    assert hashed[path].sha256 == hashlib.sha256(b"abc").hexdigest()


def test_an_unchanged_file_is_not_read_again_unless_the_memory_has_changed(tmp_path: Path) -> None:
    path = settled_file(tmp_path / "a.jpg", b"abc")
    memory = tmp_path / "hashes.json"
    read = hash_files([path], memory=memory, report=silent)
    files = json.loads(memory.read_text())["files"]
    files[str(path)][0] = "remembered"
    memory.write_text(json.dumps({"sha256": digest(files), "files": files}))
    assert hash_files([path], memory=memory, report=silent)[path].sha256 == "remembered"
    memory.write_text(json.dumps({"sha256": digest({}), "files": files}))
    assert hash_files([path], memory=memory, report=silent) == read


def test_a_file_changed_in_place_with_its_time_put_back_is_read_again(tmp_path: Path) -> None:
    path = settled_file(tmp_path / "a.jpg", b"abc")
    state = path.stat()
    hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    path.write_bytes(b"abd")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    hashed = hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    assert hashed[path].sha256 == hashlib.sha256(b"abd").hexdigest()


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}', '{"x": ["hash", 1]}', "\udcff"])
def test_a_damaged_memory_only_costs_time(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    (tmp_path / "hashes.json").write_bytes(content.encode(errors="surrogateescape"))
    hashed = hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    assert hashed[path].sha256 == hashlib.sha256(b"abc").hexdigest()


def test_what_is_remembered_of_another_data_set_stays(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
    first.write_bytes(b"a")
    settled_file(second, b"b")
    for path in (first, second):
        hash_files([path], memory=tmp_path / "hashes.json", report=silent)
    assert set(json.loads((tmp_path / "hashes.json").read_text())["files"]) == {
        str(first),
        str(second),
    }


def test_progress_is_told_in_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jpg" for index in range(3)]
    for path in paths:
        path.touch()
    events: list[Progress] = []
    hash_files(paths, memory=tmp_path / "hashes.json", report=events.append)
    assert events == [Progress("hash", 3, 3, "file")]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jpg: No such file"):
        hash_files([tmp_path / "nowhere.jpg"], memory=tmp_path / "hashes.json", report=silent)
