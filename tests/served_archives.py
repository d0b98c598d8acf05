"""Archives of a small data set, and a real server on the loopback address that gives them, well or badly."""

from __future__ import annotations

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

NOISE = np.random.default_rng(0).bytes(2_500_000)
FILES = {
    "train_val_test_data/annotations/instances_train.json": b"{}",
    "train_val_test_data/train/10005_a.jpg": NOISE,
}


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
        body = self.site.payload[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header(
                "Content-Range",
                f"bytes {start}-{len(self.site.payload) - 1}/{len(self.site.payload)}",
            )
        self.send_header("ETag", self.site.etag)
        self.send_header("Content-Length", str(self.site.claimed_bytes or len(body)))
        self.end_headers()
        self.wfile.write(body[: self.site.cut_after.pop(0)] if self.site.cut_after else body)

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
