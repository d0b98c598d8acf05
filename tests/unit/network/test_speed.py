"""Speed on this machine, and the choice of CPU threads that is made once."""

from __future__ import annotations

import json

import pytest
import torch
from small_stores import dataset, make_store

from cryossl.config import Config
from cryossl.config_file import build
from cryossl.network.speed import (
    choose_threads,
    fewest_threads,
    measure_speed,
    step_seconds_by_threads,
    trial_step_seconds,
)

__all__ = ["dataset"]

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
    memory.write_text(json.dumps({name: 3 - min(first, 2)}))
    again = choose_threads(small(), tile_px=32, device=CPU, memory=memory)
    assert again == 3 - min(first, 2)
    for damaged in ("two", 999_999, 0, None, True):
        memory.write_text(json.dumps({name: damaged}))
        again = choose_threads(small(), tile_px=32, device=CPU, memory=memory)
        assert 1 <= again <= 64
        assert json.loads(memory.read_text())[name] == again


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({1: 128, 2: 95}, 2),
        ({1: 215, 2: 202}, 1),
        ({1: 165, 2: 2822}, 1),
        ({1: 800, 2: 420, 4: 230, 8: 215, 16: 220}, 4),
        ({1: 100}, 1),
    ],
)
def test_more_threads_are_chosen_only_where_they_are_clearly_faster(milliseconds, chosen):
    assert fewest_threads(milliseconds) == chosen


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
def test_numbers_of_threads_are_timed_in_turns(threads_restored, most, counts):
    used = []
    found = step_seconds_by_threads(lambda: used.append(torch.get_num_threads()), most=most)
    assert list(found) == counts
    one_turn = [count for count in counts for _ in range(2)]  # the first warms up
    assert used == one_turn * (len(used) // len(one_turn))
    assert len(used) > len(one_turn)


def test_cells_of_a_sweep_choose_among_the_cores_that_each_of_them_has(
    tmp_path, threads_restored, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    memory = tmp_path / "threads.json"
    assert choose_threads(small(), tile_px=32, device=CPU, memory=memory, most=1) == 1
    assert choose_threads(small(), tile_px=32, device=CPU, memory=memory, most=2) in (1, 2)
    (name,) = json.loads(memory.read_text())
    assert name.endswith("2 cores")


def test_a_trial_of_real_steps_measures_their_time_and_leaves_nothing_behind(tmp_path, dataset):
    store = make_store(dataset, tmp_path / "store")
    labelled = [item for item, one in store.micrographs.items() if one.particle_count]
    before, folder = torch.get_rng_state(), sorted(tmp_path.rglob("*"))
    seconds = trial_step_seconds(small(), store, labelled[:1], device=CPU, precision="fp32")
    assert 0 < seconds < 10
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(tmp_path.rglob("*")) == folder
