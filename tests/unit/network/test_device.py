from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from cryossl.errors import ConfigError
from cryossl.network import device


@pytest.fixture
def process_settings():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = filling


def test_auto_takes_the_best_device_there_is():
    expected = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert device.resolve("auto").type == expected
    assert device.resolve("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused_with_a_cure():
    with pytest.raises(ConfigError, match="cuda is not usable here; use --device auto"):
        device.resolve("cuda")


def test_an_unknown_device_or_precision_is_refused():
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        device.resolve("tpu")
    with pytest.raises(ConfigError, match="unknown precision 'fp8'"):
        device.resolve_precision("fp8", torch.device("cpu"))


def test_precision_on_a_cpu_is_fp32_unless_bf16_is_set():
    cpu = torch.device("cpu")
    assert [device.resolve_precision(setting, cpu) for setting in ("auto", "fp32")] == [
        "fp32",
        "fp32",
    ]
    if device.cpu_has_bf16():
        assert device.resolve_precision("bf16", cpu) == "bf16"
    else:
        with pytest.raises(ConfigError, match=r"this CPU has no bf16.*; use --precision fp32"):
            device.resolve_precision("bf16", cpu)


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists(), reason="needs Linux, whose kernel lists what a CPU can"
)
def test_a_cpu_has_bf16_as_the_kernel_says():
    """oneDNN computes bf16 from AVX-512 on, with or without instructions of its own for it."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    expected = platform.machine() != "x86_64" or "avx512bw" in flags
    assert device.cpu_has_bf16() == expected


def test_prepare_sets_the_threads_and_deterministic_algorithms(process_settings, monkeypatch):
    assert device.prepare(threads=1, device=torch.device("cpu")) == 1
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (
        device.prepare(threads=0, device=torch.device("cpu"))
        == device.usable_cores()
        == torch.get_num_threads()
    )


def test_a_batch_system_s_number_of_threads_holds_unless_one_is_set(process_settings, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert device.prepare(threads=0, device=torch.device("cpu")) == 1
    assert device.prepare(threads=2, device=torch.device("cpu")) == 2


@pytest.mark.parametrize(
    ("text", "count"), [("4", 4), ("4,2", 4), (" 3 ", 3), ("", 0), ("all", 0), ("\u00b2", 0)]
)
def test_of_a_list_in_omp_num_threads_the_first_number_counts(monkeypatch, text, count):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert device.openmp_threads() == count


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**50), lambda: bytearray(2**60)])
def test_what_gets_no_memory_is_told_in_one_line_with_a_cure(ask):
    with (
        pytest.raises(ConfigError, match=r"memory is not enough.*; lower --batch-size") as caught,
        device.enough_memory(),
    ):
        ask()
    assert "\n" not in str(caught.value)


def test_a_fault_of_another_kind_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), device.enough_memory():
        raise RuntimeError("shapes differ")
