"""What a GPU promises: the CPU's losses to rounding, resumption in fp32, and a clear line when its memory is too small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_trainings import (
    CPU,
    SMALL,
    TILE_PX,
    WITH_DROPOUT,
    examples,
    interrupted_after,
    mixed,
    train,
)

from cryossl.data.tiling import tile_grid
from cryossl.errors import ConfigError, NumericError
from cryossl.network import device as devices
from cryossl.network.architecture import build
from cryossl.network.batches import Sampling, TileBatches
from cryossl.network.checkpoints import Checkpoint
from cryossl.network.objectives.online_teacher import OnlineTeacher
from cryossl.network.objectives.supervised import Supervised
from cryossl.network.prediction import predict
from cryossl.progress.events import silent
from cryossl.pseudolabels.recipe import Consistency

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = torch.device("cuda")
FIRST_WITH_BF16 = (8, 0)  # compute capability


@pytest.fixture(autouse=True)
def no_tf32() -> Iterator[None]:
    """Convolutions in fp32 are fp32: by default cuDNN rounds their inputs to 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


class OneMicrograph:
    """A micrograph of the size of a few tiles, for prediction."""

    tile_px = TILE_PX

    def __init__(self) -> None:
        self._picture = np.random.default_rng(0).integers(0, 256, (150, 170), np.uint8)

    def picture(self, micrograph: str) -> np.ndarray:  # noqa: ARG002 (there is one)
        return self._picture

    def tiles(self, item: str) -> tuple:
        return tile_grid(micrograph=item, height_px=150, width_px=170, tile_px=TILE_PX)


def apart(first, second) -> float:
    """The largest difference of two networks' weights, without BatchNorm's statistics, relative to the largest weight."""
    names = [name for name in first if "running_" not in name and first[name].is_floating_point()]
    return max(float((first[name] - second[name]).abs().max()) for name in names) / max(
        float(first[name].abs().max()) for name in names
    )


def test_auto_takes_the_gpu_and_its_number_format():
    assert devices.resolve("auto") == GPU
    native = torch.cuda.get_device_capability() >= FIRST_WITH_BF16
    assert devices.resolve_precision("auto", GPU) == ("bf16" if native else "fp32")


@pytest.mark.parametrize("noise", [False, True])
def test_a_training_on_the_gpu_follows_the_one_on_the_cpu(tmp_path, noise):
    cpu, gpu = (
        train(
            tmp_path / device.type,
            device=device,
            objective=Supervised(seed=0, iteration=0, noise=noise),
        )
        for device in (CPU, GPU)
    )
    assert [record.loss for record in gpu.history] == pytest.approx(
        [record.loss for record in cpu.history], rel=1e-3
    )
    assert all(tensor.device == CPU for tensor in gpu.last.values())


@pytest.mark.parametrize("settings", [SMALL, WITH_DROPOUT], ids=["plain", "dropout"])
def test_an_interrupted_training_goes_on_and_ends_where_the_undisturbed_one_does(
    tmp_path, settings
):
    calm = train(tmp_path / "calm", settings=settings, device=GPU)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", settings=settings, device=GPU, report=interrupted_after(5))
    resumed = train(tmp_path / "cut", settings=settings, device=GPU)
    assert (
        apart(calm.last, resumed.last) < 3e-4
    )  # a lost optimiser, average or dropout seed: 1e-3 and more on a CPU
    assert len(resumed.history) == len(calm.history)


def test_a_student_of_its_own_average_trains_and_resumes(tmp_path):
    def teacher() -> OnlineTeacher:
        return OnlineTeacher(
            seed=0,
            iteration=0,
            loss="bce_dice",
            settings=Consistency(),
            priors={"a": 0.1, "b": 0.1},
            prior=0.1,
        )

    calm = train(tmp_path / "calm", device=GPU, batches=mixed(steps=12), objective=teacher())
    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path / "cut",
            device=GPU,
            batches=mixed(steps=12),
            objective=teacher(),
            report=interrupted_after(7),
        )
    resumed = train(tmp_path / "cut", device=GPU, batches=mixed(steps=12), objective=teacher())
    assert (
        apart(calm.last, resumed.last) < 3e-4
    )  # a lost optimiser, average or dropout seed: 1e-3 and more on a CPU


@pytest.mark.parametrize("settings", [SMALL, WITH_DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("noise", [False, True])
def test_a_replayed_training_is_that_of_single_launches(tmp_path, settings, noise):
    single, replayed = (
        train(
            tmp_path / str(captured),
            settings=settings,
            device=GPU,
            captured=captured,
            objective=Supervised(seed=0, iteration=0, noise=noise),
        )
        for captured in (False, True)
    )
    assert apart(single.last, replayed.last) < 3e-4
    assert [record.loss for record in replayed.history] == pytest.approx(
        [record.loss for record in single.history], rel=1e-3
    )


def test_a_replayed_training_goes_on_after_an_interruption(tmp_path):
    calm = train(tmp_path / "calm", device=GPU, captured=True)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", device=GPU, captured=True, report=interrupted_after(7))
    resumed = train(tmp_path / "cut", device=GPU, captured=True)
    assert apart(calm.last, resumed.last) < 3e-4


def test_a_replayed_step_leaves_out_an_update_that_is_not_finite(tmp_path):
    tiles = examples(10)
    tiles[3] = replace(tiles[3], weight=float("nan"))
    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    with pytest.raises(NumericError, match="at step"):
        train(tmp_path, steps=60, device=GPU, captured=True, tiles=tiles, checkpoint=checkpoint)
    saved = checkpoint.load()
    assert saved is None or all(torch.isfinite(each).all() for each in saved["network"].values())


def test_page_locked_batches_hold_what_the_others_hold():
    arguments = {"batch_size": 4, "tile_px": TILE_PX, "seed": 0, "purpose": "train", "iteration": 0}
    plain, pinned = (
        TileBatches(examples(10), Sampling(pinned=pinned, **arguments)).batch(3)
        for pinned in (False, True)
    )
    assert pinned.pictures.is_pinned()
    assert torch.equal(plain.pictures, pinned.pictures)
    assert torch.equal(plain.labels, pinned.labels)


@pytest.mark.parametrize(("precision", "bytes_apart"), [("fp32", 2), ("bf16", 12)])
def test_probabilities_on_the_gpu_are_those_of_the_cpu(precision, bytes_apart):
    network, shelf = build(SMALL, seed=0), OneMicrograph()
    expected, found = (
        dict(
            predict(
                network, shelf, ["a"], batch_size=4, device=device, precision=number, report=silent
            )
        )["a"]
        for device, number in ((CPU, "fp32"), (GPU, precision))
    )
    assert np.abs(expected.astype(int) - found.astype(int)).max() <= bytes_apart
    assert np.ptp(expected) > 20  # the maps say something


def test_too_little_memory_is_one_line(tmp_path):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(ConfigError, match="the memory is not enough"), devices.enough_memory():
            train(
                tmp_path,
                device=GPU,
                checkpoint=Checkpoint(tmp_path),
                batches=TileBatches(
                    examples(256),
                    Sampling(batch_size=256, tile_px=TILE_PX, seed=0, purpose="train", iteration=0),
                ),
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
