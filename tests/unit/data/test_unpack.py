"""Archives that were fetched: every packing, and the hostile, the broken and the huge."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from served_archives import FILES, NOISE, Site, leftovers, member, tar_of, zip_of

from cryossl.data.download.fetch import fetch_cryotransformer
from cryossl.errors import DataError, StorageError
from cryossl.progress.events import silent


@pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
def test_other_packings_of_tar_are_unpacked_as_well(site: Site, tmp_path: Path, mode: str) -> None:
    site.payload = tar_of(FILES, mode=mode)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_zip_archive_is_unpacked_as_well(site: Site, tmp_path: Path) -> None:
    site.payload = zip_of(FILES)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_member_larger_than_the_disk_is_refused(site: Site, tmp_path: Path) -> None:
    huge = member("train_val_test_data/huge.bin", tarfile.REGTYPE)
    huge.size = 10**15
    site.payload = huge.tobuf(format=tarfile.GNU_FORMAT) + bytes(20 * 512)
    with pytest.raises(StorageError, match="not enough space to unpack"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert not (tmp_path / "data").exists()


HOSTILE = {
    "a name above the folder": tar_of({"../evil": b"x"}),
    "a name above the folder, half-way": tar_of({"a/../../evil": b"x"}),
    "an absolute name": tar_of({"/tmp/cryossl-evil": b"x"}),
    "a drive": tar_of({"C:\\evil": b"x"}),
    "backslashes": tar_of({"a\\..\\..\\evil": b"x"}),
    "a link out": tar_of({}, member("train", tarfile.SYMTYPE, "/etc")),
    "a link inside": tar_of({"b": b"x"}, member("a", tarfile.SYMTYPE, "b")),
    "a hard link": tar_of({}, member("a", tarfile.LNKTYPE, "/etc/passwd")),
    "a pipe": tar_of({}, member("a", tarfile.FIFOTYPE)),
    "a device": tar_of({}, member("a", tarfile.CHRTYPE)),
    "a zip name above the folder": zip_of({"../evil": b"x"}),
    "an absolute zip name": zip_of({"/evil": b"x"}),
    "a zip link": zip_of({"a": b"/etc"}, link=True),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    site: Site, tmp_path: Path, what: str
) -> None:
    site.payload = HOSTILE[what]
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(DataError, match="not safe to unpack") as caught:
        fetch_cryotransformer(inner / "data", url=site.url, report=silent)
    assert "\n" not in str(caught.value)
    assert leftovers(inner) == []
    assert leftovers(tmp_path) == ["inner"]


def test_a_link_cannot_redirect_a_later_member(site: Site, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(member("door", tarfile.SYMTYPE, str(tmp_path)))
        tar.addfile(tarfile.TarInfo("door/evil"))
    site.payload = stream.getvalue()
    with pytest.raises(DataError):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert not (tmp_path / "evil").exists()


BROKEN = {
    "a web page": b"<html>moved</html>" * 100,
    "nothing": b"",
    "a shortened archive": tar_of(FILES)[:-1000],
    "a flipped byte": (lambda whole: whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])(
        tar_of(FILES)
    ),
    "a damaged header in a plain tar": tar_of(
        {"a/instances_train.json": b"{}", "b": b"x"}, mode="w"
    ).replace(b"b\0\0\0\0", b"c\0\0\0\0"),
    "no annotations": tar_of({"notes.txt": b"x"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_archive_is_one_clear_line_and_leaves_nothing(
    site: Site, tmp_path: Path, what: str
) -> None:
    site.payload = BROKEN[what]
    with pytest.raises(DataError) as caught:
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []
