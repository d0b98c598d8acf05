"""Checkpoints and weights that were damaged in every way a disk or a person can: none is loaded as if nothing had happened."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch
from small_trainings import Stopped, equal, train

from cryossl.errors import StorageError
from cryossl.network.checkpoints import Checkpoint, load_weights, save_weights
from cryossl.system.stages import Stages


def damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, zeroed, moved, grown, emptied, or the content of another file."""
    place, length = rng.randrange(len(content)), rng.randint(1, 5000)
    end = min(len(content), place + length)
    # Without bytes that may be zero or equal already: what is not changed is not damaged.
    flipped = bytes(value ^ rng.randint(1, 255) for value in content[place:end])
    return rng.choice(
        [
            content[:place],
            content[:place]
            + bytes([content[place] ^ 1 << rng.randrange(8)])
            + content[place + 1 :],
            content[:place] + flipped + content[end:],
            content[:place] + content[end:],
            content[:place] + b"x" + content[place:],
            content + bytes(length),
            b"",
            bytes(len(content)) + b"x",
            other,
            rng.randbytes(length),
        ]
    )


def same(first: object, second: object) -> bool:
    """Whether two states are equal, bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and same([*first.items()], [*second.items()])
    if isinstance(first, list | tuple):
        return (
            isinstance(second, list | tuple)
            and len(first) == len(second)
            and all(map(same, first, second))
        )
    return first == second


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """The folder of a training that ended behind its seventh step: the checkpoints of the sixth and the seventh."""

    def stop(progress) -> None:
        if progress.done == 7:
            raise Stopped

    folder = tmp_path_factory.mktemp("training")
    with pytest.raises(Stopped):
        train(folder, checkpoint=Checkpoint(folder, every_seconds=0), report=stop)
    assert len(list(folder.iterdir())) == 2
    return folder


def generations(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


def test_a_damaged_checkpoint_is_never_loaded_and_the_one_before_takes_its_place(
    interrupted, size, note, tmp_path
):
    newest, older = (path.read_bytes() for path in generations(interrupted))
    shutil.copytree(interrupted, tmp_path / "older")
    generations(tmp_path / "older")[0].unlink()
    expected = Checkpoint(tmp_path / "older").load()
    assert expected["state"]["step"] == 6
    cases, silent = size(bounded=200, long=2000), 0
    folder = Path(shutil.copytree(interrupted, tmp_path / "tried"))
    name = generations(folder)[0]
    for case in range(cases):
        name.write_bytes(damaged(newest, older, random.Random(case)))
        silent += not same(Checkpoint(folder).load(), expected)
    note(
        "checkpoint damaged",
        ran=f"{cases:,} ways: cut, flipped, zeroed, moved, grown, emptied, exchanged",
        found=f"{silent} loaded silently, {cases - silent:,} fell back a generation",
        bar="0 silent loads",
    )
    assert silent == 0


@pytest.mark.parametrize("generation", ["newest", "both"])
def test_a_training_whose_checkpoint_was_damaged_ends_with_the_undisturbed_weights(
    interrupted, tmp_path, generation
):
    folder = Path(shutil.copytree(interrupted, tmp_path / "tried"))
    for path in generations(folder)[: 1 if generation == "newest" else 2]:
        path.write_bytes(damaged(path.read_bytes(), b"", random.Random(generation)))
    first_steps: list[int] = []
    resumed = train(folder, report=lambda event: first_steps.append(event.done))
    assert first_steps[0] == (6 if generation == "newest" else 1)
    assert equal(resumed.last, train(tmp_path / "undisturbed").last)


def test_a_checkpoint_of_another_training_stops_with_one_line(interrupted, tmp_path):
    folder = Path(shutil.copytree(interrupted, tmp_path / "tried"))
    with pytest.raises(StorageError, match="belongs to another training; remove its folder"):
        train(folder, learning_rate=1e-4)


def test_damaged_weights_of_a_finished_training_are_made_again(size, note, tmp_path):
    weights = {"kernel": torch.arange(5000.0), "bias": torch.ones(7)}
    cases, silent = size(bounded=100, long=1000), 0

    def compute(folder: Path) -> None:
        save_weights(weights, folder / "last.safetensors")

    stage = Stages(tmp_path).once("train", {"seed": 0}, compute)
    path = stage.folder / "last.safetensors"
    whole = path.read_bytes()
    for case in range(cases):
        path.write_bytes(damaged(whole, b"", random.Random(case)))
        silent += Stages(tmp_path).once("train", {"seed": 0}, compute).reused
        assert equal(load_weights(path), weights)
    note(
        "weights of a finished training damaged",
        ran=f"{cases:,} ways",
        found=f"{silent} used, {cases - silent:,} made again",
        bar="0 silent loads",
    )
    assert silent == 0


def test_a_flipped_bit_in_weights_of_any_size_is_noticed(tmp_path):
    """Large files of a stage are compared by their size alone, but not weights: a flipped bit in them loads silently."""

    def compute(folder: Path) -> None:
        save_weights({"kernel": torch.zeros(17 * 2**20)}, folder / "last.safetensors")

    stage = Stages(tmp_path).once("train", {"seed": 0}, compute)
    with (stage.folder / "last.safetensors").open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\x40")
    assert not Stages(tmp_path).once("train", {"seed": 0}, compute).reused
