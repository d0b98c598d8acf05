"""CryoTransformer's public data set: download, resume and unpack its archive.

The address is the one in the README of https://github.com/jianlin-cheng/CryoTransformer (under
"Download training data"): 5,172 train, 534 validation and 486 test micrographs of CryoPPP (Dhakal
et al., Scientific Data 10 (2023) 392). The authors publish no checksum; a user who has one passes
`sha256`.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import Timeout
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from cryossl.data.download.unpack import RESERVE_BYTES, unpack
from cryossl.errors import BusyError, CryosslError, DataError, StorageError, one_line
from cryossl.progress.events import OnProgress, Progress
from cryossl.system.file_lock import FileLock
from cryossl.system.files import file_sha256, filled_aside, write_durably

DEFAULT_URL = "https://calla.rnet.missouri.edu/CryoTransformer/train_val_test_data.tar.gz"

_ANNOTATIONS = "instances_train.json"
_CHUNK_BYTES = 2**20
_TIMEOUT_SECONDS = (10, 60)
_MEGABYTE = 10**6
_UNPACKED_PER_PACKED = 1.1
"""Unpacked size / archive size, at most: the pictures are jpg and hardly shrink when packed."""


@dataclass(frozen=True)
class _Version:
    """The version of an archive on the server, so that parts of two versions are never joined."""

    url: str
    etag: str
    modified: str
    total_bytes: int | None


class _Places:
    """The paths of unfinished files, beside the folder, so that the last step is a rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive, self.version, self.partial, self.lock = (
            folder.with_name(f".{folder.name}.{suffix}")
            for suffix in ("download", "download.json", "partial", "lock")
        )

    def forget_archive(self) -> None:
        self.archive.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def fetch_cryotransformer(
    to: Path, *, url: str, sha256: str | None = None, retries: int = 5, report: OnProgress
) -> Path:
    """Download and unpack the archive into `to`; returns the data root, which has the annotations.

    An interrupted download continues, in this call (up to `retries` times without a new byte) or in
    the next one. A folder that already holds the data set is returned as it is. `to` appears
    complete or not at all.

    Raises DataError if the address is not http(s), the server refuses, the checksum is wrong, the
    archive is unsafe or damaged, or the folder has other content; StorageError without enough
    space; BusyError if another process downloads into the same folder.
    """
    _check_address(url)
    if sha256 is not None and not re.fullmatch(
        "[0-9A-Fa-f]{64}", sha256.strip()
    ):  # else all is fetched, then removed
        raise DataError(f"{sha256!r:.80} is no SHA-256", cure="give its 64 hexadecimal digits")
    places = _Places(to.absolute())
    try:
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(places.lock, timeout=0):
            if to.is_dir() and any(to.iterdir()):
                return _data_root(to)
            _download(places, url, retries=retries, report=report)
            _check_sum(places, sha256)
            _unpack(places, report=report)
            return _data_root(to)
    except Timeout:
        raise BusyError(
            f"another process fetches into {to}", cure="wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot write to {to.absolute().parent}: {error.strerror or error}",
            cure="free some space or choose another folder",
        ) from error


def _check_address(url: str) -> None:
    try:
        wrong = urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname
    except ValueError:
        wrong = True
    if wrong:
        raise DataError(
            f"{url!r} is not an http or https address", cure=f"the default is {DEFAULT_URL}"
        )


def _download(places: _Places, url: str, *, retries: int, report: OnProgress) -> None:
    """Download until the archive is complete.

    A new byte restores all retries. The wait between two retries grows.
    """
    # A server may name an hour or a day in its Retry-After.
    patience = Retry(
        total=retries, backoff_factor=0.2, backoff_max=60, respect_retry_after_header=False
    )
    waiting = patience
    with requests.Session() as session:
        # requests can open nothing but http and https, redirects included; it retries what fails
        # before the first byte.
        adapter = HTTPAdapter(max_retries=patience.new(status_forcelist=(429, 500, 502, 503, 504)))
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        while True:
            before = _size(places.archive)
            try:
                if _download_once(session, places, url, report=report):
                    return
                cause: Exception = HTTPError("the connection ended early")
            except HTTPError as error:
                cause = error
            except requests.RequestException as error:
                raise DataError(
                    f"cannot fetch {url}: {_reason(error)}",
                    cure="check the address and the network, then fetch again",
                ) from error
            if _size(places.archive) > before:
                waiting = patience
            try:
                waiting = waiting.increment("GET", url, error=cause)
            except (MaxRetryError, HTTPError):
                raise DataError(
                    f"the download of {url} broke off after {_size(places.archive) / 1e6:.1f} MB",
                    cure="fetch again: it goes on from there",
                ) from cause
            waiting.sleep()


def _download_once(
    session: requests.Session, places: _Places, url: str, *, report: OnProgress
) -> bool:
    """One request for the missing bytes; True if the archive is complete after it."""
    have, known = _size(places.archive), _read_version(places, url)
    if known is None or not (known.etag or known.modified):
        have = 0
    # The bytes of the archive itself: no compression by the server, no unpacking by requests.
    headers = {"Accept-Encoding": "identity"}
    if have and known is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.etag or known.modified}
    with closing(
        session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    ) as response:
        _check_redirect(url, response.url)
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # Nothing is missing, or the archive changed and is shorter now.
            if known is not None and known.total_bytes == have:
                return True
            places.forget_archive()
            return False
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise requests.HTTPError(f"{response.status_code} {response.reason}")
        goes_on = response.status_code == requests.codes.partial_content
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.HTTPError("the server sent another range than the requested one")
        have = have if goes_on else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        _check_space(places, have, total)
        if not goes_on:
            version = _Version(
                url,
                _strong(response.headers.get("ETag", "")),
                response.headers.get("Last-Modified", ""),
                total,
            )
            places.archive.unlink(missing_ok=True)
            write_durably(places.version, json.dumps(asdict(version)).encode())
        have = _append(response, places.archive, have, total, report=report)
    return total is None or have == total


def _append(
    response: requests.Response, archive: Path, have: int, total: int | None, *, report: OnProgress
) -> int:
    with archive.open("ab") as file:
        for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            have += len(chunk)
            done = have // _MEGABYTE
            report(Progress("download", done, max(done, (total or 0) // _MEGABYTE), "MB"))
    return have


def _check_redirect(requested: str, answered: str) -> None:
    if urlsplit(requested).scheme == "https" and urlsplit(answered).scheme != "https":
        raise DataError(
            f"{requested} leads to {answered}, which is not encrypted",
            cure="give it if you trust it",
        )


def _check_space(places: _Places, have: int, total: int | None) -> None:
    """Raise StorageError without space for both the rest of the archive and its unpacked files."""
    if total is None:
        return
    needed = total - have + int(_UNPACKED_PER_PACKED * total) + RESERVE_BYTES
    free = shutil.disk_usage(places.archive.parent).free
    if needed > free:
        raise StorageError(
            f"not enough space in {places.archive.parent}: download and unpacking need "
            f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            cure="free some space or choose another folder",
        )


def _check_sum(places: _Places, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = file_sha256(places.archive)
    if found != sha256.strip().lower():
        places.forget_archive()
        raise DataError(
            f"the archive's sha256 is {found}, not {sha256}; it has been removed",
            cure="check the checksum, then fetch again",
        )


def _unpack(places: _Places, *, report: OnProgress) -> None:
    try:
        with filled_aside(places.folder, partial=places.partial, resume=False) as partial:
            unpack(places.archive, partial, report=report)
            _data_root(partial)
    except CryosslError as error:
        shutil.rmtree(places.partial, ignore_errors=True)
        if isinstance(error, DataError):
            places.forget_archive()
        raise
    places.forget_archive()


def _data_root(folder: Path) -> Path:
    """The folder at or below `folder` that holds the train annotations.

    They are in `annotations/` or beside the pictures.
    """
    found = sorted(folder.rglob(_ANNOTATIONS), key=lambda path: (len(path.parts), path))
    if not found:
        raise DataError(
            f"{folder} holds no {_ANNOTATIONS}", cure="choose an empty folder or another address"
        )
    parent = found[0].parent
    return parent.parent if parent.name == "annotations" else parent


def _read_version(places: _Places, url: str) -> _Version | None:
    try:
        version = _Version(**json.loads(places.version.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return version if version.url == url else None


def _strong(etag: str) -> str:
    """The ETag if it is strong: a weak one does not guarantee equal bytes (RFC 9110, 13.1.5)."""
    return "" if etag.startswith("W/") else etag


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: requests.RequestException) -> str:
    text = one_line(error)
    return text if len(text) <= 200 else f"{text[:197]}..."
