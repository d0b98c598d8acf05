"""Which code computes each kind of stage, and which code a work folder's stages were made with.

The code that computes tracked numbers from stages, without being one, is the kind `result`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cryossl.system.code_digest import code_digest
from cryossl.system.digest import digest
from cryossl.system.files import write_durably

_PREDICTION = (
    "cryossl.network.architecture",
    "cryossl.network.calibration",
    "cryossl.network.prediction",
    "cryossl.selftraining.models",
)
SOURCES: Mapping[str, tuple[str, ...]] = {
    "store": ("cryossl.data.store.store",),
    "train": (
        *_PREDICTION,
        "cryossl.evaluation.metrics",
        "cryossl.network.examples",
        "cryossl.network.objectives",
        "cryossl.network.training",
        "cryossl.pseudolabels.priors",
        "cryossl.selftraining.steps",
    ),
    "predict": (*_PREDICTION, "cryossl.pseudolabels.pool"),
    "select": ("cryossl.pseudolabels.pool", "cryossl.selftraining.steps"),
    "calibrate": (*_PREDICTION, "cryossl.evaluation.metrics"),
    "evaluate": (*_PREDICTION, "cryossl.evaluation.metrics", "cryossl.evaluation.picking"),
    "result": (
        "cryossl.data.splits",
        "cryossl.evaluation.scores",
        "cryossl.pseudolabels.strategies",
        "cryossl.selftraining.acceptance",
        "cryossl.selftraining.arms",
        "cryossl.selftraining.loop",
    ),
}
"""Kind of stage -> the modules that compute it; what these import is found by `code_digest`."""


@dataclass(frozen=True)
class StageCode:
    """The code that stages are keyed by, and the code that runs; each as kind -> digest.

    They differ only where stages of other code are kept.
    """

    digests: Mapping[str, str]
    present: Mapping[str, str]

    def remember(self, file: Path) -> None:
        """Note in a work folder that stages are made with this code, unless other code is kept.

        Raises OSError.
        """
        if not self.keeps_other_code and _read(file) != self.present:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                write_durably(file, json.dumps(dict(self.present), indent=1).encode())

    @property
    def keeps_other_code(self) -> bool:
        """Whether stages of other code are reused."""
        return self.digests != self.present

    @property
    def name(self) -> str:
        """Digest of all code that stages are keyed by, 12 hex digits."""
        return _name(self.digests)

    @property
    def present_name(self) -> str:
        """Digest of the code that runs, 12 hex digits."""
        return _name(self.present)


def stage_code(file: Path, *, keep: bool) -> StageCode:
    """The code that the stages of a work folder are keyed by.

    Args:
        file: where the work folder remembers the code of its newest stages.
        keep: take the remembered code in place of the present one, so that its stages are reused.
            Without a readable file it is the present code all the same.
    """
    present = {kind: code_digest(modules) for kind, modules in SOURCES.items()}
    return StageCode((_read(file) if keep else {}) or present, present)


def _read(file: Path) -> dict[str, str]:
    """The remembered digests; empty if there are none, or if they are of other kinds of stages."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and found.keys() == SOURCES.keys()
    return {str(kind): str(one) for kind, one in found.items()} if whole else {}


def _name(digests: Mapping[str, str]) -> str:
    return digest(dict(digests))[:12]
