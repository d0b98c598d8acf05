"""What the program writes, each as a scene: a folder as it was, the writing, and what a reader finds there afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from small_stores import make_data, make_store, tree

from cryossl.errors import StorageError
from cryossl.network.checkpoints import Checkpoint, load_weights, save_weights
from cryossl.selftraining.records.result_files import write_arm, write_outcome, write_summary
from cryossl.sweep.state import SweepState
from cryossl.system.files import write_durably
from cryossl.system.stages import Stages
from cryossl.tracking.journal import Entry, Journal, Sent


@dataclass(frozen=True)
class Scene:
    """`before` makes the old state, `write` turns it into the new one, `found` is what a reader sees.

    With `stepwise` both are lists and the new one is reached entry by entry, each of them old or
    new, in their order.
    """

    before: Callable[[Path], object]
    write: Callable[[Path], object]
    found: Callable[[Path], Any]
    stepwise: bool = False

    def allowed(self, old: Any, new: Any) -> list[Any]:
        """What may be found after a fault."""
        return [
            old,
            new,
            *([new[:done] + old[done:] for done in range(len(new))] if self.stepwise else []),
        ]


def nothing(_folder: Path) -> None:
    """No old state."""


def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"


def _state(step: int) -> dict[str, Any]:
    return {"step": step, "network": {"weight": torch.full((40, 50), float(step))}}


def _checkpoints(folder: Path) -> None:
    for step in range(3):
        Checkpoint(folder / "c").save(_state(step))


def _loaded(folder: Path) -> Any:
    state = Checkpoint(folder / "c").load()
    if state is None:
        return None
    if not torch.equal(state["network"]["weight"], _state(state["step"])["network"]["weight"]):
        return "a mixture"
    return state["step"]


def _weights(number: float) -> Callable[[Path], object]:
    return lambda folder: save_weights(
        {"w": torch.full((40, 50), number)}, folder / "w" / "last.safetensors"
    )


def _weights_found(folder: Path) -> Any:
    if not (folder / "w" / "last.safetensors").exists():
        return None
    return sorted(set(load_weights(folder / "w" / "last.safetensors")["w"].flatten().tolist()))


def _compute(place: Path) -> None:
    write_durably(place / "first", b"a" * 5000)
    (place / "sub").mkdir(exist_ok=True)
    (place / "sub" / "second").write_bytes(b"b" * 5000)


def _stage(folder: Path) -> None:
    Stages(folder / "stages").once("train", {"seed": 1}, _compute)


def _stage_found(folder: Path) -> Any:
    """Of the stage that is trusted; it is computed where it is not."""
    stage = Stages(folder / "stages").once("train", {"seed": 1}, _compute)
    return [
        content(stage.folder / "first"),
        content(stage.folder / "sub" / "second"),
        sorted(path.name for path in stage.folder.parent.iterdir()),
    ]


POINTS = [Entry("metric", "test/f1", 0.25 * step, step, timestamp_ms=1 + step) for step in range(4)]


def _journalled(folder: Path) -> list[Any]:
    return [(entry.key, entry.value, entry.step) for entry in Journal(folder / "j").entries]


def _append(folder: Path) -> None:
    Journal(folder / "j").append(POINTS)


def _begin(folder: Path) -> None:
    Journal(folder / "j").append([Entry("tag", "old", "1", timestamp_ms=1)])


def _kept(folder: Path) -> Any:
    return content(Journal(folder / "j").artifact("a/file.json"))


def _arm(number: float) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        write_arm(
            folder,
            strategy="naive",
            ratio_percent=5.0,
            seed=0,
            arm={"summary": {"f1": number}, "text": "x" * 3000},
        )
        write_summary(folder, strategy="naive")
        write_outcome(folder, fingerprint=f"f{number}", made_from="m")

    return write


def _filed(folder: Path) -> Any:
    return [
        content(path)
        for path in (
            folder / "naive_pseudolabel_ratio_5.json",
            folder / "naive_pseudolabel_summary.json",
            folder / "finished.json",
        )
    ]


def _store(folder: Path) -> None:
    make_store(make_data(folder / "data"), folder / "stores")


def _stored(folder: Path) -> Any:
    """A store that has its final name is whole; building goes on to the same bytes."""
    made = make_store(make_data(folder / "data"), folder / "stores")
    return {name: hashlib.sha256(each).hexdigest() for name, each in tree(made.folder).items()}


def _ledger(folder: Path) -> None:
    SweepState(folder / "sweep.json").record("b", fingerprint="new", facts={"seed": 1})


def _recorded(folder: Path) -> Any:
    state = SweepState(folder / "sweep.json")
    return [state.fingerprint("a"), state.fingerprint("b")]


SCENES: dict[str, Scene] = {
    "one file": Scene(
        lambda folder: write_durably(folder / "f", b"old"),
        lambda folder: write_durably(folder / "f", b"new" * 4000),
        lambda folder: content(folder / "f"),
    ),
    "checkpoint": Scene(
        _checkpoints, lambda folder: Checkpoint(folder / "c").save(_state(3)), _loaded
    ),
    "first checkpoint": Scene(
        nothing, lambda folder: Checkpoint(folder / "c").save(_state(0)), _loaded
    ),
    "weights": Scene(_weights(1.0), _weights(2.0), _weights_found),
    "stage": Scene(nothing, _stage, _stage_found),
    "journal": Scene(_begin, _append, _journalled, stepwise=True),
    "fresh journal": Scene(nothing, _append, _journalled, stepwise=True),
    "file of a journal": Scene(
        _begin, lambda folder: Journal(folder / "j").keep_file("a/file.json", b"{}" * 3000), _kept
    ),
    "what was sent": Scene(
        _begin,
        lambda folder: Journal(folder / "j").mark_sent("store", Sent("run", 7)),
        lambda folder: Journal(folder / "j").sent("store"),
    ),
    "result files": Scene(_arm(1.0), _arm(2.0), _filed, stepwise=True),
    "state": Scene(
        lambda folder: SweepState(folder / "sweep.json").record("a", fingerprint="old", facts={}),
        _ledger,
        _recorded,
    ),
    "store": Scene(nothing, _store, _stored),
}
CARELESS = {
    "written in place": Scene(
        lambda folder: (folder / "f").write_bytes(b"old"),
        lambda folder: (folder / "f").write_bytes(b"new" * 4000),
        lambda folder: content(folder / "f"),
    )
}
"""What must be found out."""

STORAGE_ERRORS = (StorageError, OSError)
