"""cryossl.system.file_lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout
from other_user import as_user, needs_another_user

from cryossl.system.file_lock import FileLock, owner, shared_as

PROJECT = Path(__file__).resolve().parents[3]
SHARED_GROUP, FIRST, SECOND = 54321, 54322, 54323
TAKE = """
import os, sys
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
os.umask(0o022)
from cryossl.errors import StorageError
from cryossl.system.file_lock import FileLock
try:
    with FileLock(folder / name, timeout=0):
        print("held")
except StorageError as error:
    print(error)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def taken(user: int, folder: Path) -> str:
    done = subprocess.run(
        [*as_user(user, group=SHARED_GROUP), sys.executable, "-c", TAKE, str(folder), "a.lock"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@needs_another_user
@pytest.mark.parametrize("mode", [0o2770, 0o770], ids=["setgid", "without setgid"])
def test_users_of_a_shared_folder_take_each_others_locks(mode: int, shared: Path) -> None:
    os.chown(shared, FIRST, SHARED_GROUP)
    shared.chmod(mode)
    assert [taken(FIRST, shared), taken(SECOND, shared)] == ["held\n", "held\n"]
    found = (shared / "a.lock").stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o660, SHARED_GROUP)


@needs_another_user
def test_a_lock_that_cannot_be_opened_is_named_with_its_owner(shared: Path) -> None:
    shared.chmod(0o777)
    lock = shared / "a.lock"
    lock.touch(mode=0o644)
    os.chown(lock, FIRST, FIRST)
    said = taken(SECOND, shared)
    assert said.startswith(f"the lock file {lock} of user {FIRST} cannot be opened: Permission")
    assert f"`chmod -R g+rwX {shared}`" in said


@needs_another_user
def test_a_folder_in_which_no_lock_can_be_made_is_named_with_its_owner(shared: Path) -> None:
    shared.chmod(0o755)
    said = taken(SECOND, shared)
    assert said.startswith(f"no lock file can be made in {shared} of root: Permission denied; ")


def test_a_private_folder_has_private_locks(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with FileLock(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(Timeout):
            FileLock(tmp_path / "a.lock", timeout=0).acquire()
    assert owner(tmp_path) == Path.home().owner()


@pytest.mark.parametrize(("mode", "made"), [(0o770, 0o775), (0o755, 0o755), (0o700, 0o755)])
def test_a_group_may_do_with_new_files_what_it_may_do_in_the_shared_folder(
    mode: int, made: int, shared: Path
) -> None:
    shared.chmod(mode)
    before = os.umask(0o022)
    try:
        with shared_as(shared):
            (shared / "new").mkdir()
        (shared / "later").mkdir()
        assert (shared / "new").stat().st_mode & 0o777 == made
        assert (shared / "later").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
