"""A proxy on 127.0.0.1 in front of a real server that answers a share of the requests wrongly, late or not at all."""

from __future__ import annotations

import http.client
import math
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = ("500", "429", "reset", "reset after the work", "cut", "stall")
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


class FaultProxy(ThreadingHTTPServer):
    """Requests go to a port of this machine;

    `share` of them, chosen by the seed, meet a fault of one of the `KINDS`.

    `500`, `429` and `404` never reach the server; `reset` breaks the connection before it does, `reset
    after the work` when the server has done it, `cut` in the middle of the answer; `stall` holds
    the answer back for some seconds. `only` names the end of the paths that are meant, `most` how
    many requests.
    """

    daemon_threads = True

    def __init__(self, target_port: int, *, seed: int, stall_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.target_port, self.stall_seconds = target_port, stall_seconds
        self.share = 0.0
        self.kinds = KINDS
        self.only, self.most = "", math.inf
        self.met: Counter[str] = Counter()
        self.requests = 0
        self._rng, self._lock = random.Random(seed), threading.Lock()

    def fault(self, path: str) -> str | None:
        """What the next request meets."""
        with self._lock:
            self.requests += 1
            meant = (
                path.endswith(self.only)
                and self.met.total() < self.most
                and self._rng.random() < self.share
            )
            kind = self._rng.choice(self.kinds) if meant else None
            if kind:
                self.met[kind] += 1
            return kind

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


@contextmanager
def proxied(target_port: int, *, seed: int = 0, stall_seconds: float = 3.0) -> Iterator[FaultProxy]:
    """A proxy at work."""
    proxy = FaultProxy(target_port, seed=seed, stall_seconds=stall_seconds)
    thread = threading.Thread(
        target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_one_request(self) -> None:
        """As it is, but every method is passed on."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._pass_on()
        self.wfile.flush()

    def log_message(self, *_words: object) -> None:
        """Nothing: tests read what they want to know from the counts."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.server.fault(self.path)
        if kind in ("500", "429", "404"):
            code = b"ENDPOINT_NOT_FOUND" if kind == "404" else b"INTERNAL_ERROR"
            said = b'{"error_code": "%s", "message": "a fault of the test"}' % code
            self._answer(int(kind), said, {})
            return
        if kind == "reset":
            self._break()
            return
        status, headers, content = self._prediction_inputs(body)
        if kind == "stall":
            time.sleep(self.server.stall_seconds)
        if kind == "reset after the work":
            self._break()
            return
        self._answer(status, content, headers, cut=kind == "cut")

    def _prediction_inputs(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=60)
        try:
            sent = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_BY_HOP
            }
            connection.request(self.command, self.path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except OSError:  # the server itself is away
            return 502, {}, b"bad gateway"
        finally:
            connection.close()

    def _answer(
        self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._break()

    def _break(self) -> None:
        """Reset the connection: no farewell, as when a machine is switched off."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
