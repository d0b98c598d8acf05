"""A whole run with secrets in its address and its environment, then every other command: python -m faults.secrets_planted.

Everything that is left (what was printed, logs, results, journals, the store, the server's files
and its log, the report) is searched for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from light_server import Server

from faults.apart import tell
from faults.whole_runs import NAME, Bench, Place, exit_code, import_everything

ADDRESS = "hunter2-in-the-address"
ENVIRONMENT = {
    name: f"hunter2-in-{name.lower().replace('_', '-')}"
    for name in (
        "MLFLOW_TRACKING_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "PGPASSWORD",
        "WANDB_API_KEY",
        "SSH_KEY",
    )
}
SECRETS = (ADDRESS, *ENVIRONMENT.values())


def hits(folder: Path) -> Iterator[str]:
    """`<file>: <secret>` for each that is found in a file or in its name."""
    for path in sorted(folder.rglob("*")):
        content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        yield from (
            f"{path.relative_to(folder)}: {secret}"
            for secret in SECRETS
            if secret.encode() in content
        )


def commands(place: Place, uri: str) -> list[list[str]]:
    """All that tells of runs or looks after them."""
    store = ["--tracking-uri", uri]
    return [
        ["compare", *store, "--format", "json"],
        ["runs", *store],
        ["report", *store, "--output", "report.html", "--log"],
        ["status", "--results", "results", "--name", NAME, "--json"],
        ["doctor", *store, "--work", "work", "--fix"],
        ["sync", *store, "--work", "work"],
        ["reap", *store, "--work", "work"],
        ["run", *store, "--dry-run", "--data", str(place.folder / "none")],
    ]


def main() -> None:
    folder, shared = Path(sys.argv[1]), Path(sys.argv[2])
    import_everything()
    bench = Bench(folder, shared=shared)
    os.environ.update(ENVIRONMENT)
    server = Server(f"sqlite:///{folder / 'run' / 'mlflow.db'}", folder)
    uri = server.uri.replace("://", f"://somebody:{ADDRESS}@")
    place = bench.place("run", uri=uri)
    codes = {}
    try:
        server.start()
        codes["the run"] = exit_code(place.start())
        for words in commands(place, uri):
            codes[words[0]] = exit_code(place.start(words=words))
        server.kill()
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        for words in commands(place, uri):
            codes[f"{words[0]}, store away"] = exit_code(place.start(words=words))
    finally:
        server.kill()
    searched = sum(path.is_file() for path in folder.rglob("*"))
    tell(
        {
            "codes": codes,
            "files": searched,
            "secrets": len(SECRETS),
            "hits": list(hits(folder)),
            "said": place.said()[-2000:],
        }
    )


if __name__ == "__main__":
    main()
