"""A whole run whose tracking server is away from start to end, then there for `sync`: python -m faults.server_away.

"silent": the server is not away, but takes every connection and says nothing. "again": the same run
with a store of its own goes beside it, for the time that the outage costs.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path

from light_server import Server

from faults.apart import tell
from faults.whole_runs import Bench, Place, differences, exit_code, import_everything


def timed(place: Place) -> tuple[int, float]:
    """Exit code and seconds of a start."""
    began = time.monotonic()
    code = exit_code(place.start())
    return code, time.monotonic() - began


def main() -> None:
    folder, shared = Path(sys.argv[1]), Path(sys.argv[2])
    import_everything()
    bench = Bench(folder, shared=shared)
    server = Server(f"sqlite:///{folder / 'away' / 'mlflow.db'}", folder)
    place = bench.place("away", uri=server.uri)
    store = ["--tracking-uri", server.uri, "--work", str(place.folder / "work")]
    with contextlib.ExitStack() as stack:
        if "silent" in sys.argv[3:]:
            stack.enter_context(
                socket.create_server(("127.0.0.1", server.port), backlog=64)
            )  # nobody accepts
        code, seconds = timed(place)
        said = place.said()
        early = exit_code(place.start(words=["sync", *store]))
    calm_seconds = timed(bench.place("calm"))[1] if "again" in sys.argv[3:] else bench.seconds
    try:
        server.start()
        late = exit_code(place.start(words=["sync", *store]))
    finally:
        server.kill()
    tell(
        {
            "code": code,
            "extra_seconds": round(seconds - calm_seconds, 1),
            "warned": said.count("is away"),
            "lacks": said.count("the tracking store lacks"),
            "sync": [early, late],
            "wrong": list(differences(bench.calm, place)),
            "points": len(place.points()),
            "said": said[-1500:],
        }
    )


if __name__ == "__main__":
    main()
