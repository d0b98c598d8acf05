"""Where a report comes from: command, tracking store, code and packages."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

from analysis.runs.tracked import TrackedRuns
from cryossl.system.process import code_tags

PACKAGES = (
    "cryossl",
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "torch",
    "segmentation-models-pytorch",
)


@dataclass(frozen=True)
class Origin:
    """When and with which command a report was made, from which store, with which code.

    `tracking_uri` has no password; `experiments` maps run ids to MLflow's experiment ids, for
    links.
    """

    made: str
    command: str
    tracking_uri: str
    experiments: Mapping[str, str]
    commit: str
    versions: Mapping[str, str]


def origin_of(tracked: TrackedRuns, command: str) -> Origin:
    """The origin of a report that `command` makes now from these runs."""
    code, rows = code_tags(), tracked.frame("iteration")
    commit = code.get("mlflow.source.git.commit", "")
    experiments = (
        dict(zip(rows["run_id"], rows["experiment_id"], strict=True))
        if "experiment_id" in rows
        else {}
    )
    versions = {"python": platform.python_version(), **_versions(PACKAGES)}
    return Origin(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command,
        tracked.shown_uri,
        experiments,
        f"commit {commit[:12]}{changes_text(code['cryossl.git_dirty'])}"
        if commit
        else "an unknown commit",
        versions,
    )


def changes_text(dirty: str) -> str:
    """What follows the commit in words; `dirty` is the value of the tag `cryossl.git_dirty`."""
    words = {"true": ", with uncommitted changes", "false": ""}
    return words.get(dirty, ", changes unknown")


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    versions = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
