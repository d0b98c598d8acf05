"""GPUs shared by processes, as a function of what is visible; no GPU is needed."""

from __future__ import annotations

import os

import pytest

from cryossl.commands.options import config_of
from cryossl.errors import ConfigError
from cryossl.system.gpus import Gpu, environment_of, shared, single, visible_gpus

GIB = 2**30
PRESENT = [(Gpu(str(number), 24 * GIB), f"GPU-{number}f3a-11") for number in range(3)]


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        ({}, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, ["2", "0"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1f3a,MIG-x"}, ["GPU-1f3a", "MIG-x"]),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),
    ],
)
def test_a_process_sees_what_its_environment_names(ours, names):
    assert [gpu.name for gpu in visible_gpus(ours, PRESENT)] == names


def test_the_memory_of_a_card_is_known_by_number_and_by_uuid():
    ours = {"CUDA_VISIBLE_DEVICES": "1,GPU-2f,MIG-x,GPU-fake"}
    memory = [gpu.memory_bytes for gpu in visible_gpus(ours, PRESENT)]
    assert memory == [24 * GIB, 24 * GIB, None, None]


@pytest.mark.parametrize(
    ("memory", "count", "gib_each", "places"),
    [
        ([24, 24], 1, 5, "0"),
        ([24, 24], 2, 5, "01"),
        ([24, 24], 5, 5, "01010"),
        ([24, 24], 99, 5, "01010101"),
        ([24, 80], 9, 10, "0101111111"),
        ([24, 24], 4, 30, "01"),
        ([None, None], 5, 30, "01010"),
        ([], 3, 1, ""),
    ],
)
def test_cards_are_shared_evenly_and_no_fuller_than_memory_allows(memory, count, gib_each, places):
    gpus = [
        Gpu(str(number), None if gib is None else gib * GIB) for number, gib in enumerate(memory)
    ]
    found = shared(gpus, count=count, bytes_each=gib_each * GIB)
    assert "".join(gpu.name for gpu in found) == places[:count]


def test_a_process_of_one_gpu_sees_no_other_and_counts_as_nvidia_smi_does():
    assert environment_of(Gpu("1"), {}) == {
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    for ours in ({"CUDA_VISIBLE_DEVICES": "1,2"}, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}):
        assert environment_of(Gpu("1"), ours) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_numbered_device_is_a_visible_one():
    assert single("cuda:2", {}, PRESENT) == environment_of(Gpu("2"), {})
    ours = {"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"}
    assert single("cuda:1", ours, PRESENT) == {"CUDA_VISIBLE_DEVICES": "GPU-a"}
    assert single("cuda", {}, PRESENT) is None
    for setting, present in (("cuda:3", PRESENT), ("cuda:0", [])):
        with pytest.raises(ConfigError, match="GPUs are visible here; count from 0"):
            single(setting, {}, present)


def test_the_option_narrows_what_this_process_sees_and_the_config_says_cuda(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-first,GPU-second")
    config = config_of(None, defaults_yield=False, options={"device": "cuda:1"})
    assert config.training.device == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-second"
    with pytest.raises(ConfigError, match="cuda:7"):
        config_of(None, defaults_yield=False, options={"device": "cuda:7"})
    with pytest.raises(ConfigError):
        config_of(None, defaults_yield=False, options={"device": "cuda:x"})
