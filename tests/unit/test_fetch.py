"""Downloads from a real server on the loopback address: resumed, cut short, refused, hostile."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cryossl.errors import BusyError, CryosslError, DataError, StorageError
from cryossl.fetch import DEFAULT_URL, fetch_cryotransformer
from cryossl.progress import Progress, silent


@dataclass
class Site:
    """What the server gives, how it misbehaves, and what it was asked."""

    payload: bytes = b""
    etag: str = '"one"'
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    claimed_bytes: int | None = None
    redirect: str | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Gives what its site says. A subclass has the site."""

    site: Site

    def do_GET(self) -> None:
        self.site.asked.append(self.headers.get("Range", ""))
        if self.site.statuses:
            self.send_error(self.site.statuses.pop(0))
        elif self.site.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._give(self._start())

    def _give(self, start: int | None) -> None:
        if start is not None and start >= len(self.site.payload):
            self.send_error(416)
            return
        body = self.site.payload[start or 0:]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(self.site.payload) - 1}/{len(self.site.payload)}")
        self.send_header("ETag", self.site.etag)
        self.send_header("Content-Length", str(self.site.claimed_bytes or len(body)))
        self.end_headers()
        self.wfile.write(body[:self.site.cut_after.pop(0)] if self.site.cut_after else body)

    def _start(self) -> int | None:
        asked = self.headers.get("Range")
        if asked is None or not self.site.ranges or self.headers.get("If-Range") != self.site.etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, for one test."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_address[1]}/data.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


NOISE = np.random.default_rng(0).bytes(2_500_000)
FILES = {
    "train_val_test_data/annotations/instances_train.json": b"{}",
    "train_val_test_data/train/10005_a.jpg": NOISE,
}


def tar_of(files: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """A tar archive with these files, then these members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return stream.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A tar member of a kind, e.g. a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(files: dict[str, bytes], *, link: bool = False) -> bytes:
    """A zip archive; `link` marks its last member as a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            if link and name == list(files)[-1]:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(info, content)
    return stream.getvalue()


def leftovers(folder: Path) -> list[str]:
    """What lies in a folder besides the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_default_address_is_encrypted() -> None:
    assert DEFAULT_URL.startswith("https://")


def test_an_archive_is_unpacked_and_its_data_root_returned(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert root == tmp_path / "data" / "train_val_test_data"
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE
    assert leftovers(tmp_path) == ["data"]


@pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
def test_other_packings_of_tar_are_unpacked_as_well(site: Site, tmp_path: Path, mode: str) -> None:
    site.payload = tar_of(FILES, mode=mode)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_zip_archive_is_unpacked_as_well(site: Site, tmp_path: Path) -> None:
    site.payload = zip_of(FILES)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_data_set_that_is_there_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    first = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent) == first
    assert len(site.asked) == 1


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    site.cut_after = [1_000_000, 500_000]
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE
    assert site.asked == ["", "bytes=1000000-", "bytes=1500000-"]


def test_a_fetch_that_was_given_up_goes_on_in_the_next_call(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    site.cut_after = [1_000_000, 0]
    with pytest.raises(DataError, match=r"broke off after 1\.0 MB; fetch again"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, retries=0, report=silent)
    assert not (tmp_path / "data").exists()
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE
    assert site.asked[-1] == "bytes=1000000-"


def test_an_archive_that_changed_meanwhile_is_fetched_from_its_start(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of({**FILES, "train_val_test_data/train/10005_a.jpg": NOISE[::-1]})
    site.cut_after = [1_000_000, 0]
    with pytest.raises(DataError):
        fetch_cryotransformer(tmp_path / "data", url=site.url, retries=0, report=silent)
    site.payload, site.etag, site.cut_after = tar_of(FILES), '"two"', []
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_server_that_knows_no_ranges_is_asked_from_the_start(site: Site, tmp_path: Path) -> None:
    site.payload, site.ranges, site.cut_after = tar_of(FILES), False, [1_000_000]
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE


def test_a_weak_etag_does_not_vouch_for_a_resumed_download(site: Site, tmp_path: Path) -> None:
    site.payload, site.etag, site.cut_after = tar_of(FILES), 'W/"one"', [1_000_000]
    fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert site.asked == ["", ""]


def test_a_complete_download_without_its_folder_is_only_unpacked(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)

    def power_cut(event: Progress) -> None:
        if event.phase == "unpack":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=power_cut)
    assert not (tmp_path / "data").exists()
    fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert site.asked == ["", f"bytes={len(site.payload)}-"]


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.payload, site.statuses = tar_of(FILES), [503, 503]
    fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert len(site.asked) == 3


def test_a_missing_archive_is_one_clear_line(site: Site, tmp_path: Path) -> None:
    site.statuses = [404]
    with pytest.raises(DataError, match="404 Not Found; check the address") as caught:
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_clear_line(site: Site, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/data.tar.gz"
    with pytest.raises(DataError, match=r"cannot fetch http://127\.0\.0\.1:9/data\.tar\.gz") as caught:
        fetch_cryotransformer(tmp_path / "data", url=nowhere, retries=0, report=silent)
    assert "\n" not in str(caught.value)
    assert site.asked == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/etc/passwd", "http://", "http://[", ""])
def test_an_address_that_is_not_http_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not an http or https address"):
        fetch_cryotransformer(tmp_path / "data", url=url, report=silent)


def test_a_redirect_to_a_file_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.redirect = "file:///etc/passwd"
    with pytest.raises(DataError):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert leftovers(tmp_path) == []


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_fetched(site: Site, tmp_path: Path) -> None:
    site.payload, site.claimed_bytes = b"x", 10**16
    with pytest.raises(StorageError, match="not enough space"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert leftovers(tmp_path) == []


def test_a_member_larger_than_the_disk_is_refused(site: Site, tmp_path: Path) -> None:
    huge = member("train_val_test_data/huge.bin", tarfile.REGTYPE)
    huge.size = 10**15
    site.payload = huge.tobuf(format=tarfile.GNU_FORMAT) + bytes(20 * 512)
    with pytest.raises(StorageError, match="not enough space to unpack"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert not (tmp_path / "data").exists()


def test_a_matching_checksum_passes_and_another_removes_the_archive(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    right = hashlib.sha256(site.payload).hexdigest()
    with pytest.raises(DataError, match="has been removed"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, sha256="0" * 64, report=silent)
    assert leftovers(tmp_path) == []
    fetch_cryotransformer(tmp_path / "data", url=site.url, sha256=right.upper(), report=silent)


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
def test_a_hostile_archive_is_refused_and_leaves_nothing(site: Site, tmp_path: Path, what: str) -> None:
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
    "a flipped byte": (lambda whole: whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])(tar_of(FILES)),
    "a damaged header in a plain tar": tar_of({"a/instances_train.json": b"{}", "b": b"x"}, mode="w").replace(
        b"b\0\0\0\0", b"c\0\0\0\0"),
    "no annotations": tar_of({"notes.txt": b"x"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_archive_is_one_clear_line_and_leaves_nothing(site: Site, tmp_path: Path, what: str) -> None:
    site.payload = BROKEN[what]
    with pytest.raises(DataError) as caught:
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_folder_with_other_content_is_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds no instances_train\.json"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert (tmp_path / "data" / "thesis.tex").read_text() == "years of work"
    assert site.asked == []


def test_two_fetches_into_one_folder_do_not_mix(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    seen: list[CryosslError] = []

    def second(event: Progress) -> None:
        if event.phase == "unpack" and not seen:
            with pytest.raises(BusyError, match="another process fetches into") as caught:
                fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
            seen.append(caught.value)

    fetch_cryotransformer(tmp_path / "data", url=site.url, report=second)
    assert len(seen) == 1


def test_progress_is_told_in_megabytes_up_to_the_total(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    events: list[Progress] = []
    fetch_cryotransformer(tmp_path / "data", url=site.url, report=events.append)
    for phase in ("download", "unpack"):
        told = [(event.done, event.total) for event in events if event.phase == phase]
        assert told == sorted(told)
        assert told[-1] == (2, 2)
