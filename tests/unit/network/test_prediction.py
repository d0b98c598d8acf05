from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cryossl.config import NetworkSettings
from cryossl.data.tiling import Tile, tile_grid
from cryossl.errors import NumericError
from cryossl.network.architecture import build
from cryossl.network.augment import z_scores
from cryossl.network.prediction import predict
from cryossl.progress.events import silent

CPU = torch.device("cpu")


class Shelf:
    """Pictures in memory; remembers which were read."""

    tile_px = 16

    def __init__(self, sizes: dict[str, tuple[int, int]]) -> None:
        self.pictures = {
            name: np.random.default_rng(index).integers(0, 256, size, np.uint8)
            for index, (name, size) in enumerate(sizes.items())
        }
        self.read: list[str] = []

    def picture(self, micrograph: str) -> np.ndarray:
        self.read.append(micrograph)
        return self.pictures[micrograph]

    def tiles(self, item: str) -> tuple[Tile, ...]:
        height_px, width_px = self.pictures[item].shape
        return tile_grid(
            micrograph=item, height_px=height_px, width_px=width_px, tile_px=self.tile_px
        )


class Brightness(nn.Module):
    """A network whose logit is the pixel's z score."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures


SHELF = {"a": (40, 33), "b": (16, 16), "c": (9, 50), "d": (5, 7)}


def maps(network, shelf, ids, *, batch_size=4, report=silent, precision="fp32"):
    return dict(
        predict(
            network,
            shelf,
            ids,
            batch_size=batch_size,
            device=CPU,
            precision=precision,
            report=report,
        )
    )


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_pixel_is_predicted_once_and_lies_where_it_was(batch_size):
    shelf = Shelf(SHELF)
    found = maps(Brightness(), shelf, list(SHELF), batch_size=batch_size)
    assert list(found) == list(SHELF)
    for name, picture in shelf.pictures.items():
        expected = np.rint(255 / (1 + np.exp(-(picture / 25.5 - 5)))).astype(int)
        assert found[name].shape == picture.shape
        assert (
            np.abs(found[name].astype(int) - expected).max() <= 1
        )  # rounding of fp32 against fp64


def test_a_map_does_not_depend_on_what_else_is_predicted_nor_on_the_order():
    network = build(NetworkSettings(decoder_width=4), seed=0)
    together = maps(network, Shelf(SHELF), list(SHELF))
    reverse = maps(network, Shelf(SHELF), list(reversed(SHELF)))
    for name in SHELF:
        alone = maps(network, Shelf(SHELF), [name])[name]
        np.testing.assert_array_equal(together[name], alone)
        np.testing.assert_array_equal(reverse[name], alone)


def test_the_map_of_one_tile_is_the_networks_own_output():
    network, shelf = build(NetworkSettings(decoder_width=4), seed=0).eval(), Shelf({"b": (16, 16)})
    with torch.inference_mode():
        logits = network(z_scores(torch.from_numpy(shelf.pictures["b"])[None, None]))
    found = maps(network, shelf, ["b"], batch_size=1)["b"].astype(int)
    expected = np.rint(255 * torch.sigmoid(logits)[0, 0].numpy().astype(float)).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert len(np.unique(expected)) > 3


def test_bf16_is_close_to_fp32_and_not_the_same():
    network, shelf = build(NetworkSettings(decoder_width=4), seed=0), Shelf(SHELF)
    full, short = (
        maps(network, shelf, ["a"], precision=precision)["a"].astype(int)
        for precision in ("fp32", "bf16")
    )
    assert 0 < np.abs(full - short).max() < 16


def test_maps_stream_so_that_pictures_are_opened_as_they_are_needed():
    shelf = Shelf({f"m{index}": (16, 16) for index in range(50)})
    stream = predict(
        Brightness(),
        shelf,
        list(shelf.pictures),
        batch_size=2,
        device=CPU,
        precision="fp32",
        report=silent,
    )
    first, _ = next(stream)
    assert first == "m0"
    assert len(set(shelf.read)) <= 4


def test_progress_counts_micrographs():
    events = []
    maps(Brightness(), Shelf(SHELF), list(SHELF), report=events.append)
    assert [(event.phase, event.done, event.total) for event in events] == [
        ("predict", n, 4) for n in (1, 2, 3, 4)
    ]


def test_no_micrographs_give_no_maps():
    assert maps(Brightness(), Shelf(SHELF), []) == {}


def test_the_network_is_in_evaluation_mode_meanwhile_and_as_it_was_afterwards():
    network = build(NetworkSettings(decoder_width=4), seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for _ in predict(
        network, Shelf(SHELF), ["a"], batch_size=2, device=CPU, precision="fp32", report=silent
    ):
        assert not network.training
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_that_is_not_finite_is_refused():
    class Broken(nn.Module):
        def forward(self, pictures):
            return pictures / 0 - pictures / 0

    with pytest.raises(NumericError, match="not finite for a tile of c"):
        maps(Broken(), Shelf(SHELF), ["c"])
