"""A whole run whose tracking server is away from start to end, then there for `sync`: python -m faults.server_away.

In the long form the same run with a store of its own goes beside it, for the time that the outage costs.
"""

from __future__ import annotations

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
    code, seconds = timed(place)
    calm_seconds = timed(bench.place("calm"))[1] if sys.argv[3:] == ["again"] else bench.seconds
    said = place.said()
    store = ["--tracking-uri", server.uri, "--work", str(place.folder / "work")]
    early = exit_code(place.start(words=["sync", *store]))
    try:
        server.start()
        late = exit_code(place.start(words=["sync", *store]))
    finally:
        server.kill()
    tell({"code": code, "extra_seconds": round(seconds - calm_seconds, 1), "warned": said.count("is away"),
          "lacks": said.count("the tracking store lacks"), "sync": [early, late],
          "wrong": list(differences(bench.calm, place)), "points": len(place.points()), "said": said[-1500:]})


if __name__ == "__main__":
    main()
