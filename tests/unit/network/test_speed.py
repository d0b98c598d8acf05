"""Speed on this machine, and the choice of CPU threads that is made once."""

from __future__ import annotations

import json

import pytest
import torch

from cryossl.config import Config
from cryossl.config_file import build
from cryossl.network.speed import choose_threads, measure_speed

CPU = torch.device("cpu")


@pytest.fixture
def threads_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def small(**settings: object) -> Config:
    return build({"decoder_width": 4, "batch_size": 1, **settings})


def test_speed_is_measured_in_seconds_and_leaves_no_gradient_mode_behind():
    step_seconds, tile_seconds = measure_speed(small(), tile_px=32, device=CPU, precision="fp32")
    assert 0 < tile_seconds < 10
    assert 0 < step_seconds < 10
    assert torch.is_grad_enabled()


def test_threads_are_as_set_and_nothing_is_tried(tmp_path, threads_restored):
    assert (
        choose_threads(small(threads=3), tile_px=32, device=CPU, memory=tmp_path / "threads.json")
        == 3
    )
    assert list(tmp_path.iterdir()) == []


def test_threads_that_were_chosen_once_stay_chosen(tmp_path, threads_restored, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    memory = tmp_path / "work" / "threads.json"
    first = choose_threads(small(), tile_px=32, device=CPU, memory=memory)
    assert first >= 1
    if not memory.exists():
        pytest.skip("one core: there is nothing to choose")
    (name,) = json.loads(memory.read_text())
    memory.write_text(json.dumps({name: 77}))
    assert choose_threads(small(), tile_px=32, device=CPU, memory=memory) == 77
