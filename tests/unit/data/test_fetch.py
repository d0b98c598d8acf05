"""Downloads from a real server on the loopback address: resumed, cut short, refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from served_archives import FILES, NOISE, Site, leftovers, tar_of
from typed_commands import call

from cryossl.data.download.fetch import DEFAULT_URL, fetch_cryotransformer
from cryossl.errors import BusyError, CryosslError, DataError, StorageError
from cryossl.progress.events import Progress, silent


def test_the_default_address_is_encrypted() -> None:
    assert DEFAULT_URL.startswith("https://")


def test_an_archive_is_unpacked_and_its_data_root_returned(site: Site, tmp_path: Path) -> None:
    site.payload = tar_of(FILES)
    root = fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert root == tmp_path / "data" / "train_val_test_data"
    assert (root / "train" / "10005_a.jpg").read_bytes() == NOISE
    assert leftovers(tmp_path) == ["data"]


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


def test_an_archive_that_changed_meanwhile_is_fetched_from_its_start(
    site: Site, tmp_path: Path
) -> None:
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


def test_a_complete_download_without_its_folder_is_only_unpacked(
    site: Site, tmp_path: Path
) -> None:
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
    with pytest.raises(
        DataError, match=r"cannot fetch http://127\.0\.0\.1:9/data\.tar\.gz"
    ) as caught:
        fetch_cryotransformer(tmp_path / "data", url=nowhere, retries=0, report=silent)
    assert "\n" not in str(caught.value)
    assert site.asked == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/etc/passwd", "http://", "http://[", ""]
)
def test_an_address_that_is_not_http_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not an http or https address"):
        fetch_cryotransformer(tmp_path / "data", url=url, report=silent)


def test_an_empty_address_is_not_the_default_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(
        "https_proxy", "http://127.0.0.1:9"
    )  # the default one must not be asked, whatever this test finds
    done = call("data", "fetch", "cryotransformer", "--to", str(tmp_path / "data"), "--url", "")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'' is not an http or https address" in done.err


def test_a_redirect_to_a_file_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.redirect = "file:///etc/passwd"
    with pytest.raises(DataError):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert leftovers(tmp_path) == []


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_fetched(
    site: Site, tmp_path: Path
) -> None:
    site.payload, site.claimed_bytes = b"x", 10**16
    with pytest.raises(StorageError, match="not enough space"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, report=silent)
    assert leftovers(tmp_path) == []


def test_a_matching_checksum_passes_and_another_removes_the_archive(
    site: Site, tmp_path: Path
) -> None:
    site.payload = tar_of(FILES)
    right = hashlib.sha256(site.payload).hexdigest()
    with pytest.raises(DataError, match="has been removed"):
        fetch_cryotransformer(tmp_path / "data", url=site.url, sha256="0" * 64, report=silent)
    assert leftovers(tmp_path) == []
    fetch_cryotransformer(tmp_path / "data", url=site.url, sha256=right.upper(), report=silent)


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


def test_what_is_no_checksum_is_refused_before_anything_is_fetched(tmp_path):
    with pytest.raises(DataError, match="no SHA-256"):
        fetch_cryotransformer(
            tmp_path / "data", url="http://127.0.0.1:1/x", sha256="0" * 63, report=silent
        )
