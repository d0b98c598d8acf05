"""Trainings that are killed with SIGKILL at random moments until they are done.

Run as a program this file is the victim: it imports torch once and forks a real training for each
folder that it reads from standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

STEPS = 48
RUNS = 3
LEAST_KILLS = 5  # a run; the undisturbed duration is the measure of the intervals
MOST_KILLS = 80


class Victim:
    """A process that forks trainings."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, folder: Path, kind: str) -> int:
        """Process id of a training of this kind that has begun."""
        return int(self._send(f"{kind} {folder}"))

    def wait(self) -> int:
        """Exit code of the training; minus the signal that ended it."""
        return int(self._send("wait"))

    def _send(self, line: str) -> str:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield Victim(process)
        process.stdin.close()


def results(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes()
        for name in ("last.safetensors", "best.safetensors", "history.json")
    }


def reported(folder: Path) -> set[str]:
    """The records with which `on_epoch` was called, over all attempts."""
    return set((folder / "records.jsonl").read_text().splitlines())


@pytest.mark.parametrize(("kind", "runs"), [("supervised", RUNS), ("consistency", 2)])
def test_a_training_killed_at_random_moments_ends_as_the_undisturbed_one_bit_for_bit(
    victim, tmp_path, kind, runs
):
    calm = tmp_path / "calm"
    began = time.perf_counter()
    victim.start(calm, kind)
    assert victim.wait() == 0
    duration_seconds = time.perf_counter() - began
    expected, expected_records = results(calm), reported(calm)
    assert len(expected_records) == len(json.loads(expected["history.json"])["epochs"]) > 3

    all_kills = 0
    for run in range(runs):
        rng = random.Random(run)
        folder = tmp_path / f"run-{run}"
        kills = finished = 0
        while not finished and kills < MOST_KILLS:
            process_id = victim.start(folder, kind)
            # The first kills come before it can be done; later ones leave more and more time, lest
            # it never is.
            latest = 0.4 + 0.1 * max(0, kills - LEAST_KILLS)
            time.sleep(rng.uniform(0.1, latest) * duration_seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
            code = victim.wait()
            assert code in (0, -signal.SIGKILL)
            finished = code == 0
            kills += not finished
        assert finished
        all_kills += kills
        assert results(folder) == expected
        assert reported(folder) == expected_records
        assert (
            len(list((folder / "checkpoint").iterdir())) <= 3
        )  # two generations, one torn temporary file at most
    assert (
        all_kills >= LEAST_KILLS - 2
    )  # of all runs: on a busy machine a single one may be done before its second kill


def serve() -> None:
    """Fork a training for each kind and folder named on standard input; `wait` waits for it."""
    # the parent imports all there is to import, and computes nothing: a fork is then safe and quick
    import torch

    import cryossl.network.architecture
    import cryossl.network.training  # noqa: F401

    torch.set_num_threads(1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    child = 0
    for line in sys.stdin:
        if line.strip() == "wait":
            status = os.waitpid(child, 0)[1]
            answer = os.waitstatus_to_exitcode(status)
        else:
            child = answer = os.fork()
            if not child:
                code = 1
                try:
                    kind, _, folder = line.strip().partition(" ")
                    train(Path(folder), online=kind == "consistency")
                    code = 0
                finally:
                    os._exit(code)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def train(folder: Path, *, online: bool) -> None:
    """A small network with BatchNorm and dropout; a checkpoint at every third step or so; results in files.

    `online`: half of the tiles are unlabelled, and learned from the network's own average.
    """
    import torch

    from cryossl.config import NetworkSettings
    from cryossl.data.tiling import Tile
    from cryossl.network.architecture import build
    from cryossl.network.batches import Example, MixedBatches, Sampling, TileBatches
    from cryossl.network.checkpoints import Checkpoint, save_weights
    from cryossl.network.objectives.online_teacher import OnlineTeacher
    from cryossl.network.training import Hyperparameters, fit
    from cryossl.progress.events import silent
    from cryossl.pseudolabels.recipe import Consistency

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    examples = [
        Example(
            Tile(f"m{index}", 0, 0, (0, 32, 0, 32)),
            rng.integers(0, 256, (32, 32), np.uint8),
            rng.integers(0, 2, (32, 32), np.uint8),
        )
        for index in range(10)
    ]
    network = build(NetworkSettings(architecture="fpn", decoder_width=4), seed=0)

    def append(record) -> None:
        with (folder / "records.jsonl").open("a") as stream:
            stream.write(
                json.dumps([record.epoch, record.step, record.loss, record.validation_f1]) + "\n"
            )

    order = {"tile_px": 32, "seed": 0, "purpose": "train", "iteration": 0}
    batches = (
        MixedBatches(examples[:5], examples[5:], Sampling(batch_size=4, **order), steps=STEPS)
        if online
        else TileBatches(examples, Sampling(batch_size=2, **order))
    )
    objective = (
        OnlineTeacher(
            seed=0,
            iteration=0,
            loss="weighted",
            priors={},
            prior=0.3,
            settings=Consistency(
                background_threshold=0.5, particle_range=(0.5, 0.9), paste=True, match_prior=True
            ),
        )
        if online
        else None
    )
    fitted = fit(
        network,
        batches,
        Hyperparameters(
            steps=STEPS,
            learning_rate=1e-2,
            weight_decay=1e-2,
            seed=0,
            iteration=0,
            precision="fp32",
            validations=5,
        ),
        objective=objective,
        device=torch.device("cpu"),
        checkpoint=Checkpoint(folder / "checkpoint", every_seconds=0.05),
        validate=lambda model: float(next(model.parameters()).sum().abs() % 1),
        report=silent,
        on_epoch=append,
    )
    save_weights(fitted.last, folder / "last.safetensors")
    save_weights(fitted.best, folder / "best.safetensors")
    epochs = [
        [record.epoch, record.step, record.loss, record.learning_rate, record.validation_f1]
        for record in fitted.history
    ]
    (folder / "history.json").write_text(
        json.dumps({"epochs": epochs, "best": [fitted.best_step, fitted.best_f1]})
    )


if __name__ == "__main__":
    serve()
