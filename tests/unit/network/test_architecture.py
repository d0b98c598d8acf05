from __future__ import annotations

import pytest
import torch

from cryossl.config import NetworkSettings
from cryossl.errors import ConfigError
from cryossl.network.architecture import build, multiple

ARCHITECTURES = ("unet", "unetplusplus", "fpn", "manet", "linknet")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_every_architecture_gives_one_logit_a_pixel_at_every_depth(architecture, depth):
    settings = NetworkSettings(architecture=architecture, encoder_depth=depth, decoder_width=4)
    network = build(settings, seed=0).eval()
    shape = (2, 1, 2 * multiple(settings), 3 * multiple(settings))
    with torch.inference_mode():
        assert network(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_width_of_the_decoder_changes_the_network(architecture):
    narrow, wide = (
        build(NetworkSettings(architecture=architecture, decoder_width=width), seed=0)
        for width in (4, 8)
    )
    assert parameters(narrow) < parameters(wide)


def test_depth_and_encoder_change_the_network():
    base = parameters(build(NetworkSettings(), seed=0))
    assert parameters(build(NetworkSettings(encoder_depth=4), seed=0)) > base
    assert parameters(build(NetworkSettings(encoder="resnet18"), seed=0)) > base


@pytest.mark.parametrize("architecture", ["unet", "linknet"])
def test_initial_weights_depend_on_the_seed_alone(architecture):
    settings = NetworkSettings(architecture=architecture)
    first = build(settings, seed=5).state_dict()
    torch.rand(17)
    again, other = build(settings, seed=5).state_dict(), build(settings, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_generator_of_torch_as_it_was():
    before = torch.random.get_rng_state()
    build(NetworkSettings(), seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("encoder", ["nosuch", "tu-nosuch"])
def test_an_unknown_encoder_is_one_clear_line(encoder):
    with pytest.raises(
        ConfigError, match=f"no encoder '{encoder}'; there are .*resnet34"
    ) as caught:
        build(NetworkSettings(encoder=encoder), seed=0)
    assert "\n" not in str(caught.value)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
