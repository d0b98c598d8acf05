from __future__ import annotations

import os
import resource
import signal

import pytest
import torch

from cryossl.errors import StorageError
from cryossl.network.checkpoints import Checkpoint, load_weights, save_weights


def state(step: int) -> dict:
    return {
        "step": step,
        "rate": 0.1 * step,
        "name": "x",
        "none": None,
        "list": [1, {"loss": 0.5}],
        "network": {"weight": torch.full((3, 2), float(step)).to(torch.float32)},
    }


def same(first: dict, second: dict) -> bool:
    return torch.equal(first["network"]["weight"], second["network"]["weight"]) and {
        **first,
        "network": 0,
    } == {**second, "network": 0}


def newest(folder):
    return sorted(folder.glob("checkpoint-*.pt"))[-1]


def test_without_a_file_there_is_no_state(tmp_path):
    assert Checkpoint(tmp_path / "absent").load() is None


def test_what_is_saved_last_is_loaded_and_two_generations_are_kept(tmp_path):
    for step in range(5):
        Checkpoint(tmp_path).save(state(step))
        assert same(Checkpoint(tmp_path).load(), state(step))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_passed_over_for_the_generation_before(tmp_path, damage):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state(1))
    checkpoint.save(state(2))
    path = newest(tmp_path)
    content = path.read_bytes()
    places = (
        range(0, len(content), max(1, len(content) // 60))
        if damage == "flip"
        else [len(content) // 2]
    )
    for place in places:
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes({"flip": flipped, "cut": content[:place], "empty": b""}[damage])
        assert same(checkpoint.load(), state(1))


def test_two_damaged_generations_are_no_state_and_the_next_save_is_found(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state(1))
    checkpoint.save(state(2))
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert checkpoint.load() is None
    checkpoint.save(state(3))
    assert same(checkpoint.load(), state(3))


def test_temporary_files_of_a_killed_writer_are_removed(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state(1))
    (tmp_path / f".{newest(tmp_path).name}.tmp").write_bytes(b"torn")
    assert same(checkpoint.load(), state(1))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_may_not_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    Checkpoint(tmp_path / "c").save({"evil": Evil()})
    with pytest.raises(StorageError, match="is no checkpoint"):
        Checkpoint(tmp_path / "c").load()
    assert not (tmp_path / "run").exists()


def test_a_save_is_due_after_the_interval(tmp_path):
    assert Checkpoint(tmp_path, every_seconds=0).due()
    assert not Checkpoint(tmp_path, every_seconds=3600).due()


def test_no_space_for_a_new_checkpoint_leaves_the_last_one_intact(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state(1))
    limits, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            StorageError, match=r"a checkpoint of \d+ bytes in .*the last checkpoint is intact"
        ):
            checkpoint.save(state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert same(checkpoint.load(), state(1))


def test_a_folder_that_cannot_be_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write a checkpoint"):
        Checkpoint(tmp_path / "file" / "folder").save(state(1))


def test_discarding_leaves_an_empty_folder(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state(1))
    checkpoint.save(state(2))
    checkpoint.discard()
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.load() is None
    Checkpoint(tmp_path / "absent").discard()


def test_weights_come_back_bit_for_bit_also_when_laid_out_channels_last(tmp_path):
    weights = {
        "convolution": torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "half": torch.randn(3).to(torch.bfloat16),
    }
    save_weights(weights, tmp_path / "deep" / "model.safetensors")
    found = load_weights(tmp_path / "deep" / "model.safetensors")
    assert set(found) == set(weights)
    assert all(
        torch.equal(found[name], weights[name]) and found[name].dtype == weights[name].dtype
        for name in weights
    )


def test_weights_that_are_not_there_or_cut_short_are_storage_errors(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        load_weights(tmp_path / "absent.safetensors")
    save_weights({"a": torch.ones(10)}, tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StorageError, match="not a whole safetensors file"):
        load_weights(path)
