"""Which code computes each kind of stage, and which code a work folder was used with.

The code that computes tracked numbers from stages, without being one, is the kind `result`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryossl.errors import StorageError
from cryossl.system.code_digest import code_digest
from cryossl.system.digest import digest
from cryossl.system.file_lock import FileLock
from cryossl.system.files import write_durably
from cryossl.system.stages import Code

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
        "cryossl.network.objectives.averaged",
        "cryossl.network.objectives.online_teacher",
        "cryossl.network.objectives.supervised",
        "cryossl.network.training",
        "cryossl.pseudolabels.priors",
        "cryossl.selftraining.steps",
        "cryossl.selftraining.training_stage",
    ),
    "predict": (*_PREDICTION, "cryossl.pseudolabels.pool"),
    "select": ("cryossl.pseudolabels.pool", "cryossl.selftraining.steps"),
    "calibrate": (*_PREDICTION, "cryossl.evaluation.metrics"),
    "evaluate": (*_PREDICTION, "cryossl.evaluation.metrics", "cryossl.evaluation.picking"),
    "result": (
        "cryossl.data.splits",
        "cryossl.evaluation.scores",
        "cryossl.evaluation.scorings",
        "cryossl.evaluation.verdict",
        "cryossl.pseudolabels.strategies",
        "cryossl.selftraining.acceptance",
        "cryossl.selftraining.arms",
        "cryossl.selftraining.loop",
    ),
}
"""Kind of stage -> the modules that compute it; what these import is found by `code_digest`."""


MOST_REMEMBERED = 20


@dataclass(frozen=True)
class StageCode:
    """The code that runs, and other code whose stages may be reused, each as kind -> digest.

    Attributes:
        present: the code that runs.
        kept: other code, the newest first; empty unless stages are kept.
        last: the code that the work folder was used with last, None if there was none.
    """

    present: Code
    kept: tuple[Code, ...] = ()
    last: Code | None = None

    @property
    def name(self) -> str:
        """Digest of the code that runs, 12 hex digits."""
        return name_of(self.present)

    def said(self, *, keep: bool) -> str:
        """What a user should know before stages are computed; empty if there is nothing."""
        if self.kept:
            names = ", ".join(map(name_of, self.kept))
            return f"⚠ keep_stages: finished stages of other code are reused ({names})"
        if keep:
            return "keep_stages: no stages of other code are remembered in the work folder"
        if self.last is not None and self.last != self.present:
            return (
                f"The code has changed since the last start here ({name_of(self.last)}, now "
                f"{self.name}): stages are computed anew; `--keep-stages true` reuses old ones"
            )
        return ""

    def remember(self, file: Path) -> None:
        """Note in a work folder that stages are made with this code. Raises StorageError."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                versions = [code for code in _read(file) if code != self.present]
                versions = [*versions, dict(self.present)][-MOST_REMEMBERED:]
                write_durably(file, json.dumps(versions, indent=1).encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {file}: {error.strerror or error}",
                cure="check its permissions, or choose another folder with --work",
            ) from None


def stage_code(file: Path, *, keep: bool) -> StageCode:
    """The code of this start.

    Args:
        file: where the work folder remembers the code that it was used with.
        keep: whether stages of that other code are reused.
    """
    present, versions = present_code(), _read(file)
    others = tuple(code for code in reversed(versions) if code != present)
    return StageCode(present, others if keep else (), versions[-1] if versions else None)


def present_code() -> Code:
    """Kind -> digest of the code that runs."""
    return {kind: code_digest(modules) for kind, modules in SOURCES.items()}


def name_of(code: Code) -> str:
    """Digest of all kinds, 12 hex digits."""
    return digest(dict(code))[:12]


def _read(file: Path) -> list[dict[str, str]]:
    """The remembered code, the oldest first; what is damaged is left out."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [code for code in found if _is_code(code)] if isinstance(found, list) else []


def _is_code(code: object) -> bool:
    return isinstance(code, dict) and all(
        isinstance(one, str) and re.fullmatch(r"[0-9a-f]{16}", one) for one in code.values()
    )
